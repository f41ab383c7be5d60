"""Padding, and windows spelled out as columns."""

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import select

__all__ = ["fold", "fold_backward", "pad", "pad_backward", "unfold", "unfold_backward"]


@operation("x")
def pad(x, pads, *, mode="zeros", value=0.0):
    """Adds cells around an image, or crops it.

    Parameters
    ----------
    x : array_like, shape (N, C, spatial) or, unbatched, (C, spatial), one to three spatial axes
    pads : sequence of pairs (before, after), one a spatial axis
        Negative numbers crop.
    mode : {'zeros', 'reflect', 'symmetric', 'replicate', 'circular'}, or 'constant', 'edge', 'wrap'
        What added cells show: `value`; the mirrored image without or with the edge repeated; the nearest edge; the image again.
        The copying modes may pad wider than the image and then repeat.
    value : float
        Of the cells added by 'zeros'.

    Returns
    -------
    ndarray, each spatial axis longer by before + after

    Raises
    ------
    ValueError
        Nothing would be left, or an empty axis is to be copied.

    Examples
    --------
    >>> import cnnpy.functional as F
    >>> F.pad([[1.0, 2, 3]], [(2, 1)], mode="reflect")
    array([[3., 2., 1., 2., 3., 2.]])
    """
    return _core.pad_forward(x, pads, mode, value)


@pad.backward
def pad_backward(dy, x, pads, *, mode="zeros", value=0.0, cache=None, needs=None):
    """Gradient of :func:`pad`: every cell gets the sum over the padded cells that show it; the border is folded back, not cropped."""
    Gradients = pad.operation.Gradients
    return Gradients(_core.pad_backward(dy, x, pads, mode) if select("pad_backward", Gradients, needs) else None)


@operation("x")
def unfold(x, kernel_size, *, stride=1, padding=0, dilation=1):
    """Windows of an image as columns: what turns a convolution into a matrix product.

    Parameters
    ----------
    x : array_like, shape (N, C, spatial), one to three spatial axes
    kernel_size, stride, dilation : int or one int an axis
    padding : int, one int an axis, pairs, 'valid', 'same' or 'full'
        Of zeros.

    Returns
    -------
    ndarray, shape (N, C * prod(kernel_size), L)
        L windows in scan order, the channel's taps in scan order.
    """
    return _core.unfold("unfold", x, kernel_size, stride, padding, dilation)


@unfold.backward
def unfold_backward(dy, x, kernel_size, *, stride=1, padding=0, dilation=1, cache=None, needs=None):
    """Gradient of :func:`unfold`: :func:`fold` of dy."""
    Gradients = unfold.operation.Gradients
    if not select("unfold_backward", Gradients, needs):
        return Gradients(None)
    shape = _shape("unfold_backward", x)
    return Gradients(_core.fold("unfold_backward", dy, shape[2:], kernel_size, stride, padding, dilation))


def _shape(function, x):
    """The shape of an array of numbers; anything else is refused by the core."""
    return _core.shape_of(function, x)


@operation("cols")
def fold(cols, output_size, kernel_size, *, stride=1, padding=0, dilation=1):
    """Adds columns back into an image: the adjoint of :func:`unfold`. ``fold(unfold(x))`` is x times the number of windows over each cell.

    Parameters
    ----------
    cols : array_like, shape (N, C * prod(kernel_size), L)
    output_size : sequence of int
        Spatial size of the image; its length is the number of spatial axes.
    kernel_size, stride, padding, dilation
        As in :func:`unfold`.

    Returns
    -------
    ndarray, shape (N, C, *output_size)
    """
    return _core.fold("fold", cols, output_size, kernel_size, stride, padding, dilation)


@fold.backward
def fold_backward(dy, cols, output_size, kernel_size, *, stride=1, padding=0, dilation=1, cache=None, needs=None):
    """Gradient of :func:`fold`: :func:`unfold` of dy."""
    Gradients = fold.operation.Gradients
    if not select("fold_backward", Gradients, needs):
        return Gradients(None)
    _shape("fold_backward", cols)
    shape = _shape("fold_backward", dy)
    if not isinstance(output_size, (tuple, list)) or shape[2:] != tuple(output_size):
        raise ValueError(f"fold_backward: output_size is {output_size!r}, expected {shape[2:]}, the spatial size of dy")
    return Gradients(_core.unfold("fold_backward", dy, kernel_size, stride, padding, dilation))
