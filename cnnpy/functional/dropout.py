"""Dropout: masks that are a function of a key and of each element's place, so threads, memory order and resuming do not change them."""

import numpy as np

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import single

__all__ = [
    "dropout",
    "dropout1d",
    "dropout1d_backward",
    "dropout2d",
    "dropout2d_backward",
    "dropout3d",
    "dropout3d_backward",
    "dropout_backward",
]


def _key(function, rng):
    """64 bits: an int's own, a Generator's next, fresh ones for None."""
    if rng is None:
        rng = np.random.default_rng()
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(0, 2**63))
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer)):
        raise TypeError(f"{function}: rng is {type(rng).__name__}, expected an int or a numpy.random.Generator")
    if rng < 0:
        raise ValueError(f"{function}: rng is {rng}, expected at least 0")
    return int(rng) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF  # neighbouring seeds, distant keys


def _check(function, training):
    if not isinstance(training, (bool, np.bool_)):
        raise TypeError(f"{function}: training is {type(training).__name__}, expected True or False")


_DOC = """Sets {what} to zero with probability p and divides the others by ``1 - p``, so that the mean stays.

Parameters
----------
x : array_like{shape}
p : float, 0 to 1
    Probability of a zero.
training : bool
    False: the result is x.
rng : int or numpy.random.Generator, optional
    An int gives the same mask at every call, a Generator another one each time; fresh randomness by default.
return_cache : bool
    Return ``(y, cache)``; the cache is the mask's key.

Returns
-------
ndarray, the shape of x; channels-last if x is, else C order

Notes
-----
``y = x / (1 - p)`` where u >= p, else 0; u has 24 random bits, a hash of the key and of the {place}.

References
----------
N. Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014.
"""


def _define(name, whole_channels, what, shape, place):
    def forward(x, p=0.5, *, training=True, rng=None, return_cache=False):
        _check(name, training)
        key = _key(name, rng) if training else 0
        y = _core.dropout(name, x, p if training else _share(name, x, p), key, whole_channels)
        return (y, key) if return_cache else y

    forward.__name__ = forward.__qualname__ = name
    forward.__doc__ = _DOC.format(what=what, shape=shape, place=place)
    call = operation("x", caches=True, shape_only=True)(forward)
    op = call.operation

    def backward(dy, x, p=0.5, *, training=True, rng=None, cache=None, needs=None):
        function = f"{name}_backward"
        _check(function, training)
        if training and cache is None and not isinstance(rng, (int, np.integer)):
            raise ValueError(f"{function}: the mask is not known, expected the forward's cache or an int rng")
        if _core.shape_of(function, dy) != _core.shape_of(function, x):
            raise ValueError(f"{function}: dy has shape {_core.shape_of(function, dy)}, expected {_core.shape_of(function, x)}")
        key = 0 if not training else _key(function, rng) if cache is None else cache
        return single(function, op.Gradients, needs, lambda: _core.dropout(function, dy, p if training else 0.0, key, whole_channels))

    backward.__name__ = backward.__qualname__ = f"{name}_backward"
    backward.__doc__ = f"Gradient of :func:`{name}`: dy under the same mask, ``mask dy / (1 - p)``."
    call.backward(backward)
    return call, backward


def _share(name, x, p):
    """p of a call that drops nothing: checked all the same."""
    if isinstance(p, bool) or not isinstance(p, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: p is {type(p).__name__}, expected a real number")
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p is {p!r}, expected a number from 0 to 1")
    return 0.0


dropout, dropout_backward = _define("dropout", False, "elements", "", "element's place in C order")
_CHANNELS = ("whole channels", ", shape (N, C, spatial)", "sample and channel")
dropout1d, dropout1d_backward = _define("dropout1d", True, *_CHANNELS)
dropout2d, dropout2d_backward = _define("dropout2d", True, *_CHANNELS)
dropout3d, dropout3d_backward = _define("dropout3d", True, *_CHANNELS)
