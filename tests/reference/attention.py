"""Attention, query by query in plain sums."""

import numpy as np


def double(*arrays):
    return [None if a is None else np.asarray(a, np.float64) for a in arrays]


def added(mask, shape):
    if mask is None:
        return np.zeros(shape)
    mask = np.asarray(mask)
    return np.broadcast_to(np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask.astype(np.float64), shape)


def softmax(scores):
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    e = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = e.sum(axis=-1, keepdims=True)
    return np.divide(e, total, out=np.zeros_like(e), where=total != 0)


def scores_of(q, k, mask, is_causal, scale):
    scale = 1 / np.sqrt(q.shape[-1]) if scale is None else scale
    s = scale * (q[..., :, None, :] * k[..., None, :, :]).sum(axis=-1)
    s = s + added(mask, s.shape)
    if is_causal:
        s = np.where(np.tril(np.ones(s.shape[-2:], bool)), s, -np.inf)
    return s, scale


def weighted(a, v):
    return (a[..., :, :, None] * v[..., None, :, :]).sum(axis=-2)


def unbroadcast(gradient, mask):
    if mask is None or np.asarray(mask).dtype.kind != "f":
        return None
    shape = np.shape(mask)
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    return gradient.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True) if shape else gradient


def dot(q, k, v, mask=None, *, is_causal=False, scale=None):
    q, k, v = double(q, k, v)
    return weighted(softmax(scores_of(q, k, mask, is_causal, scale)[0]), v)


def dot_backward(dy, q, k, v, mask=None, *, is_causal=False, scale=None):
    dy, q, k, v = double(dy, q, k, v)
    s, scale = scores_of(q, k, mask, is_causal, scale)
    a = softmax(s)
    da = (dy[..., :, None, :] * v[..., None, :, :]).sum(axis=-1)
    ds = a * (da - (da * a).sum(axis=-1, keepdims=True))
    turned = np.swapaxes(ds, -1, -2)
    return scale * weighted(ds, k), scale * weighted(turned, q), weighted(np.swapaxes(a, -1, -2), dy), unbroadcast(ds, mask)


def linear(x, w, b):
    return (x[..., None, :] * w).sum(axis=-1) + (0 if b is None else b)


def linear_backward(dy, x, w, b):
    rows_dy, rows_x = dy.reshape(-1, dy.shape[-1]), x.reshape(-1, x.shape[-1])
    dw = (rows_dy[:, :, None] * rows_x[:, None, :]).sum(axis=0)
    return (dy[..., :, None] * w).sum(axis=-2), dw, None if b is None else rows_dy.sum(axis=0)


def split(x, heads):
    n, length, features = x.shape
    return x.reshape(n, length, heads, features // heads).swapaxes(1, 2)


def join(x):
    n, heads, length, width = x.shape
    return x.swapaxes(1, 2).reshape(n, length, heads * width)


def multi(q, k, v, w_q, w_k, w_v, w_o, biases=None, mask=None, *, num_heads, is_causal=False):
    q, k, v, w_q, w_k, w_v, w_o = double(q, k, v, w_q, w_k, w_v, w_o)
    biases = double(*biases) if biases is not None else [None] * 4
    parts = [split(linear(x, w, b), num_heads) for x, w, b in zip((q, k, v), (w_q, w_k, w_v), biases, strict=False)]
    return linear(join(dot(*parts, mask, is_causal=is_causal)), w_o, biases[3])


def multi_backward(dy, q, k, v, w_q, w_k, w_v, w_o, biases=None, mask=None, *, num_heads, is_causal=False):
    dy, q, k, v, w_q, w_k, w_v, w_o = double(dy, q, k, v, w_q, w_k, w_v, w_o)
    given = double(*biases) if biases is not None else [None] * 4
    parts = [split(linear(x, w, b), num_heads) for x, w, b in zip((q, k, v), (w_q, w_k, w_v), given, strict=False)]
    joined = join(dot(*parts, mask, is_causal=is_causal))
    d_joined, dw_o, db_o = linear_backward(dy, joined, w_o, given[3])
    *d_parts, dmask = dot_backward(split(d_joined, num_heads), *parts, mask, is_causal=is_causal)
    found = [linear_backward(join(d), x, w, b) for d, x, w, b in zip(d_parts, (q, k, v), (w_q, w_k, w_v), given, strict=False)]
    dbiases = None if biases is None else (*(f[2] for f in found), db_o)
    return (*(f[0] for f in found), *(f[1] for f in found), dw_o, dbiases, dmask)


def additive_parts(q, k, w_q, w_k, w_v, mask):
    u = np.tanh(linear(q, w_q, None)[:, :, None, :] + linear(k, w_k, None)[:, None, :, :])
    s = (u * w_v).sum(axis=-1)
    return u, softmax(s + added(mask, s.shape))


def additive(q, k, v, w_q, w_k, w_v, mask=None):
    q, k, v, w_q, w_k, w_v = double(q, k, v, w_q, w_k, w_v)
    return weighted(additive_parts(q, k, w_q, w_k, w_v, mask)[1], v)


def additive_backward(dy, q, k, v, w_q, w_k, w_v, mask=None):
    dy, q, k, v, w_q, w_k, w_v = double(dy, q, k, v, w_q, w_k, w_v)
    u, a = additive_parts(q, k, w_q, w_k, w_v, mask)
    da = (dy[:, :, None, :] * v[:, None, :, :]).sum(axis=-1)
    ds = a * (da - (da * a).sum(axis=-1, keepdims=True))
    t = ds[..., None] * w_v * (1 - u**2)
    dq, dw_q, _ = linear_backward(t.sum(axis=2), q, w_q, None)
    dk, dw_k, _ = linear_backward(t.sum(axis=1), k, w_k, None)
    dw_v = (ds[..., None] * u).sum(axis=(0, 1, 2))
    return dq, dk, weighted(np.swapaxes(a, 1, 2), dy), dw_q, dw_k, dw_v, unbroadcast(ds, mask)


FORWARD = {"scaled_dot_product_attention": dot, "multi_head_attention": multi, "additive_attention": additive}
BACKWARD = {"scaled_dot_product_attention": dot_backward, "multi_head_attention": multi_backward, "additive_attention": additive_backward}
