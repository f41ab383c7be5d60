"""IDX files, the format of MNIST: a magic number with dtype and rank, the sizes, the values, all big-endian; perhaps in gzip."""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from cnnpy.data.dataset import ArrayDataset

__all__ = ["mnist", "read_idx", "write_idx"]

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path, *, max_bytes=1 << 31):
    """Reads an IDX file, gzipped or not.

    Parameters
    ----------
    path : path
    max_bytes : int
        Refuse more data than this, as a header or a gzip bomb may claim.

    Returns
    -------
    ndarray in native byte order

    Raises
    ------
    ValueError
        Not an IDX file, or its data are shorter or longer than its header says. One sentence with the path.
    """
    path = Path(path)
    try:
        with open(path, "rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if zipped else raw as file:
                return _parse(file, path, max_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"read_idx: {path} is damaged: {error}") from None


def _parse(file, path, max_bytes):
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES or not 1 <= head[3] <= 8:
        raise ValueError(f"read_idx: {path} is not an IDX file: its first bytes are {head.hex() or 'missing'}")
    dtype, rank = np.dtype(_DTYPES[head[2]]), head[3]
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise ValueError(f"read_idx: {path} ends inside its header")
    shape = struct.unpack(f">{rank}I", sizes)
    expected = math.prod(shape) * dtype.itemsize
    if expected > max_bytes:
        raise ValueError(f"read_idx: {path} claims shape {shape}, {expected} bytes, more than the {max_bytes} allowed")
    data = file.read(expected)
    if len(data) < expected:
        raise ValueError(f"read_idx: {path} holds {len(data)} bytes of data, expected {expected} for shape {shape}")
    if file.read(1):
        raise ValueError(f"read_idx: {path} holds more data than the {expected} bytes of shape {shape}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def write_idx(path, array):
    """Writes an array as IDX, in gzip if the name ends in .gz; whole or not at all."""
    array = np.asarray(array)
    codes = {np.dtype(d).newbyteorder("="): code for code, d in _DTYPES.items()}
    if array.dtype.newbyteorder("=") not in codes:
        raise TypeError(f"write_idx: the array has dtype {array.dtype}, expected one of {', '.join(str(d) for d in codes)}")
    if not 1 <= array.ndim <= 8 or max(array.shape) >= 2**32:
        raise ValueError(f"write_idx: the array has shape {array.shape}, expected 1 to 8 axes shorter than 2**32")
    code = codes[array.dtype.newbyteorder("=")]
    content = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content += array.astype(np.dtype(_DTYPES[code])).tobytes()
    if str(path).endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def mnist(folder, part="train"):
    """MNIST (or another set in its files) from a folder of IDX files, gzipped or not.

    Parameters
    ----------
    folder : path
        Holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, each perhaps with .gz.
    part : {'train', 'test'}

    Returns
    -------
    ArrayDataset
        x uint8 (N, 1, 28, 28), y int64 (N,).
    """
    if part not in ("train", "test"):
        raise ValueError(f"mnist: part is {part!r}, expected 'train' or 'test'")
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"mnist: {folder} is not a folder")
    arrays = []
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        name = f"{'train' if part == 'train' else 't10k'}-{kind}"
        path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
        if path is None:
            raise ValueError(f"mnist: {folder} lacks {name} or {name}.gz")
        arrays.append(read_idx(path))
    x, y = arrays
    if x.ndim != 3 or y.ndim != 1 or len(x) != len(y):
        raise ValueError(f"mnist: {folder} has images of shape {x.shape} and labels of shape {y.shape}, expected (N, H, W) and (N,)")
    return ArrayDataset(x[:, None], y.astype(np.int64), classes=[str(c) for c in range(10)])
