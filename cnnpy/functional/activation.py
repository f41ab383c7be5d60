"""Element-wise activation functions, softmax and log-softmax."""

import inspect
from typing import Any

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import single

__all__ = [
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "hardtanh",
    "hardtanh_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "log_softmax",
    "log_softmax_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
]


@operation("x", caches=True, shape_only=True)
def relu(x, *, out=None, return_cache=False):
    """Rectifier, element by element: ``y = 0 if x < 0 else x``; NaN stays NaN.

    Parameters
    ----------
    x : array_like, any shape
    out : ndarray, optional
        Takes the result; exact shape and dtype.
    return_cache : bool
        Return ``(y, cache)``; the cache is y.

    Returns
    -------
    ndarray, the shape of x

    Examples
    --------
    >>> import cnnpy.functional as F
    >>> F.relu([-1.0, 0.0, 2.0])
    array([0., 0., 2.])
    """
    y = _core.relu_forward(x, out)
    return (y, y) if return_cache else y


@relu.backward
def relu_backward(dy, x, *, cache=None, needs=None):
    """Gradient of :func:`relu`: ``dx = dy`` where not ``x <= 0``, which is where not ``y <= 0``, else 0."""
    return single("relu_backward", relu.operation.Gradients, needs, lambda: _core.relu_backward(dy, x if cache is None else cache))


@operation("x", caches=True, shape_only=True)
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


@operation("x", caches=True, shape_only=True)
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


@operation("x", caches=True, shape_only=True)
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


@operation("x", caches=True, shape_only=True)
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


def _define(name, summary, formula, slope, options=(), reference="", entry=None):
    """An element-wise function of x and its pair; options: (name, default, meaning)."""
    forward_entry, backward_entry = (getattr(_core, f"{entry or name}_{way}") for way in ("forward", "backward"))
    fixed = {"relu6": (0.0, 6.0)}.get(name)
    defaults = {n: default for n, default, _ in options}

    def numbers(given):
        values = fixed or tuple(given[n] for n, _, _ in options)
        return () if not values else (*values, 0.0)[:2] if len(values) < 2 else values

    def forward(x, *, out=None, **given):
        return forward_entry(x, out, *numbers(_options(name, given, defaults)))

    def backward(dy, x, *, cache=None, needs=None, **given):
        values = numbers(_options(f"{name}_backward", given, defaults))
        return single(f"{name}_backward", call.operation.Gradients, needs, lambda: backward_entry(dy, x, *values))

    keywords = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=v) for n, v in (*defaults.items(), ("out", None))]
    signature: Any = inspect.Signature([inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD), *keywords])
    listed = "".join(f"{n} : float, {default} by default\n    {meaning}\n" for n, default, meaning in options)
    forward.__name__ = forward.__qualname__ = name
    forward.__dict__["__signature__"] = signature
    forward.__doc__ = (
        f"{summary}\n\nParameters\n----------\nx : array_like, any shape\n{listed}out : ndarray, optional\n\nReturns\n-------\n"
        f"ndarray, the shape of x\n\nNotes\n-----\n``y = {formula}``; its slope is ``{slope}``. NaN stays NaN.\n"
    ) + (f"\nReferences\n----------\n{reference}\n" if reference else "")
    backward.__name__ = backward.__qualname__ = f"{name}_backward"
    backward.__doc__ = f"Gradient of :func:`{name}`: ``dx = dy * ({slope})``."
    call = operation("x")(forward)
    call.backward(backward)
    return call, backward


def _options(function, given, defaults):
    for n in given:
        if n not in defaults:
            raise TypeError(f"{function}: unexpected option {n!r}")
    return {**defaults, **given}


relu6, relu6_backward = _define("relu6", "Rectifier that stops at 6.", "min(max(x, 0), 6)", "1 where 0 < x < 6, else 0")
hardtanh, hardtanh_backward = _define(
    "hardtanh",
    "Clips to a range.",
    "min(max(x, min_val), max_val)",
    "1 strictly inside, else 0",
    (("min_val", -1.0, "Lower end."), ("max_val", 1.0, "Upper end.")),
)
leaky_relu, leaky_relu_backward = _define(
    "leaky_relu",
    "Rectifier that lets a little of the negative side through.",
    "x if x > 0 else negative_slope * x",
    "1 if x > 0 else negative_slope",
    (("negative_slope", 0.01, "Slope of the negative side."),),
)
elu, elu_backward = _define(
    "elu",
    "Exponential linear unit.",
    "x if x > 0 else alpha * (e^x - 1)",
    "1 if x > 0 else alpha * e^x",
    (("alpha", 1.0, "Minus the limit at -infinity."),),
    "D. Clevert, T. Unterthiner, S. Hochreiter, Fast and accurate deep network learning by exponential linear units, 2016.",
)
silu, silu_backward = _define(
    "silu",
    "Sigmoid linear unit, within 6 ulp.",
    "x * s, s = sigmoid(x)",
    "s * (1 + x * (1 - s))",
    (),
    "P. Ramachandran, B. Zoph, Q. Le, 2017.",
)
softplus, softplus_backward = _define(
    "softplus", "Smooth rectifier, stable on both sides, without a threshold.", "log(1 + e^x)", "sigmoid(x)"
)


def _gelu_entry(function, approximate, way):
    if approximate not in ("none", "tanh"):
        raise ValueError(f"{function}: approximate is {approximate!r}, expected 'none' or 'tanh'")
    return getattr(_core, f"gelu_{way}" if approximate == "none" else f"gelu_tanh_{way}")


@operation("x")
def gelu(x, *, approximate="none", out=None):
    """Gaussian error linear unit, within ``4 u |x|`` (u the unit roundoff).

    Parameters
    ----------
    x : array_like, any shape
    approximate : {'none', 'tanh'}
        The exact form, or the one with tanh.
    out : ndarray, optional

    Returns
    -------
    ndarray, the shape of x

    Notes
    -----
    ``y = x Phi(x)``, Phi the normal distribution; 'tanh': ``y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))``.

    References
    ----------
    D. Hendrycks, K. Gimpel, Gaussian error linear units, 2016.
    """
    return _gelu_entry("gelu", approximate, "forward")(x, out)


@gelu.backward
def gelu_backward(dy, x, *, approximate="none", cache=None, needs=None):
    """Gradient of :func:`gelu`: ``dx = dy (Phi(x) + x phi(x))``, phi the normal density; of the tanh form its own derivative."""
    entry = _gelu_entry("gelu_backward", approximate, "backward")
    return single("gelu_backward", gelu.operation.Gradients, needs, lambda: entry(dy, x))
