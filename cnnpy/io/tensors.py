"""Named arrays in a safetensors file.

The header is written here, from C-contiguous little-endian copies; the data's SHA-256 stands in the metadata. On reading, the header is
checked here (sizes, offsets, names), the arrays are made by the safetensors library, and the hash is compared where there is one.
"""

import hashlib
import json
import math
import os

import numpy as np

from cnnpy.io.atomic import atomic_write

__all__ = ["load", "load_metadata", "save"]

_NAMES = {
    "f4": "F32",
    "f8": "F64",
    "f2": "F16",
    "i8": "I64",
    "i4": "I32",
    "i2": "I16",
    "i1": "I8",
    "u1": "U8",
    "u2": "U16",
    "u4": "U32",
    "u8": "U64",
}
_NAMES["b1"] = "BOOL"
_ITEM = {name: int(code[1]) for code, name in _NAMES.items()} | {"BF16": 2}
_LONGEST_HEADER, _MOST_TENSORS, _FORMAT = 16 << 20, 100_000, "1"


def save(tensors, path, metadata=None):
    """Saves arrays under their names, whole or not at all; when it returns they are on disk.

    Parameters
    ----------
    tensors : dict of str to array_like
    path : path
    metadata : dict of str to str, optional

    Raises
    ------
    TypeError
        A name that is not a str, or an array of a dtype that the format lacks.
    OSError
        The file could not be written; an older one of that name is unchanged.
    """
    arrays = {}
    for name, value in tensors.items():
        array = np.asarray(value)
        if not isinstance(name, str) or name == "__metadata__":
            raise TypeError(f"save: the name {name!r} is not usable, expected a str other than '__metadata__'")
        if array.dtype.str[1:] not in _NAMES:
            raise TypeError(f"save: {name} has dtype {array.dtype}, expected one of float, int, uint or bool up to 64 bits")
        arrays[name] = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"save: metadata holds {key!r}: {type(value).__name__}, expected str to str")
    digest = hashlib.sha256()
    for array in arrays.values():
        digest.update(array.tobytes() if array.ndim == 0 or not array.size else array.data.cast("B"))
    header: dict = {"__metadata__": {**(metadata or {}), "cnnpy.format": _FORMAT, "cnnpy.sha256": digest.hexdigest()}}
    at = 0
    for name, array in arrays.items():
        header[name] = {"dtype": _NAMES[array.dtype.str[1:]], "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST_HEADER or len(arrays) > _MOST_TENSORS:
        raise ValueError(f"save: {len(arrays)} arrays with {len(text)} bytes of names are more than the format's readers accept")
    atomic_write(
        path,
        [
            len(text).to_bytes(8, "little"),
            text,
            *(a.tobytes() if not a.size or a.ndim == 0 else a.data.cast("B") for a in arrays.values()),
        ],
    )


def _unique(pairs):
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands twice")
    return result


def _check_entry(name, entry, size):
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of {name!r} has other fields than dtype, shape, data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    whole = [isinstance(v, list) and all(type(n) is int and 0 <= n < 2**62 for n in v) for v in (shape, offsets)]
    if entry["dtype"] not in _ITEM:
        raise ValueError(f"{name!r} has dtype {entry['dtype']!r}, expected one of {', '.join(sorted(_ITEM))}")
    if not all(whole) or len(shape) > 32 or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size:
        raise ValueError(f"{name!r} has shape {str(shape)[:80]} and offsets {str(offsets)[:80]}, which do not fit {size} bytes")
    if math.prod(shape) * _ITEM[entry["dtype"]] != offsets[1] - offsets[0]:
        raise ValueError(f"{name!r} of shape {shape} needs other than {offsets[1] - offsets[0]} bytes")


def _header(data):
    if len(data) < 8:
        raise ValueError(f"it has {len(data)} bytes, expected at least 8")
    length = int.from_bytes(data[:8], "little")
    if length > _LONGEST_HEADER or 8 + length > len(data):
        raise ValueError(f"its header claims {length} bytes of {len(data)}")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique, parse_constant=lambda c: None)
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    if not isinstance(header, dict) or len(header) > _MOST_TENSORS:
        raise ValueError("its header is not a table of arrays")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its metadata is not a table of strings")
    size = len(data) - 8 - length
    for name, entry in header.items():
        _check_entry(name, entry, size)
    at = 0
    for begin, end in sorted(entry["data_offsets"] for entry in header.values()):
        if begin != at:
            raise ValueError(f"its arrays overlap or leave a gap at byte {min(begin, at)}")
        at = end
    if at != size:
        raise ValueError(f"it holds {size} bytes of data, expected {at}")
    return header, metadata, 8 + length


def _read(path):
    with open(path, "rb") as file:
        expected = os.fstat(file.fileno()).st_size
        data = file.read()
        if len(data) != expected or os.fstat(file.fileno()).st_size != expected:
            raise ValueError(f"load: {path} changed while it was read")
    try:
        return data, *_header(data)
    except ValueError as error:
        raise ValueError(f"load: {path} is not a valid safetensors file: {error}") from None


def load(path):
    """Reads a safetensors file, never executing anything in it.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    ValueError
        The file is damaged or not of this format; one sentence with the path.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load as parse
    except ImportError:
        raise ImportError("load: needs safetensors; install it with: pip install 'cnnpy[train]'") from None
    data, header, metadata, start = _read(path)
    odd = [name for name, entry in header.items() if entry["dtype"] == "BF16"]
    if odd:
        raise ValueError(f"load: {path} holds bfloat16 arrays ({odd[0]}, ...), which NumPy lacks; save them as float32")
    try:
        arrays = parse(data)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"load: {path} is not a valid safetensors file: {error}") from None
    wanted = metadata.get("cnnpy.sha256")
    if wanted is not None and hashlib.sha256(memoryview(data)[start:]).hexdigest() != wanted:
        raise ValueError(f"load: {path} is damaged: its data do not have the hash that was saved with them")
    return {name: arrays[name] for name in header}


def load_metadata(path):
    """The metadata of a safetensors file, a dict of str to str."""
    return {k: v for k, v in _read(path)[2].items() if not k.startswith("cnnpy.")}
