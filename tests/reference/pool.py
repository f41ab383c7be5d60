"""Pooling, window by window."""

import itertools
import math

import numpy as np

from tests.reference.conv import axes, pads


def _walk(x, kernel_size, options):
    d = x.ndim - 2
    window = axes(kernel_size, d)
    stride = axes(kernel_size if options.get("stride") is None else options["stride"], d)
    dilation, ceil = axes(options.get("dilation", 1), d), options.get("ceil_mode", False)
    sizes = x.shape[2:]
    extents = [(r - 1) * g + 1 for r, g in zip(window, dilation, strict=True)]
    pad = pads(options.get("padding", 0), sizes, extents, stride)
    outputs = []
    for m, (b, a), e, s in zip(sizes, pad, extents, stride, strict=True):
        room = m + b + a - e
        count = (-(-room // s) if ceil else room // s) + 1
        outputs.append(count - 1 if ceil and (count - 1) * s >= m + b else count)

    def windows():
        for p in itertools.product(*map(range, outputs)):
            cells = itertools.product(*([p[a] * stride[a] - pad[a][0] + r * dilation[a] for r in range(window[a])] for a in range(d)))
            yield p, [c for c in cells if all(0 <= i < m for i, m in zip(c, sizes, strict=True))]

    def divisor(p, include):
        total = 1
        for a in range(d):
            first = p[a] * stride[a] - pad[a][0]
            low, high = (-pad[a][0], sizes[a] + pad[a][1]) if include else (0, sizes[a])
            total *= min(first + window[a], high) - max(first, low)
        return total

    return outputs, windows, divisor


def max_forward(x, kernel_size, **options):
    x = np.asarray(x, np.float64)
    if options.pop("unbatched", False):
        y, i = max_forward(x[None], kernel_size, **options)
        return y[0], i[0]
    outputs, windows, _ = _walk(x, kernel_size, options)
    y, index = np.zeros((*x.shape[:2], *outputs)), np.zeros((*x.shape[:2], *outputs), np.int64)
    for n, c in np.ndindex(*x.shape[:2]):
        for p, cells in windows():
            best = cells[0]
            for cell in cells[1:]:
                value, top = x[(n, c, *cell)], x[(n, c, *best)]
                if value > top or (math.isnan(value) and not math.isnan(top)):
                    best = cell
            y[(n, c, *p)] = x[(n, c, *best)]
            index[(n, c, *p)] = np.ravel_multi_index(best, x.shape[2:])
    return y, index


def max_backward(dy, x, kernel_size, **options):
    options.pop("return_indices", None)
    _, index = max_forward(x, kernel_size, **options)
    dx = np.zeros(np.shape(x))
    for at in np.ndindex(*index.shape):
        n, c = at[:2]
        dx[(n, c, *np.unravel_index(index[at], dx.shape[2:]))] += dy[at]
    return (dx,)


def avg_forward(x, kernel_size, **options):
    x = np.asarray(x, np.float64)
    include = options.pop("count_include_pad", True)
    outputs, windows, divisor = _walk(x, kernel_size, options)
    y = np.zeros((*x.shape[:2], *outputs))
    for p, cells in windows():
        y[(..., *p)] = sum(x[(..., *cell)] for cell in cells) / divisor(p, include)
    return y


def avg_backward(dy, x, kernel_size, **options):
    include = options.pop("count_include_pad", True)
    _, windows, divisor = _walk(np.asarray(x), kernel_size, options)
    dx = np.zeros(np.shape(x))
    for p, cells in windows():
        for cell in cells:
            dx[(..., *cell)] += np.asarray(dy, np.float64)[(..., *p)] / divisor(p, include)
    return (dx,)


FORWARD = {f"max_pool{d}d": lambda *a, **o: max_forward(*a, **o)[0] for d in (1, 2, 3)}
FORWARD |= {f"avg_pool{d}d": avg_forward for d in (1, 2, 3)}
BACKWARD = {f"max_pool{d}d": max_backward for d in (1, 2, 3)} | {f"avg_pool{d}d": avg_backward for d in (1, 2, 3)}
