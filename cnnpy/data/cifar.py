"""CIFAR-10 and CIFAR-100: the official binary and Python files, or a folder or zip file of class folders."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np

from cnnpy._pickles import load_checked
from cnnpy.data.dataset import ArrayDataset
from cnnpy.data.folder import IMAGE_SUFFIXES, decode_all

__all__ = ["cifar10", "cifar100"]

_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_PIXELS = 3 * 32 * 32


class _Stub:
    """Stands for a NumPy object of a pickle: keeps what it is given and does nothing."""

    def __init__(self, *arguments):
        self.arguments, self.state = arguments, None

    def __setstate__(self, state):
        self.state = state


def _latin1(content, encoding):
    if not isinstance(content, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("it holds bytes in an unknown form")
    return content.encode("latin-1")


class _Reader(pickle.Unpickler):
    """Reads dicts, lists, strings, numbers and byte arrays; the NumPy names of such files become stubs, every other name is refused."""

    _NAMES = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }

    def find_class(self, module, name):
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes in the old protocols
            return _latin1
        if (module, name) not in self._NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _Stub

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("it asks for a persistent object")


def _array(value, path):
    """The uint8 matrix that a stub describes."""
    state = value.state if isinstance(value, _Stub) else None
    if not (isinstance(state, tuple) and len(state) == 5 and isinstance(state[4], bytes) and isinstance(state[2], _Stub)):
        raise ValueError(f"cifar: {path} holds no array of pixels")
    _, shape, dtype, fortran, content = state
    kind = dtype.arguments[0] if dtype.arguments else None
    if (
        kind not in ("u1", b"u1")
        or len(shape) != 2
        or shape[1] != _PIXELS
        or shape[0] * shape[1] != len(content)
        or fortran not in (0, False)
    ):
        raise ValueError(f"cifar: {path} holds an array of shape {shape} and dtype {kind}, expected (N, {_PIXELS}) of uint8")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _python_batch(path, label_key):
    raw = path.read_bytes()
    try:
        batch = load_checked(io.BytesIO(raw), lambda file: _Reader(file, encoding="bytes"))
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f"cifar: {path} is no batch of images: {error}") from None
    if not isinstance(batch, dict) or b"data" not in batch or label_key not in batch:
        raise ValueError(f"cifar: {path} lacks {b'data'!r} or {label_key!r}")
    labels = batch[label_key]
    if not isinstance(labels, list) or not all(type(v) is int for v in labels):
        raise ValueError(f"cifar: {path} has labels that are no list of integers")
    return _array(batch[b"data"], path), np.array(labels, np.int64)


def _binary_batch(path, label_bytes):
    size, record = path.stat().st_size, _PIXELS + label_bytes
    if size == 0 or size % record:
        raise ValueError(f"cifar: {path} has {size} bytes, expected a multiple of {record}")
    rows = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, record)
    return rows[:, label_bytes:], rows[:, label_bytes - 1].astype(np.int64)


def _join(batches, classes, where):
    x = np.concatenate([b[0] for b in batches]).reshape(-1, 3, 32, 32)
    y = np.concatenate([b[1] for b in batches])
    if len(x) != len(y):
        raise ValueError(f"cifar: {where} has {len(x)} images and {len(y)} labels, expected as many")
    wrong = np.flatnonzero((y < 0) | (y >= len(classes)))
    if len(wrong):
        raise ValueError(f"cifar: {where} holds label {y[wrong[0]]} at position {wrong[0]}, expected 0 to {len(classes) - 1}")
    return ArrayDataset(x, y, classes=classes)


def _official(folder, part, binary, python, label_bytes, label_key, classes):
    for names, read in (
        (binary[part], lambda p: _binary_batch(p, label_bytes)),
        (python[part], lambda p: _python_batch(p, label_key)),
    ):
        paths = [folder / n for n in names]
        if paths[0].is_file():
            lacking = [p.name for p in paths if not p.is_file()]
            if lacking:
                raise ValueError(f"cifar: {folder} lacks {', '.join(lacking)}")
            return _join([read(p) for p in paths], classes, folder)
    return None


def _check_part(function, part):
    if part not in ("train", "test"):
        raise ValueError(f"{function}: part is {part!r}, expected 'train' or 'test'")


def _class_folders(function, path, part):
    """part/CLASS/*.jpg in a folder or a zip file."""
    if path.is_file() and zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = sorted(
                    n for n in archive.namelist() if n.startswith(f"{part}/") and n.lower().endswith(IMAGE_SUFFIXES) and n.count("/") == 2
                )
                if not names:
                    raise ValueError(f"{function}: {path} holds no images under {part}/CLASS/")
                sizes = [archive.getinfo(n).file_size for n in names]
                if max(sizes) > 1 << 20:
                    raise ValueError(f"{function}: {path} holds an image file of {max(sizes)} bytes, expected small ones")
                files = [(n, archive.read(n)) for n in names]
        except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{function}: {path} is damaged: {error}") from None
    elif (path / part).is_dir():
        found = sorted(p for p in (path / part).glob("*/*") if p.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise ValueError(f"{function}: {path} holds no images under {part}/CLASS/")
        files = [(str(p.relative_to(path)).replace("\\", "/"), p) for p in found]
    else:
        return None
    classes = sorted({name.split("/")[1] for name, _ in files})
    numbers = {c: i for i, c in enumerate(classes)}
    x = decode_all(function, files, (32, 32))
    return ArrayDataset(x, np.array([numbers[name.split("/")[1]] for name, _ in files]), classes=classes)


def cifar10(path, part="train"):
    """CIFAR-10 from its official binary or Python batches, or from images in class folders.

    Parameters
    ----------
    path : path
        A folder with ``data_batch_1.bin`` ... ``test_batch.bin``, or with ``data_batch_1`` ... ``test_batch`` (read by a reader that executes
        nothing), or a folder or zip file with ``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg``.
    part : {'train', 'test'}

    Returns
    -------
    ArrayDataset
        x uint8 (N, 3, 32, 32), y int64 (N,).

    Raises
    ------
    ValueError
        Files that are missing, cut short, or something else; one sentence with the path.
    """
    _check_part("cifar10", part)
    path = Path(path)
    if not path.exists():
        raise ValueError(f"cifar10: {path} does not exist")
    train = [f"data_batch_{i}" for i in range(1, 6)]
    binary = {"train": [f"{n}.bin" for n in train], "test": ["test_batch.bin"]}
    found = _official(path, part, binary, {"train": train, "test": ["test_batch"]}, 1, b"labels", _CLASSES) if path.is_dir() else None
    found = found or _class_folders("cifar10", path, part)
    if found is None:
        raise ValueError(f"cifar10: {path} holds neither CIFAR-10's batches nor {part}/CLASS/ folders of images")
    return found


def cifar100(path, part="train"):
    """CIFAR-100 with its 100 fine classes, from the official ``train.bin`` / ``test.bin`` or the Python files ``train`` / ``test``.

    Returns
    -------
    ArrayDataset
        x uint8 (N, 3, 32, 32), y int64 (N,).
    """
    _check_part("cifar100", part)
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"cifar100: {path} is not a folder")
    binary = {"train": ["train.bin"], "test": ["test.bin"]}
    classes = tuple(str(i) for i in range(100))
    found = _official(path, part, binary, {"train": ["train"], "test": ["test"]}, 2, b"fine_labels", classes)
    if found is None:
        raise ValueError(f"cifar100: {path} lacks {part}.bin or {part}")
    return found
