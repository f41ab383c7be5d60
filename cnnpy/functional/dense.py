"""Dense layers."""

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import gradients, select

__all__ = ["linear", "linear_backward"]


@operation("x weight bias?")
def linear(x, weight, bias=None, *, out=None):
    """``y = x weight' + bias``: every output sees every input.

    Parameters
    ----------
    x : array_like, shape (..., in)
    weight : array_like, shape (out, in)
    bias : array_like, shape (out,), optional
    out : ndarray, optional

    Returns
    -------
    ndarray, shape (..., out)

    Raises
    ------
    ValueError
        The last axis of x is not weight's second.

    Examples
    --------
    >>> import cnnpy.functional as F
    >>> F.linear([1.0, 2.0], [[3.0, 4.0]], [0.5])
    array([11.5])
    """
    return _core.linear_forward(x, weight, bias, out)


@linear.backward
def linear_backward(dy, x, weight, bias=None, *, cache=None, needs=None):
    """Gradients of :func:`linear`: ``dx = dy weight``, ``dweight = dy' x``, ``dbias = sum dy`` over all leading axes."""
    Gradients = linear.operation.Gradients
    return gradients(Gradients, _core.linear_backward(dy, x, weight, bias, select("linear_backward", Gradients, needs)))
