"""Element-wise activation functions, softmax and log-softmax."""

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import single

__all__ = [
    "log_softmax",
    "log_softmax_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "tanh",
    "tanh_backward",
]


@operation("x")
def relu(x, *, out=None):
    """Rectifier, element by element: ``y = 0 if x < 0 else x``; NaN stays NaN.

    Parameters
    ----------
    x : array_like, any shape
    out : ndarray, optional
        Takes the result; exact shape and dtype.

    Returns
    -------
    ndarray, the shape of x

    Examples
    --------
    >>> import cnnpy.functional as F
    >>> F.relu([-1.0, 0.0, 2.0])
    array([0., 0., 2.])
    """
    return _core.relu_forward(x, out)


@relu.backward
def relu_backward(dy, x, *, cache=None, needs=None):
    """Gradient of :func:`relu`: ``dx = dy`` where not ``x <= 0``, else 0."""
    return single("relu_backward", relu.operation.Gradients, needs, lambda: _core.relu_backward(dy, x))


@operation("x", caches=True)
def sigmoid(x, *, out=None, return_cache=False):
    """Logistic function ``y = 1 / (1 + e^-x)``, within 4 ulp, stable on both sides.

    Parameters
    ----------
    x : array_like, any shape
    out : ndarray, optional
    return_cache : bool
        Return ``(y, cache)``; the cache is y.

    Returns
    -------
    ndarray, the shape of x
    """
    y = _core.sigmoid_forward(x, out)
    return (y, y) if return_cache else y


@sigmoid.backward
def sigmoid_backward(dy, x, *, cache=None, needs=None):
    """Gradient of :func:`sigmoid`: ``dx = dy * y * (1 - y)``."""
    return single(
        "sigmoid_backward",
        sigmoid.operation.Gradients,
        needs,
        lambda: _core.sigmoid_backward(dy, _core.sigmoid_forward(x, None) if cache is None else cache),
    )


@operation("x", caches=True)
def tanh(x, *, out=None, return_cache=False):
    """Hyperbolic tangent, within 4 ulp.

    Parameters
    ----------
    x : array_like, any shape
    out : ndarray, optional
    return_cache : bool
        Return ``(y, cache)``; the cache is y.

    Returns
    -------
    ndarray, the shape of x
    """
    y = _core.tanh_forward(x, out)
    return (y, y) if return_cache else y


@tanh.backward
def tanh_backward(dy, x, *, cache=None, needs=None):
    """Gradient of :func:`tanh`: ``dx = dy * (1 - y^2)``."""
    return single(
        "tanh_backward",
        tanh.operation.Gradients,
        needs,
        lambda: _core.tanh_backward(dy, _core.tanh_forward(x, None) if cache is None else cache),
    )


@operation("x", caches=True)
def softmax(x, *, axis=-1, return_cache=False):
    """``y = e^(x - max) / sum e^(x - max)`` along one axis.

    Parameters
    ----------
    x : array_like, at least one axis
    axis : int
    return_cache : bool
        Return ``(y, cache)``; the cache is y.

    Returns
    -------
    ndarray, the shape of x, C order
        A row that holds NaN or +Inf is NaN.

    Examples
    --------
    >>> import cnnpy.functional as F
    >>> F.softmax([0.0, 0.0])
    array([0.5, 0.5])
    """
    y = _core.softmax_forward(x, axis)
    return (y, y) if return_cache else y


@softmax.backward
def softmax_backward(dy, x, *, axis=-1, cache=None, needs=None):
    """Gradient of :func:`softmax`: ``dx = y * (dy - sum(dy * y))``."""
    return single(
        "softmax_backward",
        softmax.operation.Gradients,
        needs,
        lambda: _core.softmax_backward(dy, _core.softmax_forward(x, axis) if cache is None else cache, axis),
    )


@operation("x", caches=True)
def log_softmax(x, *, axis=-1, return_cache=False):
    """``y = x - max - log(sum e^(x - max))`` along one axis.

    Parameters
    ----------
    x : array_like, at least one axis
    axis : int
    return_cache : bool
        Return ``(y, cache)``; the cache is y.

    Returns
    -------
    ndarray, the shape of x, C order
    """
    y = _core.log_softmax_forward(x, axis)
    return (y, y) if return_cache else y


@log_softmax.backward
def log_softmax_backward(dy, x, *, axis=-1, cache=None, needs=None):
    """Gradient of :func:`log_softmax`: ``dx = dy - softmax(x) * sum(dy)``."""
    return single(
        "log_softmax_backward",
        log_softmax.operation.Gradients,
        needs,
        lambda: _core.log_softmax_backward(dy, _core.log_softmax_forward(x, axis) if cache is None else cache, axis),
    )
