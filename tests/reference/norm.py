"""Normalisation, set by set, and dropout by its hash."""

import numpy as np


def _norm_sets(x, sets, eps, centred=True, moments=None):
    """(x - m) / sqrt(v + eps) for every boolean mask of `sets`."""
    y = np.zeros(x.shape)
    for i, where in enumerate(sets):
        m, v = moments(i) if moments else ((x[where].mean() if centred else 0.0), None)
        v = np.mean((x[where] - m) ** 2) if v is None else v
        y[where] = (x[where] - m) / np.sqrt(v + eps)
    return y


def _norm_sets_backward(t, x, sets, eps, centred=True, moments=None):
    """dx of sum(t * normalised x); with given moments they are constants."""
    dx = np.zeros(x.shape)
    for i, where in enumerate(sets):
        a, g = x[where], t[where]
        m, v = moments(i) if moments else ((a.mean() if centred else 0.0), None)
        v = np.mean((a - m) ** 2) if v is None else v
        r = 1 / np.sqrt(v + eps)
        xh = (a - m) * r
        dx[where] = r * g if moments else r * (g - (g.mean() if centred else 0.0) - xh * (g * xh).mean())
    return dx


def _masks(shape, labels):
    labels = np.broadcast_to(labels, shape)
    return [labels == i for i in range(int(labels.max()) + 1 if labels.size else 0)]


def _spread(a, x, value):
    """Per channel to x's shape."""
    return (
        np.full(x.shape, value) if a is None else np.broadcast_to(np.asarray(a, np.float64).reshape(1, -1, *(1,) * (x.ndim - 2)), x.shape)
    )


def _channel_sums(a):
    return a.sum(axis=(0, *range(2, a.ndim)))


def batch(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    moments = None if training else lambda c: (running_mean[c], running_var[c])
    sets = _masks(x.shape, np.arange(x.shape[1]).reshape(1, -1, *(1,) * (x.ndim - 2)))
    return _norm_sets(x, sets, eps, moments=moments) * _spread(weight, x, 1.0) + _spread(bias, x, 0.0)


def batch_backward(dy, x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    moments = None if training else lambda c: (running_mean[c], running_var[c])
    sets = _masks(x.shape, np.arange(x.shape[1]).reshape(1, -1, *(1,) * (x.ndim - 2)))
    dx = _norm_sets_backward(dy * _spread(weight, x, 1.0), x, sets, eps, moments=moments)
    dw = None if weight is None else _channel_sums(dy * _norm_sets(x, sets, eps, moments=moments))
    return dx, dw, None if bias is None else _channel_sums(dy)


def _groups(x, num_groups):
    n, c = x.shape[:2]
    label = np.arange(n)[:, None] * num_groups + np.arange(c)[None] // (c // num_groups)
    return _masks(x.shape, label.reshape(n, c, *(1,) * (x.ndim - 2)))


def group(x, num_groups, weight=None, bias=None, eps=1e-5):
    return _norm_sets(x, _groups(x, num_groups), eps) * _spread(weight, x, 1.0) + _spread(bias, x, 0.0)


def group_backward(dy, x, num_groups, weight=None, bias=None, eps=1e-5):
    sets = _groups(x, num_groups)
    dx = _norm_sets_backward(dy * _spread(weight, x, 1.0), x, sets, eps)
    dw = None if weight is None else _channel_sums(dy * _norm_sets(x, sets, eps))
    return dx, dw, None if bias is None else _channel_sums(dy)


def _rows(x, normalized_shape):
    d = len(normalized_shape) if isinstance(normalized_shape, tuple) else 1
    lead = x.shape[: x.ndim - d]
    return _masks(x.shape, np.arange(int(np.prod(lead))).reshape(*lead, *(1,) * d)), tuple(range(x.ndim - d))


def layer(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    y = _norm_sets(x, _rows(x, normalized_shape)[0], eps)
    return y * (1.0 if weight is None else weight) + (0.0 if bias is None else bias)


def layer_backward(dy, x, normalized_shape, weight=None, bias=None, eps=1e-5):
    sets, lead = _rows(x, normalized_shape)
    dx = _norm_sets_backward(dy * (1.0 if weight is None else weight), x, sets, eps)
    dw = None if weight is None else (dy * _norm_sets(x, sets, eps)).sum(axis=lead)
    return dx, dw, None if bias is None else dy.sum(axis=lead)


def rms(x, normalized_shape, weight=None, eps=None):
    return _norm_sets(x, _rows(x, normalized_shape)[0], eps, centred=False) * (1.0 if weight is None else weight)


def rms_backward(dy, x, normalized_shape, weight=None, eps=None):
    sets, lead = _rows(x, normalized_shape)
    dx = _norm_sets_backward(dy * (1.0 if weight is None else weight), x, sets, eps, centred=False)
    return dx, None if weight is None else (dy * _norm_sets(x, sets, eps, centred=False)).sum(axis=lead)


def _energies(x, size, alpha, k):
    z = np.full(x.shape, float(k))
    for c in range(x.shape[1]):
        low, high = max(0, c - size // 2), min(x.shape[1], c + (size - 1) // 2 + 1)
        z[:, c] += alpha / size * (x[:, low:high] ** 2).sum(axis=1)
    return z


def local_response(x, size, alpha=1e-4, beta=0.75, k=1.0):
    return x * _energies(x, size, alpha, k) ** -beta


def local_response_backward(dy, x, size, alpha=1e-4, beta=0.75, k=1.0):
    z = _energies(x, size, alpha, k)
    dx = dy * z**-beta
    for j in range(x.shape[1]):
        for c in range(max(0, j - size // 2), min(x.shape[1], j + (size - 1) // 2 + 1)):
            dx[:, c] -= 2 * alpha * beta / size * x[:, c] * dy[:, j] * x[:, j] * z[:, j] ** (-beta - 1)
    return (dx,)


def _hash(v):
    m = 0xFFFFFFFF
    v ^= v >> 17
    v = v * 0xED5AD4BB & m
    v ^= v >> 11
    v = v * 0xAC4C1B51 & m
    v ^= v >> 15
    v = v * 0x31848BAB & m
    return v ^ v >> 14


def kept(shape, p, rng, whole_channels):
    """Which elements stay, one after the other in C order."""
    key, mask = rng * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF, np.zeros(shape, bool)
    inner = int(np.prod(shape[2:]))
    for place, at in enumerate(np.ndindex(*shape)):
        number = place // inner if whole_channels else place
        first = _hash((number & 0xFFFFFFFF) + (key & 0xFFFFFFFF) & 0xFFFFFFFF)
        mask[at] = _hash(first ^ ((key >> 32) + (number >> 32) * 0x9E3779B9 & 0xFFFFFFFF)) >> 8 >= int(p * 2**24 + 0.5)
    return mask


def dropout(whole_channels):
    def forward(x, p=0.5, training=True, rng=None):
        return x * kept(x.shape, p, rng, whole_channels) / (1 - p) if training and p < 1 else x * (not training)

    return forward, lambda dy, x, **o: (forward(dy, **o),)


def _f64(function):
    def call(*arrays, **options):
        def real(a):
            return np.asarray(a, np.float64) if isinstance(a, np.ndarray) else a

        return function(*map(real, arrays), **options)

    return call


_PAIRS = {
    "batch_norm": (batch, batch_backward),
    "group_norm": (group, group_backward),
    "instance_norm": (
        lambda x, *a, **o: group(x, x.shape[1], *a, **o),
        lambda dy, x, *a, **o: group_backward(dy, x, x.shape[1], *a, **o),
    ),
    "layer_norm": (layer, layer_backward),
    "rms_norm": (rms, rms_backward),
    "local_response_norm": (local_response, local_response_backward),
    "dropout": dropout(False),
    **{f"dropout{d}d": dropout(True) for d in (1, 2, 3)},
}


FORWARD = {name: _f64(pair[0]) for name, pair in _PAIRS.items()}
BACKWARD = {name: _f64(pair[1]) for name, pair in _PAIRS.items()}
