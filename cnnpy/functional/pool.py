"""Pooling."""

import numpy as np

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import select

__all__ = [
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool3d",
    "avg_pool3d_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool3d",
    "max_pool3d_backward",
]

_COMMON = """
Parameters
----------
x : array_like, shape (N, C, {axes}) or, unbatched, (C, {axes})
kernel_size : int or {d} ints
    Length of the window.
stride : int or {d} ints, optional
    Input cells from one window to the next; the window's length by default.
padding : int, {d} ints, {d} pairs (before, after), 'valid' or 'same'
    At most half the window's extent on a side.
"""

_MAX = (
    """The largest value of each window, channel by channel.
"""
    + _COMMON
    + """dilation : int or {d} ints
    Input cells between neighbouring cells of the window.
ceil_mode : bool
    Also take windows that hang over the end, if they start inside the image or the padding before it.
return_indices : bool
    Return ``(y, indices)``: int64, flat in the input's spatial plane.
return_cache : bool
    Return ``(result, cache)``; the cache says which cell of each window won.

Returns
-------
ndarray, shape (N, C, {outputs}), or a tuple as above

Notes
-----
Padding is never selected. Of equal maxima the first in scan order wins, and alone gets the gradient; the first NaN beats all.
"""
)

_AVG = (
    """The mean of each window, channel by channel.
"""
    + _COMMON
    + """ceil_mode : bool
    Also take windows that hang over the end, if they start inside the image or the padding before it.
count_include_pad : bool
    Whether padded cells count in the divisor.

Returns
-------
ndarray, shape (N, C, {outputs})
"""
)

_AXES = {1: ("W", "W_out"), 2: ("H, W", "H_out, W_out"), 3: ("D, H, W", "D_out, H_out, W_out")}


def _named(function, name, text, d):
    axes, outputs = _AXES[d]
    function.__name__ = function.__qualname__ = name
    function.__doc__ = text.format(d=d, axes=axes, outputs=outputs, name=name)
    return function


def kept_of(function, return_indices, return_cache):
    """What the core keeps of the cells that won: nothing, indices, or, for backward alone, a byte a window."""
    for name, value in (("return_indices", return_indices), ("return_cache", return_cache)):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{function}: {name} is {type(value).__name__}, expected True or False")
    return 1 if return_indices else 2 if return_cache else 0


def _define_max(d):
    name = f"max_pool{d}d"

    def forward(x, kernel_size, *, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, return_cache=False):
        kept = kept_of(name, return_indices, return_cache)
        result = _core.pool_forward(d, 0, x, kernel_size, stride, padding, dilation, ceil_mode, False, kept)
        if not return_cache:
            return result
        return (result if return_indices else result[0]), result[1]

    call = operation("x", caches=True)(_named(forward, name, _MAX, d))
    op = call.operation

    def backward(dy, x, kernel_size, *, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, cache=None, needs=None):
        Gradients = op.Gradients
        if not select(f"{name}_backward", Gradients, needs):
            return Gradients(None)
        if isinstance(dy, tuple):
            dy = dy[0]
        if cache is None:
            cache = _core.pool_forward(d, 0, x, kernel_size, stride, padding, dilation, ceil_mode, False, 2)[1]
        return Gradients(_core.pool_backward(d, 0, dy, x, cache, kernel_size, stride, padding, dilation, ceil_mode, False))

    text = "Gradient of :func:`max_pool{d}d`: each dy goes to the cell that was the maximum of its window."
    return call, call.backward(_named(backward, f"{name}_backward", text, d))


def _define_avg(d):
    name = f"avg_pool{d}d"

    def forward(x, kernel_size, *, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        return _core.pool_forward(d, 1, x, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, 0)

    call = operation("x")(_named(forward, name, _AVG, d))
    op = call.operation

    def backward(dy, x, kernel_size, *, stride=None, padding=0, ceil_mode=False, count_include_pad=True, cache=None, needs=None):
        Gradients = op.Gradients
        if not select(f"{name}_backward", Gradients, needs):
            return Gradients(None)
        return Gradients(_core.pool_backward(d, 1, dy, x, None, kernel_size, stride, padding, 1, ceil_mode, count_include_pad))

    text = "Gradient of :func:`avg_pool{d}d`: each dy is shared equally by the cells of its window."
    return call, call.backward(_named(backward, f"{name}_backward", text, d))


max_pool1d, max_pool1d_backward = _define_max(1)
max_pool2d, max_pool2d_backward = _define_max(2)
max_pool3d, max_pool3d_backward = _define_max(3)
avg_pool1d, avg_pool1d_backward = _define_avg(1)
avg_pool2d, avg_pool2d_backward = _define_avg(2)
avg_pool3d, avg_pool3d_backward = _define_avg(3)
