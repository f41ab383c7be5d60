"""Resizing images."""

import numpy as np

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import select, single

__all__ = [
    "interpolate",
    "interpolate_backward",
    "pixel_shuffle",
    "pixel_shuffle_backward",
    "pixel_unshuffle",
    "pixel_unshuffle_backward",
]


def _area(function, x, size, scale_factor, align_corners):
    """The rank and the sizes of the adaptive average pool that 'area' is."""
    shape = _core.shape_of(function, x)
    rank = len(shape) - 2
    if rank not in (1, 2, 3):
        raise ValueError(f"{function}: x has shape {shape}, expected (N, C, spatial) with one to three spatial axes")
    if align_corners is not False:
        raise ValueError(f"{function}: align_corners is {align_corners!r}, expected False with mode 'area'")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{function}: size is {size!r} and scale_factor {scale_factor!r}, expected one of them")
    if scale_factor is None:
        return rank, size
    factors = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * rank
    if len(factors) != rank or any(isinstance(f, bool) or not isinstance(f, (int, float, np.number)) or not 0 < f < 1e6 for f in factors):
        raise ValueError(f"{function}: scale_factor is {scale_factor!r}, expected one number above 0 or {rank}, one an axis")
    return rank, tuple(int(m * f) for m, f in zip(shape[2:], factors, strict=True))


@operation("x")
def interpolate(x, *, size=None, scale_factor=None, mode="nearest", align_corners=False):
    """Resizes an image.

    Parameters
    ----------
    x : array_like, shape (N, C, spatial); unbatched (C, spatial) where the mode fixes the number of axes
    size : int or one int an axis, optional
    scale_factor : float or one float an axis, optional
        One of the two; the result has ``floor(in * scale_factor)`` cells, and the given factor sets the ratio.
    mode : {'nearest', 'nearest-exact', 'linear', 'bilinear', 'trilinear', 'bicubic', 'area'}
        'nearest' rounds down, 'nearest-exact' takes the cell under the centre; bicubic uses a = -3/4; area is adaptive averaging.
    align_corners : bool
        Corner cells keep their place, for the linear and cubic modes; otherwise cells are areas with centres at half positions.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> import cnnpy.functional as F
    >>> F.interpolate([[1.0, 2.0]], size=4, mode="linear")
    array([[1.  , 1.25, 1.75, 2.  ]])
    """
    if mode == "area":
        rank, sizes = _area("interpolate", x, size, scale_factor, align_corners)
        return _core.adaptive_pool_forward("interpolate", rank, True, x, sizes, 0)
    return _core.resize_forward(x, size, scale_factor, mode, align_corners)


@interpolate.backward
def interpolate_backward(dy, x, *, size=None, scale_factor=None, mode="nearest", align_corners=False, cache=None, needs=None):
    """Gradient of :func:`interpolate`: every dy goes back to the cells it was made of, with the same weights."""
    name, Gradients = "interpolate_backward", interpolate.operation.Gradients
    if not select(name, Gradients, needs):
        return Gradients(None)
    if mode == "area":
        rank, sizes = _area(name, x, size, scale_factor, align_corners)
        return Gradients(_core.adaptive_pool_backward(name, rank, True, dy, x, None, sizes))
    return Gradients(_core.resize_backward(dy, x, size, scale_factor, mode, align_corners))


def _factor(function, x, factor):
    shape = _core.shape_of(function, x)
    if isinstance(factor, bool) or not isinstance(factor, (int, np.integer)):
        raise TypeError(f"{function}: factor is {type(factor).__name__}, expected an integer")
    if not 1 <= factor < 2**31 or len(shape) < 3:
        raise ValueError(f"{function}: factor is {factor} and x has shape {shape}, expected a factor of at least 1 and (N, C, spatial)")
    return shape, int(factor)


def _shuffle(function, x, factor):
    (n, c, *spatial), f = _factor(function, x, factor)
    d = len(spatial)
    if c % f**d:
        raise ValueError(f"{function}: x has {c} channels, expected a multiple of factor^{d} = {f**d}")
    parts = (n, c // f**d, *(f,) * d, *spatial)
    order = (0, 1, *(v for a in range(d) for v in (2 + d + a, 2 + a)))
    result = (n, c // f**d, *(v for m in spatial for v in (m, f)))
    return _core.rearrange(function, x, (n, c // f**d, *(m * f for m in spatial)), order, parts, result)


def _unshuffle(function, x, factor):
    (n, c, *spatial), f = _factor(function, x, factor)
    d = len(spatial)
    if any(m % f for m in spatial):
        raise ValueError(f"{function}: x has shape {np.shape(x)}, expected spatial sizes that are multiples of the factor {f}")
    parts = (n, c, *(v for m in spatial for v in (m // f, f)))
    order = (0, 1, *(3 + 2 * a for a in range(d)), *(2 + 2 * a for a in range(d)))
    result = (n, c, *(f,) * d, *(m // f for m in spatial))
    return _core.rearrange(function, x, (n, c * f**d, *(m // f for m in spatial)), order, parts, result)


@operation("x", fresh=False)
def pixel_shuffle(x, factor):
    """Channels become pixels: ``y[n, c, h*f + i, w*f + j] = x[n, c*f*f + i*f + j, h, w]``, alike for one or three axes.

    Parameters
    ----------
    x : array_like, shape (N, C * factor^axes, spatial)
    factor : int

    Returns
    -------
    ndarray, shape (N, C, spatial * factor)

    References
    ----------
    W. Shi et al., Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural network, 2016.
    """
    return _shuffle("pixel_shuffle", x, factor)


@pixel_shuffle.backward
def pixel_shuffle_backward(dy, x, factor, *, cache=None, needs=None):
    """Gradient of :func:`pixel_shuffle`: the inverse rearrangement."""
    _factor("pixel_shuffle_backward", x, factor)
    return single(
        "pixel_shuffle_backward", pixel_shuffle.operation.Gradients, needs, lambda: _unshuffle("pixel_shuffle_backward", dy, factor)
    )


@operation("x", fresh=False)
def pixel_unshuffle(x, factor):
    """Pixels become channels, the inverse of :func:`pixel_shuffle`.

    Parameters
    ----------
    x : array_like, shape (N, C, spatial), sizes multiples of the factor
    factor : int

    Returns
    -------
    ndarray, shape (N, C * factor^axes, spatial / factor)
    """
    return _unshuffle("pixel_unshuffle", x, factor)


@pixel_unshuffle.backward
def pixel_unshuffle_backward(dy, x, factor, *, cache=None, needs=None):
    """Gradient of :func:`pixel_unshuffle`: the inverse rearrangement."""
    _factor("pixel_unshuffle_backward", x, factor)
    return single(
        "pixel_unshuffle_backward", pixel_unshuffle.operation.Gradients, needs, lambda: _shuffle("pixel_unshuffle_backward", dy, factor)
    )
