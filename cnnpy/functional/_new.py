"""New arrays that recorded programs know of: filled, copied and joined by the core."""

import numpy as np

from cnnpy import _core


def duplicate(x):
    """A copy in the memory order of x."""
    x = np.asarray(x)
    if x.dtype.char not in "fd" or not x.dtype.isnative:
        return np.array(x)
    y = np.empty_like(x)
    _core.record_new(y)
    _core.copy_to(y, x)
    return y


def constant(array):
    """The array itself; recorded programs may read it, because its contents follow from shapes and options alone."""
    _core.record_new(array)
    return array


def full(shape, value, dtype):
    """A new array of one value, made by the core: recorded programs fill it again."""
    return _core.full_like(np.broadcast_to(np.zeros((), dtype), shape), float(value))


def duplicate_in_c_order(x):
    y = np.empty(x.shape, x.dtype)
    _core.record_new(y)
    _core.copy_to(y, x)
    return y


def join(function, arrays, axis):
    """NumPy's concatenate or stack, whose copies are the core's while a program is recorded."""
    if not _core.recording():
        return function(arrays, axis=axis)
    y = np.empty_like(function(arrays, axis=axis))
    _core.record_new(y)
    if function is np.stack:
        parts = list(np.moveaxis(y, axis, 0))
    else:
        parts = np.split(y, np.cumsum([np.shape(a)[axis] for a in arrays])[:-1], axis=axis)
    for part, a in zip(parts, arrays, strict=True):
        _core.copy_to(part, a.astype(y.dtype, copy=False))
    return y
