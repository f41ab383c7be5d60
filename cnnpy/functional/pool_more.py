"""Adaptive, global and power-mean pooling, and the inverse of maximum pooling."""

import numpy as np

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import select
from cnnpy.functional.pool import kept_of

__all__ = ["global_avg_pool", "global_avg_pool_backward", "global_max_pool", "global_max_pool_backward"]
for _d in (1, 2, 3):
    for _kind in ("adaptive_avg_pool", "adaptive_max_pool", "lp_pool", "max_unpool"):
        __all__ += [f"{_kind}{_d}d", f"{_kind}{_d}d_backward"]

_AXES = {1: "W", 2: "H, W", 3: "D, H, W"}


def _named(function, name, text, d):
    function.__name__ = function.__qualname__ = name
    function.__doc__ = text.format(d=d, axes=_AXES[d])
    return function


_ADAPTIVE = """The {what} of windows chosen so that the result has the size wanted: window p covers ``floor(p M/P)`` to ``ceil((p+1) M/P)``.

Parameters
----------
x : array_like, shape (N, C, {{axes}}) or, unbatched, (C, {{axes}})
output_size : int or {{d}} ints
{extra}
Returns
-------
ndarray, shape (N, C, *output_size)
"""
_INDICES = """return_indices : bool
    Return ``(y, indices)``: int64, flat in the input's spatial plane.
return_cache : bool
    Return ``(result, cache)``; the cache says which cell of each window won.
"""


def _define_adaptive(d):
    def average(x, output_size):
        return _core.adaptive_pool_forward(f"adaptive_avg_pool{d}d", d, True, x, output_size, 0)

    call_average = operation("x")(_named(average, f"adaptive_avg_pool{d}d", _ADAPTIVE.format(what="mean", extra=""), d))

    def average_backward(dy, x, output_size, *, cache=None, needs=None):
        name, Gradients = f"adaptive_avg_pool{d}d_backward", call_average.operation.Gradients
        if not select(name, Gradients, needs):
            return Gradients(None)
        return Gradients(_core.adaptive_pool_backward(name, d, True, dy, x, None, output_size))

    def maximum(x, output_size, *, return_indices=False, return_cache=False):
        name = f"adaptive_max_pool{d}d"
        result = _core.adaptive_pool_forward(name, d, False, x, output_size, kept_of(name, return_indices, return_cache))
        if not return_cache:
            return result
        return (result if return_indices else result[0]), result[1]

    call_maximum = operation("x", caches=True)(
        _named(maximum, f"adaptive_max_pool{d}d", _ADAPTIVE.format(what="largest value", extra=_INDICES), d)
    )

    def maximum_backward(dy, x, output_size, *, return_indices=False, cache=None, needs=None):
        name, Gradients = f"adaptive_max_pool{d}d_backward", call_maximum.operation.Gradients
        if not select(name, Gradients, needs):
            return Gradients(None)
        if isinstance(dy, tuple):
            dy = dy[0]
        if cache is None:
            cache = _core.adaptive_pool_forward(name, d, False, x, output_size, 2)[1]
        return Gradients(_core.adaptive_pool_backward(name, d, False, dy, x, cache, output_size))

    text = "Gradient of :func:`adaptive_{what}_pool{{d}}d`."
    call_average.backward(_named(average_backward, f"adaptive_avg_pool{d}d_backward", text.format(what="avg"), d))
    call_maximum.backward(_named(maximum_backward, f"adaptive_max_pool{d}d_backward", text.format(what="max"), d))
    return call_average, average_backward, call_maximum, maximum_backward


_LP = """The power mean without the division: ``(A * sum |x|^norm_type)^(1/norm_type)`` over each window.

Parameters
----------
x : array_like, shape (N, C, {axes}) or, unbatched, (C, {axes})
kernel_size : int or {d} ints
norm_type : float, 0.001 to 1000
    1 sums absolute values, 2 is the Euclidean norm, large ones approach the maximum.
stride : int or {d} ints, optional
    The window's length by default.
ceil_mode : bool
    Also take windows that hang over the end; A = cells of a whole window / cells of this one makes up for what they lack.
return_cache : bool
    Return ``(y, cache)``; the cache is y.

Returns
-------
ndarray
"""


def _define_lp(d):
    name = f"lp_pool{d}d"

    def forward(x, kernel_size, *, norm_type=2, stride=None, ceil_mode=False, return_cache=False):
        y = _core.lp_pool_forward(name, d, x, kernel_size, norm_type, stride, ceil_mode)
        return (y, y) if return_cache else y

    call = operation("x", caches=True)(_named(forward, name, _LP, d))

    def backward(dy, x, kernel_size, *, norm_type=2, stride=None, ceil_mode=False, cache=None, needs=None):
        Gradients = call.operation.Gradients
        if not select(f"{name}_backward", Gradients, needs):
            return Gradients(None)
        if cache is None:
            cache = _core.lp_pool_forward(f"{name}_backward", d, x, kernel_size, norm_type, stride, ceil_mode)
        return Gradients(_core.lp_pool_backward(f"{name}_backward", d, dy, x, cache, kernel_size, norm_type, stride, ceil_mode))

    text = "Gradient of :func:`lp_pool{d}d`: ``dy * A * sign(x) |x|^(q-1) y^(1-q)``, 0 where y is 0."
    return call, call.backward(_named(backward, f"{name}_backward", text, d))


_UNPOOL = """Puts pooled values back where they came from, zeros elsewhere.

Parameters
----------
x : array_like, shape (N, C, {axes}) or, unbatched, (C, {axes})
indices : array_like of int, the shape of x
    Flat in the result's spatial plane, as :func:`max_pool{d}d` returns them; of equal ones the last in scan order stays.
kernel_size, stride, padding : int or {d} ints
    Of the pool.
output_size : int or {d} ints, optional
    Size of the plane that was pooled; by default ``(in - 1) * stride - 2 * padding + kernel_size``. It may differ by less than the stride.

Returns
-------
ndarray

Raises
------
ValueError
    An index outside the plane, with its position.
"""


def _define_unpool(d):
    name = f"max_unpool{d}d"

    def forward(x, indices, kernel_size, *, stride=None, padding=0, output_size=None):
        return _core.max_unpool(name, d, x, indices, kernel_size, stride, padding, output_size, False)

    call = operation("x indices", constant=("indices",))(_named(forward, name, _UNPOOL, d))

    def backward(dy, x, indices, kernel_size, *, stride=None, padding=0, output_size=None, cache=None, needs=None):
        Gradients = call.operation.Gradients
        if not select(f"{name}_backward", Gradients, needs):
            return Gradients(None)
        shapes = [_core.shape_of(f"{name}_backward", a) for a in (x, indices)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{name}_backward: indices has shape {shapes[1]}, expected that of x, {shapes[0]}")
        return Gradients(_core.max_unpool(f"{name}_backward", d, dy, indices, kernel_size, stride, padding, output_size, True))

    text = "Gradient of :func:`max_unpool{d}d`: dy read where the values went; a value that another overwrote gets 0."
    return call, call.backward(_named(backward, f"{name}_backward", text, d))


for _d in (1, 2, 3):
    _average, _average_backward, _maximum, _maximum_backward = _define_adaptive(_d)
    globals()[f"adaptive_avg_pool{_d}d"], globals()[f"adaptive_avg_pool{_d}d_backward"] = _average, _average_backward
    globals()[f"adaptive_max_pool{_d}d"], globals()[f"adaptive_max_pool{_d}d_backward"] = _maximum, _maximum_backward
    globals()[f"lp_pool{_d}d"], globals()[f"lp_pool{_d}d_backward"] = _define_lp(_d)
    globals()[f"max_unpool{_d}d"], globals()[f"max_unpool{_d}d_backward"] = _define_unpool(_d)


def _spatial(function, x):
    rank = len(_core.shape_of(function, x)) - 2
    if rank not in (1, 2, 3):
        raise ValueError(f"{function}: x has shape {np.shape(x)}, expected (N, C, spatial) with one to three spatial axes")
    return rank


@operation("x")
def global_avg_pool(x):
    """The mean over all spatial axes, which stay with length 1.

    Parameters
    ----------
    x : array_like, shape (N, C, spatial), one to three spatial axes

    Returns
    -------
    ndarray, shape (N, C, 1, ...)
    """
    return _core.adaptive_pool_forward("global_avg_pool", _spatial("global_avg_pool", x), True, x, 1, 0)


@global_avg_pool.backward
def global_avg_pool_backward(dy, x, *, cache=None, needs=None):
    """Gradient of :func:`global_avg_pool`: an equal share of dy at every cell."""
    name, Gradients = "global_avg_pool_backward", global_avg_pool.operation.Gradients
    if not select(name, Gradients, needs):
        return Gradients(None)
    return Gradients(_core.adaptive_pool_backward(name, _spatial(name, x), True, dy, x, None, 1))


@operation("x", caches=True)
def global_max_pool(x, *, return_cache=False):
    """The maximum over all spatial axes, which stay with length 1.

    Parameters
    ----------
    x : array_like, shape (N, C, spatial), one to three spatial axes
    return_cache : bool
        Return ``(y, cache)``; the cache says which cell of each window won.

    Returns
    -------
    ndarray, shape (N, C, 1, ...)
    """
    name = "global_max_pool"
    return _core.adaptive_pool_forward(name, _spatial(name, x), False, x, 1, kept_of(name, False, return_cache))


@global_max_pool.backward
def global_max_pool_backward(dy, x, *, cache=None, needs=None):
    """Gradient of :func:`global_max_pool`: dy at the first maximum."""
    name, Gradients = "global_max_pool_backward", global_max_pool.operation.Gradients
    if not select(name, Gradients, needs):
        return Gradients(None)
    rank = _spatial(name, x)
    if cache is None:
        cache = _core.adaptive_pool_forward(name, rank, False, x, 1, 2)[1]
    return Gradients(_core.adaptive_pool_backward(name, rank, False, dy, x, cache, 1))
