"""Pictures in rows and columns."""

import numpy as np

from cnnpy.plot._axes import axes

__all__ = ["filters", "image_grid"]


def _tiles(pictures, columns, gap, scale):
    """(N, H, W, 3) to one picture, enlarged by a whole number."""
    n, h, w, _ = pictures.shape
    rows = -(-n // columns)
    sheet = np.ones((rows * (h + gap) - gap, columns * (w + gap) - gap, 3))
    for i, picture in enumerate(pictures):
        r, c = divmod(i, columns)
        sheet[r * (h + gap) : r * (h + gap) + h, c * (w + gap) : c * (w + gap) + w] = picture
    return sheet.repeat(scale, axis=0).repeat(scale, axis=1)


def _colours(pictures):
    """(N, C, H, W) of any numbers to (N, H, W, 3) in 0..1: 1 or 3 channels as they are, of others the first three or the mean."""
    pictures = np.asarray(pictures, np.float64)
    c = pictures.shape[1]
    if c not in (1, 3):
        pictures = pictures.mean(axis=1, keepdims=True)
    pictures = np.broadcast_to(pictures, (len(pictures), 3, *pictures.shape[2:]))
    return np.moveaxis(pictures, 1, -1)


def image_grid(images, *, columns=8, ax=None):
    """Images in rows and columns.

    Parameters
    ----------
    images : array_like, shape (N, C, H, W)
        uint8, or reals between 0 and 1; one channel is shown in grey, three in colour, others as their mean.
    columns : int
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    images = np.asarray(images)
    if images.ndim != 4 or not images.size:
        raise ValueError(f"plot.image_grid: images has shape {images.shape}, expected (N, C, H, W)")
    pictures = _colours(images) / (255.0 if images.dtype == np.uint8 else 1.0)
    ax = axes("image_grid", ax)
    ax.imshow(_tiles(np.clip(pictures, 0, 1), min(columns, len(images)), 1, 1), interpolation="nearest")
    ax.axis("off")
    return ax


def filters(weight, *, columns=None, ax=None):
    """The filters of a convolution, each scaled to its own range around zero.

    Parameters
    ----------
    weight : array_like, shape (K, C, R, S)
        Filters of three channels are shown in colour (middle grey is zero), of one in grey, others as their mean over the channels.
    columns : int, optional
        About the square root of K by default.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    weight = np.asarray(weight)
    if weight.ndim != 4 or not weight.size:
        raise ValueError(f"plot.filters: weight has shape {weight.shape}, expected (K, C, R, S)")
    pictures = _colours(weight)
    largest = np.abs(pictures).reshape(len(pictures), -1).max(axis=1)
    pictures = 0.5 + 0.5 * pictures / np.where(largest > 0, largest, 1)[:, None, None, None]
    ax = axes("filters", ax)
    ax.imshow(_tiles(pictures, columns or int(np.ceil(np.sqrt(len(pictures) * 1.6))), 1, 1), interpolation="nearest")
    ax.axis("off")
    return ax
