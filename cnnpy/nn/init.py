"""Initial values, in place. ``fan_in = shape[1] * taps``, ``fan_out = shape[0] * taps``.

References: X. Glorot, Y. Bengio, 2010 (xavier); K. He et al., 2015 (kaiming); Y. LeCun et al., 1998 (lecun); A. Saxe et al., 2014 (orthogonal).
"""

import math

import numpy as np

__all__ = [
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

PIECE = 1 << 18


def generator(rng):
    """A Generator from None (fresh), an int seed or a Generator."""
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng)


def fans(shape):
    """fan_in, fan_out of a weight."""
    if len(shape) < 2:
        raise ValueError(f"init: the array has shape {tuple(shape)}, expected at least two axes (out, in, ...)")
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def gain(nonlinearity, slope=0.01):
    """How much a nonlinearity shrinks its input's scale, to be made up for by the weights."""
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "leaky_relu": math.sqrt(2 / (1 + slope * slope))}
    if nonlinearity not in gains:
        raise ValueError(f"init.gain: nonlinearity is {nonlinearity!r}, expected one of {', '.join(gains)}")
    return gains[nonlinearity]


def _draw(tensor, draw):
    """Fills with ``draw(shape)``, some rows at a time: the float64 numbers of a large layer would take more memory than its training."""
    shape = tuple(tensor.shape) or (1,)
    rows = max(1, PIECE // max(1, math.prod(shape[1:])))
    for begin in range(0, shape[0], rows):
        part = draw((min(rows, shape[0] - begin), *shape[1:]))
        if tensor.ndim:
            tensor[begin : begin + rows] = part
        else:
            tensor[...] = part[0]
    return tensor


def _fill(tensor, values):
    tensor[...] = values
    return tensor


def zeros_(tensor):
    return _fill(tensor, 0)


def ones_(tensor):
    return _fill(tensor, 1)


def normal_(tensor, mean=0.0, std=1.0, rng=None):
    rng = generator(rng)
    return _draw(tensor, lambda shape: rng.normal(mean, std, shape))


def uniform_(tensor, low=0.0, high=1.0, rng=None):
    rng = generator(rng)
    return _draw(tensor, lambda shape: rng.uniform(low, high, shape))


def _kaiming_std(tensor, mode, nonlinearity):
    fan_in, fan_out = fans(tensor.shape)
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"init: mode is {mode!r}, expected 'fan_in' or 'fan_out'")
    return gain(nonlinearity) / math.sqrt(max(1, fan_in if mode == "fan_in" else fan_out))


def kaiming_normal_(tensor, *, mode="fan_in", nonlinearity="relu", rng=None):
    return normal_(tensor, 0.0, _kaiming_std(tensor, mode, nonlinearity), rng)


def kaiming_uniform_(tensor, *, mode="fan_in", nonlinearity="relu", rng=None):
    bound = math.sqrt(3) * _kaiming_std(tensor, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, rng)


def _xavier_std(tensor, scale):
    return scale * math.sqrt(2 / max(1, sum(fans(tensor.shape))))


def xavier_normal_(tensor, *, gain=1.0, rng=None):
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), rng)


def xavier_uniform_(tensor, *, gain=1.0, rng=None):
    bound = math.sqrt(3) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, rng)


def lecun_normal_(tensor, rng=None):
    return normal_(tensor, 0.0, 1 / math.sqrt(max(1, fans(tensor.shape)[0])), rng)


def lecun_uniform_(tensor, rng=None):
    bound = math.sqrt(3 / max(1, fans(tensor.shape)[0]))
    return uniform_(tensor, -bound, bound, rng)


def orthogonal_(tensor, *, gain=1.0, rng=None):
    """Rows (or columns, whichever are fewer) orthonormal, times gain. Its bits depend on NumPy's linear algebra."""
    fans(tensor.shape)
    rows = tensor.shape[0]
    flat = generator(rng).normal(size=(rows, math.prod(tensor.shape[1:])))
    q, r = np.linalg.qr(flat.T if flat.shape[0] < flat.shape[1] else flat)
    q = q * np.sign(np.diag(r))
    values = gain * (q.T if flat.shape[0] < flat.shape[1] else q).reshape(tensor.shape)
    return _fill(tensor, values.astype(tensor.dtype))


def fan_in_uniform(shape, fan_in, rng, dtype):
    """What convolutions and dense layers start from, weights and biases alike: uniform in +-1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(max(1, fan_in))
    rng = generator(rng)
    return _draw(np.empty(shape, dtype), lambda part: rng.uniform(-bound, bound, part))
