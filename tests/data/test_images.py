"""CIFAR in its formats, image folders, and files that are damaged or hostile."""

import codecs
import io
import pickle
import zipfile

import numpy as np
import pytest

from cnnpy import data

Image = pytest.importorskip("PIL.Image", reason="pillow comes with the train extra")


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (7, 3, 32, 32), np.uint8)


def binary(folder, x, y, name, prefix=b""):
    rows = [prefix + bytes([label]) + image.tobytes() for image, label in zip(x, y, strict=True)]
    (folder / name).write_bytes(b"".join(rows))


def test_cifar_binary(pixels, tmp_path):
    y = [3, 0, 9, 1, 1, 2, 5]
    for i in range(1, 6):
        binary(tmp_path, pixels, y, f"data_batch_{i}.bin")
    binary(tmp_path, pixels, y, "test_batch.bin")
    train, test = data.cifar10(tmp_path), data.cifar10(tmp_path, "test")
    assert len(train) == 35 and train.classes[9] == "truck" and test.x.dtype == np.uint8 and test.y.tolist() == y
    np.testing.assert_array_equal(test.x, pixels)
    np.testing.assert_array_equal(train.x[7:14], pixels)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(ValueError, match=r"cifar: .* lacks data_batch_3.bin"):
        data.cifar10(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"\x01" * 3074)
    with pytest.raises(ValueError, match="has 3074 bytes, expected a multiple of 3073"):
        data.cifar10(tmp_path, "test")
    binary(tmp_path, pixels[:1], [77], "test_batch.bin")
    with pytest.raises(ValueError, match="holds label 77 at position 0, expected 0 to 9"):
        data.cifar10(tmp_path, "test")
    binary(tmp_path, pixels, [b % 100 for b in y], "test.bin", prefix=b"\x05")
    assert data.cifar100(tmp_path, "test").y.tolist() == y


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar_python_batches(pixels, tmp_path, protocol):
    y = [3, 0, 9, 1, 1, 2, 5]
    batch = {b"data": pixels.reshape(7, -1), b"labels": y, b"batch_label": b"testing batch 1 of 1", b"filenames": [b"a.png"] * 7}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol=protocol))
    found = data.cifar10(tmp_path, "test")
    np.testing.assert_array_equal(found.x, pixels)
    assert found.y.tolist() == y


class Trap:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.marker}",)


def test_a_pickle_that_would_run_code_runs_none(pixels, tmp_path):
    marker = tmp_path / "ran"
    path = tmp_path / "test_batch"
    path.write_bytes(pickle.dumps({b"data": Trap(marker), b"labels": [0]}))
    with pytest.raises(ValueError, match=r"cifar: .* is no batch of images: it asks for posix.system"):
        data.cifar10(tmp_path, "test")
    assert not marker.exists()
    good = pickle.dumps({b"data": pixels.reshape(7, -1), b"labels": [0] * 7}, protocol=2)
    generator = np.random.default_rng(0)
    for cut in range(0, len(good), 997):  # cut short, and with bytes changed: one sentence or a data set, nothing else
        path.write_bytes(good[:cut])
        with pytest.raises(ValueError, match="cifar"):
            data.cifar10(tmp_path, "test")
        mutated = bytearray(good)
        for at in generator.integers(0, 300, 4):
            mutated[at] = generator.integers(256)
        path.write_bytes(bytes(mutated))
        try:
            assert data.cifar10(tmp_path, "test").x.shape[1:] == (3, 32, 32)
        except ValueError as error:
            assert "cifar" in str(error)
    for wrong in (
        {b"data": pixels.reshape(7, -1).astype(object), b"labels": [0] * 7},
        {b"data": 3, b"labels": [0]},
        {b"labels": [0]},
        [1, 2],
    ):
        path.write_bytes(pickle.dumps(wrong, protocol=2))
        with pytest.raises(ValueError, match="cifar"):
            data.cifar10(tmp_path, "test")


def test_numbers_of_a_pickles_objects(pixels, tmp_path):
    """From one on, as Python 2 wrote them, they are read; one far beyond the count of objects would cost 16 GB, and is refused."""
    path, first = tmp_path / "test_batch", b"q\x00"
    good = pickle.dumps({b"data": pixels.reshape(7, -1), b"labels": [0] * 7}, protocol=2)
    assert good.startswith(b"\x80\x02}" + first)
    path.write_bytes(b"}q\x01" + good[5:])
    assert data.cifar10(tmp_path, "test").x.shape == (7, 3, 32, 32)
    path.write_bytes(good.replace(first, b"r\x00\x00\x00\x40", 1))
    with pytest.raises(ValueError, match=r"cifar: .* is no batch of images: it gives an object the number 1073741824 after 2 steps"):
        data.cifar10(tmp_path, "test")


class Persistent:
    """Pickled by its number in another file."""


def persistent(tree):
    file = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return 7 if isinstance(obj, Persistent) else None

    Pickler(file, protocol=2).dump(tree)
    return file.getvalue()


class Encoded:
    def __reduce__(self):
        return codecs.encode, ("ab", "utf-16")


def test_batches_that_are_something_else(pixels, tmp_path):
    rows, path = pixels.reshape(7, -1), tmp_path / "test_batch"
    for content, sentence in (
        (persistent({b"data": Persistent(), b"labels": [0]}), "it asks for a persistent object"),
        (pickle.dumps({b"data": Encoded(), b"labels": [0]}, protocol=2), "it holds bytes in an unknown form"),
        (
            pickle.dumps({b"data": rows[:, :9], b"labels": [0] * 7}, protocol=2),
            r"an array of shape \(7, 9\) and dtype b?'?u1'?, expected \(N, 3072\)",
        ),
        (pickle.dumps({b"data": rows, b"labels": "0123456"}, protocol=2), "labels that are no list of integers"),
        (pickle.dumps({b"data": rows, b"labels": [0.5] * 7}, protocol=2), "labels that are no list of integers"),
        (pickle.dumps({b"data": rows, b"labels": [0] * 6}, protocol=2), "has 7 images and 6 labels, expected as many"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=sentence):
            data.cifar10(tmp_path, "test")
    with pytest.raises(ValueError, match=r"cifar100: .* is not a folder"):
        data.cifar100(path)


def test_zip_files_that_are_something_else(tmp_path):
    path = tmp_path / "images.zip"
    for name, content, sentence in (
        ("readme", b"hello", "holds no images under train/CLASS/"),
        ("train/cat/a.jpg", bytes(1 << 21), "holds an image file of 2097152 bytes, expected small ones"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)
        with pytest.raises(ValueError, match=sentence):
            data.cifar10(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train/cat/a.jpg", b"x" * 999)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"x" * 999, b"x" * 998 + b"y"))
    with pytest.raises(ValueError, match=r"cifar10: .* is damaged: Bad CRC-32"):
        data.cifar10(path)
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no images under train/CLASS/"):
        data.cifar10(tmp_path / "empty")


@pytest.fixture
def tree(tmp_path, pixels):
    for part in ("train", "test"):
        for i, name in enumerate(("cat", "ant")):
            folder = tmp_path / "set" / part / name
            folder.mkdir(parents=True)
            for j in range(2):
                Image.fromarray(pixels[2 * i + j].transpose(1, 2, 0)).save(folder / f"{j}.png")
    return tmp_path / "set"


def test_class_folders_and_zip(tree, pixels, tmp_path):
    found = data.cifar10(tree)
    assert found.classes == ["ant", "cat"] and found.y.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(found.x, pixels[[2, 3, 0, 1]])
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(tree.rglob("*.png")):
            file.write(path, path.relative_to(tree))
    np.testing.assert_array_equal(data.cifar10(archive, "test").x, found.x)
    raw = archive.read_bytes()
    archive.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ValueError, match="cifar10"):
        data.cifar10(archive)
    for call, text in [
        (lambda: data.cifar10(tmp_path / "nothing"), "does not exist"),
        (lambda: data.cifar10(tmp_path), "holds neither CIFAR-10's batches nor train/CLASS/ folders"),
        (lambda: data.cifar10(tree, "all"), "part is 'all'"),
        (lambda: data.cifar100(tree), "lacks train.bin"),
    ]:
        with pytest.raises(ValueError, match=text):
            call()


def test_image_folder(tree, pixels):
    found = data.ImageFolder(tree / "train", size=32)
    assert len(found) == 4 and found.classes == ["ant", "cat"] and "4 images of 2 classes" in repr(found)
    x, y = found[np.array([3, 0])]
    np.testing.assert_array_equal(x, pixels[[1, 2]])
    assert y.tolist() == [1, 0] and found[1][0].shape == (3, 32, 32) and len(found.subset([0, 2])) == 2
    assert found.load().x.shape == (4, 3, 32, 32)
    loader = data.DataLoader(found, 3, workers=2)
    assert [b[0].shape[0] for b in loader] == [3, 1]
    assert data.ImageFolder(tree / "train", size=(8, 16))[[0]][0].shape == (1, 3, 8, 16)
    (tree / "train" / "cat" / "0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"ImageFolder: .*0.png is not a readable image"):
        found[np.arange(4)]
    with pytest.raises(ValueError, match="holds no images in class folders"):
        data.ImageFolder(tree)


@pytest.mark.shared
def test_the_real_cifar10(shared):
    test = data.cifar10(shared / "cifar10-jpg.zip", "test")
    assert test.x.shape == (10000, 3, 32, 32) and np.bincount(test.y).tolist() == [1000] * 10 and test.classes[3] == "cat"
