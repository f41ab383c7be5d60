"""PyTorch's ``.pth`` files, read without PyTorch and without executing anything that stands in them.

Such a file is a pickle that describes tensors, and their numbers beside it: in a zip archive, or behind the pickle in the older form. The
reader knows the names that tensors are made of, gives each a meaning of its own, and refuses every other.
"""

import collections
import io
import math
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np

from cnnpy._pickles import load_checked

__all__ = ["load_pth"]

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
_LARGEST = 1 << 36


class _Storage:
    """Numbers of one kind; `read` fetches them when the first tensor asks."""

    def __init__(self, dtype, count, read):
        self.dtype, self.count, self.read, self._array = dtype, count, read, None

    @property
    def array(self):
        if self._array is None:
            raw = self.read()
            if len(raw) != self.count * self.dtype.itemsize:
                raise ValueError(f"a storage has {len(raw)} bytes, expected {self.count} numbers of {self.dtype.itemsize}")
            self._array = np.frombuffer(raw, self.dtype)
        return self._array


class _Tensor:
    """Where a tensor's numbers stand in its storage."""

    def __init__(self, storage, offset, shape, stride):
        ints = (offset, *shape, *stride)
        if (
            not isinstance(storage, _Storage)
            or any(type(v) is not int or v < 0 for v in ints)
            or len(shape) != len(stride)
            or len(shape) > 32
        ):
            raise ValueError("a tensor is described wrongly")
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) if all(shape) else offset - 1
        if (
            last >= storage.count or offset > storage.count or math.prod(shape) > storage.count
        ):  # no repeated numbers: a small file stays small
            raise ValueError("a tensor reaches beyond its storage")
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride

    def array(self):
        if not all(self.shape):
            return np.zeros(self.shape, self.storage.dtype)
        whole = self.storage.array[self.offset :]
        view = np.lib.stride_tricks.as_strided(whole, self.shape, [s * whole.itemsize for s in self.stride], writeable=False)
        return np.array(view, self.storage.dtype.newbyteorder("="), order="C")


def _rebuild_tensor(storage, offset, shape, stride, *rest):
    return _Tensor(storage, offset, tuple(shape), tuple(stride))


def _rebuild_parameter(data, *rest):
    return data


class _Name:
    """A name that stands for itself: a kind of storage."""

    def __init__(self, name):
        self.name = name


_KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): tuple,
    **{("torch", name): _Name(name) for name in _STORAGES},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, storage):
        super().__init__(file, encoding="latin1")
        self._storage = storage

    def find_class(self, module, name):
        found = _KNOWN.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return found

    def persistent_load(self, pid):
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], _Name)):
            raise pickle.UnpicklingError("it asks for an unknown object")
        count = pid[4]
        if type(count) is not int or not 0 <= count <= _LARGEST or (len(pid) > 5 and pid[5] is not None):
            raise pickle.UnpicklingError("a storage is described wrongly")
        return self._storage(str(pid[2]), np.dtype(_STORAGES[pid[1].name]), count)


def _load(file, storage):
    return load_checked(file, lambda f: _Unpickler(f, storage))


def _from_zip(path):
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if n.endswith("/data.pkl")]
        if len(names) != 1:
            raise ValueError("it holds no data.pkl")
        root = names[0][: -len("data.pkl")]
        size = path.stat().st_size
        kept: dict = {}

        def content(name):
            info = archive.getinfo(name)
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
                raise ValueError(f"its part {name} is compressed or larger than the file")
            return archive.read(name)

        def storage(key, dtype, count):
            if key not in kept:
                kept[key] = _Storage(dtype, count, lambda: content(f"{root}data/{key}"))
            return kept[key]

        if f"{root}byteorder" in archive.namelist() and content(f"{root}byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        return _arrays(_load(io.BytesIO(content(names[0])), storage))


def _from_legacy(path):
    with open(path, "rb") as file:
        nothing = lambda *a: None  # noqa: E731
        if _load(file, nothing) != _MAGIC or _load(file, nothing) != _PROTOCOL:
            raise ValueError("its first numbers are not those of such a file")
        system = _load(file, nothing)
        if not isinstance(system, dict) or not system.get("little_endian", True):
            raise ValueError("its numbers are big-endian")
        kept: dict = {}

        def storage(key, dtype, count):
            if key not in kept:
                kept[key] = _Storage(dtype, count, lambda: b"")
            return kept[key]

        tree = _load(file, storage)
        keys = _load(file, nothing)
        if not isinstance(keys, list):
            raise ValueError("it lists no storages")
        for key in keys:
            found, head = kept.get(str(key)), file.read(8)
            if found is None or len(head) < 8 or struct.unpack("<q", head)[0] != found.count:
                raise ValueError("its storages are not those that its tensors name")
            raw = file.read(found.count * found.dtype.itemsize)
            found.read = lambda raw=raw: raw
        return _arrays(tree)


def _arrays(tree):
    """Tensors by name; a dict that holds the state under 'state_dict' or 'model' is looked into."""
    for _ in range(2):
        if isinstance(tree, dict) and not any(isinstance(v, _Tensor) for v in tree.values()):
            inner = [tree[k] for k in ("state_dict", "model", "model_state_dict") if isinstance(tree.get(k), dict)]
            tree = inner[0] if inner else tree
    if not isinstance(tree, dict) or not any(isinstance(v, _Tensor) for v in tree.values()):
        raise ValueError("it holds no tensors by name")
    return {str(name): value.array() for name, value in tree.items() if isinstance(value, _Tensor)}


def load_pth(path):
    """The tensors of a PyTorch checkpoint, in the zip or the older form.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of str to ndarray
        In native byte order. A state under ``'state_dict'`` or ``'model'`` is found; values that are no tensors are left out.

    Raises
    ------
    ValueError
        Not such a file, a damaged one, or one that asks for anything but tensors: nothing in it is executed.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"load_pth: {path} is not a file")
    try:
        return _from_zip(path) if zipfile.is_zipfile(path) else _from_legacy(path)
    except Exception as error:  # a damaged pickle or archive raises anything
        raise ValueError(f"load_pth: {path} is not a checkpoint of tensors: {error}") from None
