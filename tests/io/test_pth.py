"""``.pth`` files: written here by hand as PyTorch writes them, by PyTorch itself where it is installed, damaged, and hostile."""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pytest

from cnnpy import models
from cnnpy.io import load_pth

TENSORS = {
    "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a.bias": np.array([1.5, -2], np.float64),
    "count": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
}
KINDS = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage"}


@pytest.fixture
def fake_torch(monkeypatch):
    """Modules of PyTorch's names whose objects pickle as its own do."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in KINDS.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*arguments):
        return arguments

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch, utils


class _Storage:
    def __init__(self, key, array):
        self.key, self.array = key, array


class _Described:
    """Pickles as a tensor: a call of _rebuild_tensor_v2 with a persistent storage."""

    def __init__(self, function, storage, stride=None, shape=None):
        a = storage.array
        shape = a.shape if shape is None else shape
        stride = tuple(s // a.itemsize for s in a.strides) if stride is None else stride
        self.function, self.arguments = function, (storage, 0, shape, stride, False, collections.OrderedDict())

    def __reduce__(self):
        return self.function, self.arguments


def pickled(tree, torch, legacy=False):
    file = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if isinstance(obj, _Storage):
                pid = ("storage", getattr(torch, KINDS[obj.array.dtype.str[1:]]), obj.key, "cpu", obj.array.size)
                return (*pid, None) if legacy else pid
            return None

    Pickler(file, protocol=2).dump(tree)
    return file.getvalue()


def build(path, fake, tensors=TENSORS, legacy=False, wrap=lambda d: d, **changes):
    torch, utils = fake
    storages = [_Storage(str(i), np.array(a, order="C")) for i, a in enumerate(tensors.values())]
    tree = collections.OrderedDict((n, _Described(utils._rebuild_tensor_v2, s, **changes)) for n, s in zip(tensors, storages, strict=True))
    body = pickled(wrap(tree), torch, legacy)
    if legacy:
        head = b"".join(pickle.dumps(v, protocol=2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
        tail = pickle.dumps([s.key for s in storages], protocol=2)
        path.write_bytes(head + body + tail + b"".join(struct.pack("<q", s.array.size) + s.array.tobytes() for s in storages))
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", body)
        for s in storages:
            archive.writestr(f"archive/data/{s.key}", s.array.tobytes())


def same(found, wanted=TENSORS):
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("legacy", [False, True])
def test_both_forms(tmp_path, fake_torch, legacy):
    path = tmp_path / "w.pth"
    build(path, fake_torch, legacy=legacy)
    same(load_pth(path))
    build(path, fake_torch, legacy=legacy, wrap=lambda d: {"epoch": 3, "state_dict": d})
    same(load_pth(path))


def test_strides_and_what_reaches_beyond(tmp_path, fake_torch):
    path = tmp_path / "w.pth"
    one = {"w": np.arange(12, dtype=np.float32)}
    build(path, fake_torch, one, shape=(4, 3), stride=(1, 4))
    np.testing.assert_array_equal(load_pth(path)["w"], np.arange(12.0).reshape(3, 4).T)
    for shape, stride in (((4, 4), (4, 1)), ((13,), (1,)), ((2,), (-1,)), ((2, 2), (1,)), ((1 << 40, 1 << 40), (0, 1)), ((1000,), (0,))):
        build(path, fake_torch, one, shape=shape, stride=stride)
        with pytest.raises(ValueError, match=r"load_pth: .* is not a checkpoint of tensors"):
            load_pth(path)


class Trap:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_is_executed(tmp_path, fake_torch, legacy):
    marker, path = tmp_path / "ran", tmp_path / "w.pth"
    build(path, fake_torch, legacy=legacy, wrap=lambda d: {"state_dict": d, "trap": Trap(marker)})
    with pytest.raises(ValueError, match=r"it asks for posix.system"):
        load_pth(path)
    path.write_bytes(pickle.dumps(Trap(marker)))
    with pytest.raises(ValueError, match=r"it asks for posix.system"):
        load_pth(path)
    assert not marker.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_number_that_would_cost_gigabytes(tmp_path, fake_torch, legacy):
    """An unpickler's table of numbered objects is as long as the largest number, here 2**30: 16 GB. Random damage found it."""
    path, far = tmp_path / "w.pth", b"r" + struct.pack("<I", 1 << 30)
    build(path, fake_torch, legacy=legacy)
    raw = path.read_bytes()
    if legacy:
        path.write_bytes(raw.replace(b"q\x00", far, 1))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}" + far + b".")
    assert path.read_bytes() != raw
    with pytest.raises(ValueError, match=r"load_pth: .* it gives an object the number 1073741824 after \d+ steps"):
        load_pth(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_files_cost_one_sentence(tmp_path, fake_torch, legacy, budget):
    path = tmp_path / "w.pth"
    build(path, fake_torch, legacy=legacy)
    good, rng = path.read_bytes(), np.random.default_rng(0)
    for cut in range(0, len(good) - 1, 23):
        path.write_bytes(good[:cut])
        with pytest.raises(ValueError, match="load_pth"):
            load_pth(path)
    count = budget(300, 2000, 50_000)
    for _ in range(count):
        mutated = bytearray(good)
        for at in rng.integers(0, len(good), 3):
            mutated[at] = rng.integers(256)
        path.write_bytes(bytes(mutated))
        try:
            assert all(isinstance(a, np.ndarray) for a in load_pth(path).values())
        except ValueError as error:
            assert str(error).startswith("load_pth: ")
    print(f"pth: {count} damaged files")
    with pytest.raises(ValueError, match="is not a file"):
        load_pth(tmp_path)


class _Parameter:
    def __init__(self, function, inner):
        self.function, self.inner = function, inner

    def __reduce__(self):
        return self.function, (self.inner, True, collections.OrderedDict())


def test_parameters_are_their_tensors(tmp_path, fake_torch):
    def _rebuild_parameter(*arguments):
        return arguments

    _rebuild_parameter.__module__, _rebuild_parameter.__qualname__ = "torch._utils", "_rebuild_parameter"
    fake_torch[1]._rebuild_parameter = _rebuild_parameter
    build(tmp_path / "w.pth", fake_torch, wrap=lambda d: {n: _Parameter(_rebuild_parameter, t) for n, t in d.items()})
    same(load_pth(tmp_path / "w.pth"))


def test_files_that_are_something_else(tmp_path, fake_torch):
    path = tmp_path / "w.pth"

    def rewritten(**parts):
        with zipfile.ZipFile(path) as archive:
            found = {n: archive.read(n) for n in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (found | {f"archive/{k}": v for k, v in parts.items()}).items():
                archive.writestr(name, content)

    def refused(sentence):
        with pytest.raises(ValueError, match=f"load_pth: .*{sentence}") as raised:
            load_pth(path)
        assert "\n" not in str(raised.value)

    build(path, fake_torch)
    rewritten(**{"data/0": b"123"})
    refused("a storage has 3 bytes, expected 12 numbers of 4")
    build(path, fake_torch)
    rewritten(byteorder=b"big")
    refused("its numbers are big-endian")
    build(path, fake_torch, wrap=lambda d: {"epoch": 3})
    refused("it holds no tensors by name")
    build(path, fake_torch, legacy=True)
    raw = path.read_bytes()
    little = pickle.dumps({"little_endian": True}, protocol=2)
    path.write_bytes(raw.replace(little, pickle.dumps({"little_endian": False}, protocol=2)))
    refused("its numbers are big-endian")
    keys = pickle.dumps([str(i) for i in range(len(TENSORS))], protocol=2)
    assert keys in raw
    path.write_bytes(raw.replace(keys, pickle.dumps("0123", protocol=2)))
    refused("it lists no storages")
    size = TENSORS["a.weight"].size
    body = b"K" + bytes([size]) + b"N"  # the count of the first storage, and no view of another one
    path.write_bytes(raw.replace(body, b"K" + bytes([size]) + b"K\x01", 1))
    refused("a storage is described wrongly")


@pytest.mark.parametrize("legacy", [False, True])
def test_pytorch_writes_what_is_read(tmp_path, legacy):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: it comes with the bench extra")
    model = models.resnet20(rng=0)
    state = {n: torch.from_numpy(np.array(a)) for n, a in model.state_dict().items()}
    state["turned"] = torch.arange(6.0).reshape(2, 3).t()
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    found = load_pth(tmp_path / "w.pth")
    np.testing.assert_array_equal(found.pop("turned"), [[0, 3], [1, 4], [2, 5]])
    other = models.resnet20(rng=1)
    other.load_state_dict(found)
    assert all(np.array_equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
