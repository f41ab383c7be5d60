"""Resizing, adaptive and power-mean pools, unpooling: window by window, tap by tap."""

import itertools
import math

import numpy as np

from tests.reference.conv import axes
from tests.reference.pool import _walk


def adaptive_windows(sizes, outputs):
    spans = [[range(p * m // o, -(-(p + 1) * m // o)) for p in range(o)] for m, o in zip(sizes, outputs, strict=True)]
    for p in itertools.product(*map(range, outputs)):
        yield p, list(itertools.product(*(spans[a][i] for a, i in enumerate(p))))


def adaptive_avg(x, output_size):
    outputs = axes(output_size, x.ndim - 2)
    y = np.zeros((*x.shape[:2], *outputs))
    for p, cells in adaptive_windows(x.shape[2:], outputs):
        y[(..., *p)] = sum(x[(..., *c)].astype(np.float64) for c in cells) / len(cells)
    return y


def adaptive_avg_backward(dy, x, output_size):
    dx = np.zeros(x.shape)
    for p, cells in adaptive_windows(x.shape[2:], dy.shape[2:]):
        for c in cells:
            dx[(..., *c)] += dy[(..., *p)] / len(cells)
    return (dx,)


def _first_maximum(values):
    best = 0
    for i, v in enumerate(values):
        if v > values[best] or (math.isnan(v) and not math.isnan(values[best])):
            best = i
    return best


def adaptive_max(x, output_size):
    outputs = axes(output_size, x.ndim - 2)
    y = np.zeros((*x.shape[:2], *outputs))
    for p, cells in adaptive_windows(x.shape[2:], outputs):
        for n, c in np.ndindex(*x.shape[:2]):
            values = [x[(n, c, *cell)] for cell in cells]
            y[(n, c, *p)] = values[_first_maximum(values)]
    return y


def adaptive_max_backward(dy, x, output_size):
    dx = np.zeros(x.shape)
    for p, cells in adaptive_windows(x.shape[2:], dy.shape[2:]):
        for n, c in np.ndindex(*x.shape[:2]):
            cell = cells[_first_maximum([x[(n, c, *cell)] for cell in cells])]
            dx[(n, c, *cell)] += dy[(n, c, *p)]
    return (dx,)


def lp(x, kernel_size, norm_type=2, **options):
    x = np.asarray(x, np.float64)
    outputs, windows, _ = _walk(x, kernel_size, options)
    whole = math.prod(axes(kernel_size, x.ndim - 2))
    y = np.zeros((*x.shape[:2], *outputs))
    for p, cells in windows():
        y[(..., *p)] = (whole / len(cells) * sum(np.abs(x[(..., *c)]) ** norm_type for c in cells)) ** (1 / norm_type)
    return y


def lp_backward(dy, x, kernel_size, norm_type=2, **options):
    x, y = np.asarray(x, np.float64), lp(x, kernel_size, norm_type, **options)
    _, windows, _ = _walk(x, kernel_size, options)
    whole = math.prod(axes(kernel_size, x.ndim - 2))
    dx = np.zeros(x.shape)
    for p, cells in windows():
        for c in cells:
            v, top = x[(..., *c)], y[(..., *p)]
            safe = np.where(top == 0, 1, top)
            slope = np.sign(v) * np.where(v == 0, 0, np.abs(np.where(v == 0, 1, v)) ** (norm_type - 1))
            dx[(..., *c)] += np.where(top == 0, 0, dy[(..., *p)] * whole / len(cells) * slope * safe ** (1 - norm_type))
    return (dx,)


def _plane(indices, kernel_size, options):
    d = indices.ndim - 2
    window, pad = axes(kernel_size, d), axes(options.get("padding", 0), d)
    stride = axes(kernel_size if options.get("stride") is None else options["stride"], d)
    natural = [(m - 1) * s - 2 * b + r for m, s, b, r in zip(indices.shape[2:], stride, pad, window, strict=True)]
    return tuple(natural) if options.get("output_size") is None else axes(options["output_size"], d)


def unpool(x, indices, kernel_size, **options):
    plane = _plane(indices, kernel_size, options)
    y = np.zeros((*x.shape[:2], *plane))
    for at in np.ndindex(*x.shape):
        y[(*at[:2], *np.unravel_index(indices[at], plane))] = x[at]
    return y


def unpool_backward(dy, x, indices, kernel_size, **options):
    plane, last, dx = _plane(indices, kernel_size, options), {}, np.zeros(x.shape)
    for at in np.ndindex(*x.shape):
        last[(*at[:2], int(indices[at]))] = at
    for (n, c, i), at in last.items():
        dx[at] = dy[(n, c, *np.unravel_index(i, plane))]
    return (dx,)


def _cubic(v, a=-0.75):
    v = abs(v)
    return (a + 2) * v**3 - (a + 3) * v**2 + 1 if v <= 1 else a * (v**3 - 5 * v**2 + 8 * v - 4) if v < 2 else 0.0


def matrix(m, p, q, mode, align_corners, exact):
    """The matrix A of one axis: y = A x. q: input cells an output cell; exact: q is m/p in integers."""
    a = np.zeros((p, m))
    for i in range(p):
        if mode == "nearest":
            a[i, min(i * m // p if exact else math.floor(i * q), m - 1)] = 1
            continue
        if mode == "nearest-exact":
            a[i, min((2 * i + 1) * m // (2 * p) if exact else math.floor((i + 0.5) * q), m - 1)] = 1
            continue
        t = (i + 0.5) * q - 0.5
        if align_corners:
            t = i * (m - 1) / (p - 1) if p > 1 else 0.0
        if mode == "bicubic":
            low = math.floor(t)
            for h in range(low - 1, low + 3):
                a[i, min(max(h, 0), m - 1)] += _cubic(t - h)
        else:
            t = max(t, 0.0)
            low = min(math.floor(t), m - 1)
            a[i, low] += 1 - (t - low)
            a[i, min(low + 1, m - 1)] += t - low
    return a


def _matrices(x, size, scale_factor, mode, align_corners):
    d = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}.get(mode, x.ndim - 2)
    sizes = x.shape[-d:]
    if size is not None:
        outputs, ratios = axes(size, d), [m / p for m, p in zip(sizes, axes(size, d), strict=True)]
    else:
        outputs = [math.floor(m * s) for m, s in zip(sizes, axes(scale_factor, d), strict=True)]
        ratios = [1 / s for s in axes(scale_factor, d)]
    return [matrix(m, p, q, mode, align_corners, size is not None) for m, p, q in zip(sizes, outputs, ratios, strict=True)]


def _apply(x, matrices):
    for i, a in enumerate(matrices):
        axis = x.ndim - len(matrices) + i
        x = np.moveaxis(np.tensordot(a, x, (1, axis)), 0, axis)
    return x


def _area_size(x, size, scale_factor):
    return size if size is not None else tuple(int(m * s) for m, s in zip(x.shape[2:], axes(scale_factor, x.ndim - 2), strict=True))


def interpolate(x, size=None, scale_factor=None, mode="nearest", align_corners=False):
    if mode == "area":
        return adaptive_avg(x, _area_size(x, size, scale_factor))
    return _apply(np.asarray(x, np.float64), _matrices(x, size, scale_factor, mode, align_corners))


def interpolate_backward(dy, x, size=None, scale_factor=None, mode="nearest", align_corners=False):
    if mode == "area":
        return adaptive_avg_backward(dy, x, None)
    return (_apply(dy, [a.T for a in _matrices(x, size, scale_factor, mode, align_corners)]),)


def shuffle(x, factor):
    d, f = x.ndim - 2, factor
    y = np.zeros((x.shape[0], x.shape[1] // f**d, *(m * f for m in x.shape[2:])))
    for at in np.ndindex(*y.shape):
        offset = 0
        for i in at[2:]:
            offset = offset * f + i % f
        y[at] = x[(at[0], at[1] * f**d + offset, *(i // f for i in at[2:]))]
    return y


def unshuffle(x, factor):
    d, f = x.ndim - 2, factor
    y = np.zeros((x.shape[0], x.shape[1] * f**d, *(m // f for m in x.shape[2:])))
    for at in np.ndindex(*x.shape):
        offset = 0
        for i in at[2:]:
            offset = offset * f + i % f
        y[(at[0], at[1] * f**d + offset, *(i // f for i in at[2:]))] = x[at]
    return y


FORWARD, BACKWARD = {}, {}
for _d in (1, 2, 3):
    FORWARD |= {
        f"adaptive_avg_pool{_d}d": adaptive_avg,
        f"adaptive_max_pool{_d}d": adaptive_max,
        f"lp_pool{_d}d": lp,
        f"max_unpool{_d}d": unpool,
    }
    BACKWARD |= {f"adaptive_avg_pool{_d}d": adaptive_avg_backward, f"adaptive_max_pool{_d}d": adaptive_max_backward}
    BACKWARD |= {f"lp_pool{_d}d": lp_backward, f"max_unpool{_d}d": unpool_backward}
FORWARD |= {"global_avg_pool": lambda x: adaptive_avg(x, 1), "global_max_pool": lambda x: adaptive_max(x, 1)}
BACKWARD |= {
    "global_avg_pool": lambda dy, x: adaptive_avg_backward(dy, x, 1),
    "global_max_pool": lambda dy, x: adaptive_max_backward(dy, x, 1),
}
FORWARD |= {"interpolate": interpolate, "pixel_shuffle": shuffle, "pixel_unshuffle": unshuffle}
BACKWARD |= {
    "interpolate": interpolate_backward,
    "pixel_shuffle": lambda dy, x, factor: (unshuffle(dy, factor),),
    "pixel_unshuffle": lambda dy, x, factor: (shuffle(dy, factor),),
}
