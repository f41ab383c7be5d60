"""Functions of one element, and softmax."""

import numpy as np


def relu(x):
    return np.where(x < 0, 0.0, x)


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1 + e)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def log_softmax(x, axis=-1):
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def f64(function):
    return lambda *arrays, **options: function(*(np.asarray(a, np.float64) for a in arrays), **options)


def _softmax_backward(dy, x, axis=-1):
    y = softmax(x, axis)
    return (y * (dy - (dy * y).sum(axis=axis, keepdims=True)),)


def _inside(x, low, high):
    return (x > low) & (x < high)


def _erf(x):
    import math

    return np.vectorize(math.erf, otypes=[float])(x)


def _normal(x):
    import math

    return np.vectorize(lambda v: math.erfc(-v / math.sqrt(2)) / 2, otypes=[float])(x)


_K = np.sqrt(2 / np.pi)


def gelu(x, approximate="none"):
    return x * _normal(x) if approximate == "none" else x / 2 * (1 + np.tanh(_K * (x + 0.044715 * x**3)))


def gelu_slope(x, approximate="none"):
    if approximate == "none":
        return _normal(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    t = np.tanh(_K * (x + 0.044715 * x**3))
    return (1 + t) / 2 + x / 2 * (1 - t**2) * _K * (1 + 0.134145 * x**2)


VALUES = {  # value and slope
    "relu6": (lambda x: np.clip(x, 0, 6), lambda x: _inside(x, 0, 6) * 1.0),
    "hardtanh": (
        lambda x, min_val=-1.0, max_val=1.0: np.clip(x, min_val, max_val),
        lambda x, min_val=-1.0, max_val=1.0: _inside(x, min_val, max_val) * 1.0,
    ),
    "leaky_relu": (
        lambda x, negative_slope=0.01: np.where(x > 0, x, negative_slope * x),
        lambda x, negative_slope=0.01: np.where(x > 0, 1.0, negative_slope),
    ),
    "elu": (
        lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
        lambda x, alpha=1.0: np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0))),
    ),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
    "gelu": (gelu, gelu_slope),
    "softplus": (lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), sigmoid),
}

FORWARD = {"relu": f64(relu), "sigmoid": f64(sigmoid), "tanh": f64(np.tanh), "softmax": f64(softmax), "log_softmax": f64(log_softmax)}
BACKWARD = {
    "relu": f64(lambda dy, x: (np.where(x <= 0, 0.0, dy),)),
    "sigmoid": f64(lambda dy, x: (dy * sigmoid(x) * (1 - sigmoid(x)),)),
    "tanh": f64(lambda dy, x: (dy * (1 - np.tanh(x) ** 2),)),
    "softmax": f64(_softmax_backward),
    "log_softmax": f64(lambda dy, x, axis=-1: (dy - softmax(x, axis) * dy.sum(axis=axis, keepdims=True),)),
}
FORWARD |= {name: f64(value) for name, (value, _) in VALUES.items()}
BACKWARD |= {name: f64(lambda dy, x, slope=slope, **o: (dy * slope(x, **o),)) for name, (_, slope) in VALUES.items()}
