"""NumPy's .npz archives, written whole or not at all, read without executing anything."""

import io
import zipfile
from pathlib import Path

import numpy as np

from cnnpy.io.atomic import atomic_write

__all__ = ["load_npz", "save_npz"]

_ROOM, _RATIO = 1 << 26, 100  # an archive may hold 64 MB and a hundred times its own size


def save_npz(tensors, path, *, compress=False):
    """Writes arrays by name as ``numpy.savez`` does; an older file is replaced whole or not at all.

    Parameters
    ----------
    tensors : dict of str to array_like
    path : path
        Taken as it is: no suffix is added.
    compress : bool

    Raises
    ------
    TypeError
        An array of Python objects, or a name that is no str.
    """
    arrays = {}
    for name, value in tensors.items():
        array = np.asarray(value)
        if not isinstance(name, str) or array.dtype.hasobject:
            raise TypeError(f"save_npz: {name!r} has dtype {array.dtype}, expected numbers under a str")
        arrays[name] = array
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as part:
                np.lib.format.write_array(part, array, allow_pickle=False)
    atomic_write(path, [content.getbuffer()])


def load_npz(path):
    """The arrays of an ``.npz`` archive.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    ValueError
        A damaged archive, one that holds Python objects, or one that would unpack to more than 64 MB and a hundred times its size.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"load_npz: {path} is not a file")
    limit = _ROOM + _RATIO * path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [i for i in archive.infolist() if i.filename.endswith(".npy")]
            if not parts or sum(i.file_size for i in parts) > limit:
                raise ValueError(f"it would unpack to more than {limit} bytes" if parts else "it holds no arrays")
            result = {}
            for part in parts:
                with archive.open(part) as file:
                    content = file.read(part.file_size + 1)
                result[part.filename[:-4]] = np.load(io.BytesIO(content), allow_pickle=False, max_header_size=10_000)
            return result
    except Exception as error:  # a damaged archive raises anything
        raise ValueError(
            f"load_npz: {path} is not a valid archive of arrays: {(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from None
