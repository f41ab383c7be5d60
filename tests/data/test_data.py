import gzip
import struct

import numpy as np
import pytest

from cnnpy import data
from cnnpy.transforms import Normalize


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("name", ["a.idx", "a.idx.gz"])
def test_idx_round_trip(tmp_path, dtype, name, rng):
    array = rng.integers(0, 100, (3, 4, 5)).astype(dtype)
    data.write_idx(tmp_path / name, array)
    back = data.read_idx(tmp_path / name)
    assert back.dtype == array.dtype and np.array_equal(back, array) and back.flags.writeable
    assert [p.name for p in tmp_path.iterdir()] == [name]


def idx(shape, body, code=8):
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + body


BAD = {
    "empty": b"",
    "text": b"hello, world",
    "short header": idx((2, 3), b"")[:7],
    "truncated": idx((2, 3), b"12345"),
    "too long": idx((2, 3), b"1234567"),
    "lying header": idx((2**31, 2**31), b"12"),
    "unknown dtype": idx((2,), b"12", code=7),
    "no axes": bytes([0, 0, 8, 0]),
    "cut gzip": gzip.compress(idx((2, 3), b"123456"))[:-9],
    "damaged gzip": gzip.compress(idx((20, 3), bytes(range(60))))[:30] + b"\0" * 20,
    "gzip bomb": gzip.compress(idx((1 << 16, 1 << 16), bytes(1 << 20))),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_idx_is_one_sentence(tmp_path, kind):
    path = tmp_path / "bad"
    path.write_bytes(BAD[kind])
    with pytest.raises(ValueError, match=r"read_idx: .*bad") as e:
        data.read_idx(path)
    assert "\n" not in str(e.value)


def test_random_damage_never_does_worse_than_one_sentence(tmp_path, rng, budget):
    good = gzip.compress(idx((4, 6), bytes(range(24))), mtime=0)
    count = budget(300, 20_000, 500_000)
    for i in range(count):
        broken = bytearray(good[: rng.integers(1, len(good) + 1)] if i % 2 else good)
        for _ in range(rng.integers(1, 4)):
            broken[rng.integers(len(broken))] = rng.integers(256)
        (tmp_path / "x").write_bytes(broken)
        try:
            assert data.read_idx(tmp_path / "x").nbytes < 1 << 20
        except ValueError as error:
            assert "read_idx" in str(error)
    print(f"idx: {count} damaged files")


def test_mnist_folder(tmp_path, rng):
    with pytest.raises(ValueError, match="is not a folder"):
        data.mnist(tmp_path / "none")
    with pytest.raises(ValueError, match="lacks train-images"):
        data.mnist(tmp_path)
    data.write_idx(tmp_path / "train-images-idx3-ubyte.gz", rng.integers(0, 255, (5, 28, 28)).astype(np.uint8))
    data.write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(4, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"images of shape \(5, 28, 28\) and labels of shape \(4,\)"):
        data.mnist(tmp_path)
    data.write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(5, dtype=np.uint8))
    loaded = data.mnist(tmp_path)
    assert loaded.x.shape == (5, 1, 28, 28) and list(loaded.y) == [0, 1, 2, 3, 4] and loaded.y.dtype == np.int64
    with pytest.raises(ValueError, match="part is 'x'"):
        data.mnist(tmp_path, "x")


def test_real_mnist(shared):
    test = data.mnist(shared / "mnist", "test")
    assert len(test) == 10_000 and list(test.y[:5]) == [7, 2, 1, 0, 4] and test.x.dtype == np.uint8


def test_digits_and_shapes():
    train, test = data.digits("train"), data.digits("test")
    assert len(train) + len(test) == 1797 and len(test) == 359 and train.x.shape[1:] == (1, 28, 28)
    assert set(train.y) == set(range(10)) and train.x.max() == 255
    a, b = data.shapes(40, rng=1), data.shapes(40, rng=1)
    assert np.array_equal(a.x, b.x) and set(a.y) == {0, 1, 2, 3} and not np.array_equal(a.x, data.shapes(40, rng=2).x)


def test_shapes_are_what_they_are_called():
    """A circle fills pi/4 of its bounding square, a square all of it, a triangle half, a cross 1 - 0.7^2: on large pictures to a few parts in a hundred."""
    found = data.shapes(40, size=120, rng=1)
    assert found.x.shape == (40, 1, 120, 120) and list(found.classes) == ["circle", "square", "triangle", "cross"]
    assert np.bincount(found.y).tolist() == [10] * 4
    for image, kind in zip(found.x[:, 0], found.y, strict=True):
        inside = image > 90
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert inside.sum() / box == pytest.approx([np.pi / 4, 1, 0.5, 0.51][kind], abs=0.05), found.classes[kind]
    with pytest.raises(ValueError, match="shapes: size is 11, expected at least 12"):
        data.shapes(3, size=11)
    assert data.shapes(3, size=12).x.shape == (3, 1, 12, 12)


def test_digits_have_ten_classes():
    pytest.importorskip("sklearn", reason="scikit-learn comes with the digits extra")
    found = data.digits("test")
    assert found.classes == [str(c) for c in range(10)] and set(found.y) == set(range(10)) and found.x.shape[1:] == (1, 28, 28)


def test_split_is_a_partition():
    whole = data.ArrayDataset(np.arange(101)[:, None], np.arange(101))
    parts = data.split(whole, [0.7, 0.2, 0.1], rng=3)
    assert [len(p) for p in parts] == [71, 20, 10]
    assert sorted(np.concatenate([p.y for p in parts])) == list(range(101))
    with pytest.raises(ValueError, match="sum to at most 1"):
        data.split(whole, [0.9, 0.2])
    with pytest.raises(ValueError, match="x has 3 samples and y 2"):
        data.ArrayDataset(np.ones(3), np.ones(2))


@pytest.mark.parametrize("workers", [0, 3])
def test_loader_order_resumes(workers):
    whole = data.ArrayDataset(np.arange(50), np.arange(50))
    make = lambda: data.DataLoader(whole, 8, shuffle=True, rng=4, workers=workers, transform=lambda x, r: x + r.integers(1000))  # noqa: E731
    loader = make()
    epochs = [[x.tolist() for x, _ in loader] for _ in range(2)]
    assert epochs[0] != epochs[1] and len(epochs[0]) == len(loader) == 7
    again = make()
    first = iter(again)
    seen = [next(first)[0].tolist() for _ in range(3)]
    state = again.state_dict()
    first.close()
    other = make()
    other.load_state_dict(state)
    assert seen + [x.tolist() for x, _ in other] == epochs[0]
    assert [x.tolist() for x, _ in other] == epochs[1]
    assert len(data.DataLoader(whole, 8, drop_last=True)) == 6


def test_loader_bad_options_and_failing_data():
    with pytest.raises(TypeError, match="DataLoader: batch_size is float"):
        data.DataLoader([], 1.5)
    with pytest.raises(ValueError, match="DataLoader: batch_size is 0"):
        data.DataLoader([], 0)

    class Broken:
        def __len__(self):
            return 40

        def __getitem__(self, index):
            raise OSError("the disk is gone")

    for workers in (0, 2):
        with pytest.raises(OSError, match="the disk is gone"):
            list(data.DataLoader(Broken(), 4, workers=workers))


def test_normalize():
    x = np.array([[[[0, 10]], [[20, 40]]]], np.uint8)
    y = Normalize([5, 30], [5, 10])(x)
    assert y.dtype == np.float32 and np.array_equal(y, [[[[-1, 1]], [[-1, 1]]]])
    with pytest.raises(ValueError, match="std"):
        Normalize(0, 0)
