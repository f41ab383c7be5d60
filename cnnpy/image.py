"""Filters on pictures, (H, W) or (H, W, C): correlation with small kernels, every colour alone.

All take ``padding_mode`` as :func:`cnnpy.conv2d` does, 'reflect' by default, and keep the size.
"""

import numpy as np

from cnnpy import functional as F

__all__ = ["box", "filter2d", "gaussian", "laplacian", "prewitt", "scharr", "sharpen", "sobel"]


def _check(function, image):
    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"{function}: image has shape {image.shape}, expected (H, W) or (H, W, C)")
    if image.dtype.kind not in "biuf" or image.dtype.itemsize > 8:
        raise TypeError(f"{function}: image has dtype {image.dtype}, expected a real number type up to float64")
    return image.astype(np.result_type(image, np.float32), copy=False)


def _correlate(image, kernel, padding_mode, flip=False):
    """Every colour is a sample of one channel."""
    colours = image[None, None] if image.ndim == 2 else np.moveaxis(image, -1, 0)[:, None]
    weight = np.asarray(kernel, image.dtype)[None, None]
    y = F.conv2d(colours, weight, padding="same", padding_mode=padding_mode, flip=flip)
    return y[0, 0] if image.ndim == 2 else np.ascontiguousarray(np.moveaxis(y[:, 0], 0, -1))


def filter2d(image, kernel, *, padding_mode="reflect", flip=False):
    """Correlation of a picture with a kernel; ``flip=True`` is the convolution of mathematics.

    Parameters
    ----------
    image : array_like, shape (H, W) or (H, W, C)
    kernel : array_like, shape (kh, kw)
    padding_mode : str
    flip : bool

    Returns
    -------
    ndarray, the shape of image
    """
    kernel = np.asarray(kernel)
    if kernel.ndim != 2 or 0 in kernel.shape:
        raise ValueError(f"filter2d: kernel has shape {kernel.shape}, expected (kh, kw)")
    return _correlate(_check("filter2d", image), kernel, padding_mode, flip)


def _gradient(name, smooth):
    smooth = np.array(smooth, float)
    across = np.outer(smooth, [-1, 0, 1])

    def function(image, *, axis=None, padding_mode="reflect"):
        image = _check(name, image)
        if axis is not None and (isinstance(axis, bool) or axis not in (0, 1)):
            raise ValueError(f"{name}: axis is {axis!r}, expected None, 0 or 1")
        if axis is not None:
            return _correlate(image, across if axis == 1 else across.T, padding_mode)
        return np.hypot(_correlate(image, across.T, padding_mode), _correlate(image, across, padding_mode))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{name.title()}'s gradient: differences (-1, 0, 1) along one axis, smoothed by {tuple(int(v) for v in smooth)} along the other, not rescaled.

    Parameters
    ----------
    image : array_like, shape (H, W) or (H, W, C)
    axis : None, 0 or 1
        0: down the rows; 1: along the columns; None: the magnitude of both.
    padding_mode : str

    Returns
    -------
    ndarray, the shape of image
    """
    return function


sobel = _gradient("sobel", (1, 2, 1))
scharr = _gradient("scharr", (3, 10, 3))
prewitt = _gradient("prewitt", (1, 1, 1))


def laplacian(image, *, padding_mode="reflect"):
    """Sum of second differences, kernel ((0,1,0),(1,-4,1),(0,1,0))."""
    return _correlate(_check("laplacian", image), [[0, 1, 0], [1, -4, 1], [0, 1, 0]], padding_mode)


def sharpen(image, *, padding_mode="reflect"):
    """The picture minus its Laplacian: what lies between the edges stays, the edges grow steeper."""
    return _correlate(_check("sharpen", image), [[0, -1, 0], [-1, 5, -1], [0, -1, 0]], padding_mode)


def _size(function, size):
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
        raise TypeError(f"{function}: size is {type(size).__name__}, expected an integer")
    if size < 1:
        raise ValueError(f"{function}: size is {size}, expected at least 1")
    return int(size)


def box(image, size=3, *, padding_mode="reflect"):
    """Mean of the size x size neighbourhood."""
    size = _size("box", size)
    return _correlate(_check("box", image), np.full((size, size), 1 / size**2), padding_mode)


def gaussian(image, sigma=1.0, *, padding_mode="reflect"):
    """Smoothing by ``e^(-i^2 / (2 sigma^2))`` along both axes, out to floor(4 sigma + 1/2) cells, of area 1.

    Parameters
    ----------
    image : array_like, shape (H, W) or (H, W, C)
    sigma : float
        Standard deviation in pixels, above 0.
    padding_mode : str

    Returns
    -------
    ndarray, the shape of image
    """
    if isinstance(sigma, bool) or not isinstance(sigma, (int, float, np.integer, np.floating)) or not 0 < sigma < 1e4:
        raise ValueError(f"gaussian: sigma is {sigma!r}, expected a number above 0")
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * float(sigma) ** 2))
    weights /= weights.sum()
    image = _check("gaussian", image)
    return _correlate(_correlate(image, weights[:, None], padding_mode), weights[None, :], padding_mode)
