"""Convolution, one multiply-add after the other."""

import itertools

import numpy as np


def source(mode, i, m):
    """The cell of an axis of length m that padded position i shows; None: a zero."""
    if 0 <= i < m:
        return i
    if mode in ("zeros", "constant"):
        return None
    if mode in ("replicate", "edge"):
        return 0 if i < 0 else m - 1
    if mode in ("circular", "wrap"):
        return i % m
    if mode == "symmetric":
        q = i % (2 * m)
        return q if q < m else 2 * m - 1 - q
    if m == 1:
        return 0
    q = i % (2 * (m - 1))
    return q if q < m else 2 * (m - 1) - q


def axes(value, d):
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * d


def pads(padding, sizes, extents, strides):
    """(before, after) for every axis."""
    d = len(sizes)
    if padding == "valid":
        return [(0, 0)] * d
    if padding == "full":
        return [(e - 1, e - 1) for e in extents]
    if padding == "same":
        result = []
        for m, e, s in zip(sizes, extents, strides, strict=True):
            total = max((-(-m // s) - 1) * s + e - m, 0) if m else 0
            result.append((total // 2, total - total // 2))
        return result
    padding = axes(padding, d)
    return [tuple(p) if isinstance(p, (tuple, list)) else (p, p) for p in padding]


def _walk(x, weight, options):
    """Yields (n, k, p, c, r, cell): output cell p of filter k reads tap r of channel c at this cell (None: a zero)."""
    d = x.ndim - 2
    stride, dilation = axes(options.get("stride", 1), d), axes(options.get("dilation", 1), d)
    groups, mode, flip = options.get("groups", 1), options.get("padding_mode", "zeros"), options.get("flip", False)
    sizes, window = x.shape[2:], weight.shape[2:]
    extents = [(r - 1) * g + 1 for r, g in zip(window, dilation, strict=True)]
    pad = pads(options.get("padding", 0), sizes, extents, stride)
    outputs = [(m + b + a - e) // s + 1 for m, (b, a), e, s in zip(sizes, pad, extents, stride, strict=True)]
    per_group = weight.shape[0] // groups
    return outputs, (
        (n, k, p, c, (tuple(w - 1 - i for i, w in zip(r, window, strict=True)) if flip else r), k // per_group * weight.shape[1] + c, cell)
        for n in range(x.shape[0])
        for k in range(weight.shape[0])
        for p in itertools.product(*map(range, outputs))
        for r in itertools.product(*map(range, window))
        for cell in [tuple(source(mode, p[a] * stride[a] + r[a] * dilation[a] - pad[a][0], sizes[a]) for a in range(d))]
        for c in range(weight.shape[1])
    )


def forward(x, weight, bias=None, **options):
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    d = weight.ndim - 2
    if x.ndim == d + 1:
        return forward(x[None], weight, bias, **options)[0]
    outputs, walk = _walk(x, weight, options)
    y = np.zeros((x.shape[0], weight.shape[0], *outputs))
    if bias is not None:
        y += np.asarray(bias, np.float64).reshape(-1, *(1,) * d)
    for n, k, p, c, r, channel, cell in walk:
        value = 0.0 if None in cell else x[(n, channel, *cell)]
        y[(n, k, *p)] += weight[(k, c, *r)] * value
    return y


def backward(dy, x, weight, bias=None, **options):
    dy, x, weight = (np.asarray(a, np.float64) for a in (dy, x, weight))
    d = weight.ndim - 2
    if x.ndim == d + 1:
        dx, dw, db = backward(dy[None], x[None], weight, bias, **options)
        return dx[0], dw, db
    _, walk = _walk(x, weight, options)
    dx, dw = np.zeros(x.shape), np.zeros(weight.shape)
    for n, k, p, c, r, channel, cell in walk:
        if None not in cell:
            dx[(n, channel, *cell)] += weight[(k, c, *r)] * dy[(n, k, *p)]
            dw[(k, c, *r)] += x[(n, channel, *cell)] * dy[(n, k, *p)]
    return dx, dw, None if bias is None else dy.sum(axis=(0, *range(2, 2 + d)))


def _transposed(x, weight, options):
    """Output sizes, and all (n, c, h, k, r, channel of y, cell of y) with a cell inside."""
    d = weight.ndim - 2
    stride, dilation = axes(options.get("stride", 1), d), axes(options.get("dilation", 1), d)
    groups, window = options.get("groups", 1), weight.shape[2:]
    pad = [tuple(p) if isinstance(p, (tuple, list)) else (p, p) for p in axes(options.get("padding", 0), d)]
    least = [(m - 1) * s - b - a + (r - 1) * g + 1 for m, s, (b, a), r, g in zip(x.shape[2:], stride, pad, window, dilation, strict=True)]
    size = options.get("output_size")
    outputs = axes(size, d) if size is not None else [p + e for p, e in zip(least, axes(options.get("output_padding", 0), d), strict=True)]
    filters, per_group = weight.shape[1], x.shape[1] // groups

    def walk():
        for n in range(x.shape[0]):
            for c in range(x.shape[1]):
                for h in itertools.product(*map(range, x.shape[2:])):
                    for r in itertools.product(*map(range, window)):
                        cell = tuple(h[a] * stride[a] + r[a] * dilation[a] - pad[a][0] for a in range(d))
                        if all(0 <= i < p for i, p in zip(cell, outputs, strict=True)):
                            for k in range(filters):
                                yield n, c, h, k, r, c // per_group * filters + k, cell

    return outputs, walk


def transpose_forward(x, weight, bias=None, **options):
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    d = weight.ndim - 2
    if x.ndim == d + 1:
        return transpose_forward(x[None], weight, bias, **options)[0]
    outputs, walk = _transposed(x, weight, options)
    y = np.zeros((x.shape[0], weight.shape[1] * options.get("groups", 1), *outputs))
    if bias is not None:
        y += np.asarray(bias, np.float64).reshape(-1, *(1,) * d)
    for n, c, h, k, r, channel, cell in walk():
        y[(n, channel, *cell)] += weight[(c, k, *r)] * x[(n, c, *h)]
    return y


def transpose_backward(dy, x, weight, bias=None, **options):
    dy, x, weight = (np.asarray(a, np.float64) for a in (dy, x, weight))
    d = weight.ndim - 2
    if x.ndim == d + 1:
        dx, dw, db = transpose_backward(dy[None], x[None], weight, bias, **options)
        return dx[0], dw, db
    _, walk = _transposed(x, weight, options)
    dx, dw = np.zeros(x.shape), np.zeros(weight.shape)
    for n, c, h, k, r, channel, cell in walk():
        dx[(n, c, *h)] += weight[(c, k, *r)] * dy[(n, channel, *cell)]
        dw[(c, k, *r)] += x[(n, c, *h)] * dy[(n, channel, *cell)]
    return dx, dw, None if bias is None else dy.sum(axis=(0, *range(2, 2 + d)))


def pad_forward(x, pads, mode="zeros", value=0.0):
    d = len(pads)
    lead = x.shape[:-d]
    y = np.full((*lead, *(m + b + a for m, (b, a) in zip(x.shape[-d:], pads, strict=True))), float(value))
    for at in np.ndindex(*y.shape[-d:]):
        cell = tuple(source(mode, i - b, m) for i, (b, _), m in zip(at, pads, x.shape[-d:], strict=True))
        if None not in cell:
            y[(..., *at)] = x[(..., *cell)]
    return y


def pad_backward(dy, x, pads, mode="zeros", value=0.0):
    d = len(pads)
    dx = np.zeros(x.shape)
    for at in np.ndindex(*dy.shape[-d:]):
        cell = tuple(source(mode, i - b, m) for i, (b, _), m in zip(at, pads, x.shape[-d:], strict=True))
        if None not in cell:
            dx[(..., *cell)] += dy[(..., *at)]
    return (dx,)


def _columns(sizes, kernel_size, options):
    """(column of taps, window, cell) for all windows of an image whose cell lies inside, and the number of windows."""
    d = len(sizes)
    window, stride, dilation = (axes(v, d) for v in (kernel_size, options.get("stride", 1), options.get("dilation", 1)))
    extents = [(r - 1) * g + 1 for r, g in zip(window, dilation, strict=True)]
    pad = pads(options.get("padding", 0), sizes, extents, stride)
    outputs = [(m + b + a - e) // s + 1 for m, (b, a), e, s in zip(sizes, pad, extents, stride, strict=True)]
    found = []
    for i, r in enumerate(itertools.product(*map(range, window))):
        for j, p in enumerate(itertools.product(*map(range, outputs))):
            cell = tuple(p[a] * stride[a] + r[a] * dilation[a] - pad[a][0] for a in range(d))
            if all(0 <= v < m for v, m in zip(cell, sizes, strict=True)):
                found.append((i, j, cell))
    return found, int(np.prod(window)), int(np.prod(outputs))


def unfold_forward(x, kernel_size, **options):
    found, taps, windows = _columns(x.shape[2:], kernel_size, options)
    y = np.zeros((*x.shape[:2], taps, windows))
    for i, j, cell in found:
        y[:, :, i, j] = x[(slice(None), slice(None), *cell)]
    return y.reshape(x.shape[0], -1, windows)


def fold_forward(cols, output_size, kernel_size, **options):
    found, taps, windows = _columns(output_size, kernel_size, options)
    rows = cols.reshape(cols.shape[0], -1, taps, windows)
    y = np.zeros((cols.shape[0], rows.shape[1], *output_size))
    for i, j, cell in found:
        y[(slice(None), slice(None), *cell)] += rows[:, :, i, j]
    return y


FORWARD = {f"conv{d}d": forward for d in (1, 2, 3)} | {f"conv_transpose{d}d": transpose_forward for d in (1, 2, 3)}
BACKWARD = {f"conv{d}d": backward for d in (1, 2, 3)} | {f"conv_transpose{d}d": transpose_backward for d in (1, 2, 3)}
FORWARD |= {"pad": pad_forward, "unfold": unfold_forward, "fold": fold_forward}
BACKWARD |= {
    "pad": pad_backward,
    "unfold": lambda dy, x, kernel_size, **o: (fold_forward(dy, x.shape[2:], kernel_size, **o),),
    "fold": lambda dy, cols, output_size, kernel_size, **o: (unfold_forward(dy, kernel_size, **o),),
}
