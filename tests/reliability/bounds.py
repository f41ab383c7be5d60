"""What the gradients of norms and attention are differences of: their rounding errors grow with these, however small the differences are.

An error analysis as in N. Higham, Accuracy and Stability of Numerical Algorithms, 2002, 3.1: the same formulas with absolute values in place of
values and sums in place of differences. A gradient over two equal samples, or over a single key, is zero, yet made of large numbers.
"""

import numpy as np

from tests.reference.attention import join, linear, linear_backward, scores_of, softmax, split, weighted


def terms(name, dy, arrays, options):
    """The largest of them; 1 where a function has no such differences."""
    dy = np.abs(np.asarray(dy, np.float64))
    if name == "scaled_dot_product_attention":
        return largest(attention(dy, *arrays, **options))
    if name == "multi_head_attention":
        return largest(heads(dy, *arrays, **options))
    if name == "instance_norm":
        return largest(norm(dy, arrays[0], arrays[1], tuple(range(2, arrays[0].ndim)), options["eps"]))
    if name == "batch_norm" and options["training"]:
        return largest(norm(dy, arrays[0], arrays[3], (0, *range(2, arrays[0].ndim)), options["eps"]))
    return 1.0


def largest(arrays):
    return max(1.0, *(float(np.max(a)) for a in arrays if a is not None and np.size(a)))


def norm(dy, x, weight, axes, eps):
    """dx = s w (dy - mean dy - n mean(dy n)), n = s (x - mean x): x - mean x is a difference too."""
    x = np.asarray(x, np.float64)
    mean = x.mean(axis=axes, keepdims=True)
    s = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    n = s * (np.abs(x) + np.abs(mean))
    scaled = dy if weight is None else dy * np.abs(np.asarray(weight, np.float64)).reshape(-1, *(1,) * (x.ndim - 2))
    dx = s * (scaled + scaled.mean(axis=axes, keepdims=True) + n * (scaled * n).mean(axis=axes, keepdims=True))
    return dx, (dy * n).sum(axis=(0, *range(2, x.ndim))), dy.sum(axis=(0, *range(2, x.ndim)))


def attention(dy, q, k, v, mask=None, *, is_causal=False, scale=None):
    """ds = a (da - sum a da) is the difference."""
    q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
    s, scale = scores_of(q, k, mask, is_causal, scale)
    a = softmax(s)
    da = (dy[..., :, None, :] * np.abs(v)[..., None, :, :]).sum(axis=-1)
    ds = a * (da + (da * a).sum(axis=-1, keepdims=True))
    return scale * weighted(ds, np.abs(k)), scale * weighted(np.swapaxes(ds, -1, -2), np.abs(q)), weighted(np.swapaxes(a, -1, -2), dy), ds


def heads(dy, q, k, v, w_q, w_k, w_v, w_o, mask, *biases, num_heads, is_causal=False):
    given = list(zip((q, k, v), (w_q, w_k, w_v), biases, strict=False))
    parts = [split(linear(np.asarray(x, np.float64), w, b), num_heads) for x, w, b in given]
    inner, out = (dy.reshape(*q.shape[:2], -1, 1) * np.abs(w_o)).sum(axis=-2), []  # dy comes as a vector
    found = attention(split(inner, num_heads), *parts, mask, is_causal=is_causal)
    for (x, w, _), g in zip(given, found[:3], strict=True):
        out += linear_backward(join(g), np.abs(x), np.abs(w), np.zeros(1))
    return *out, found[3]
