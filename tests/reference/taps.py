"""Convolution once more, a whole array at a time: the sum over taps of shifted images. Fast enough for large grids of problems; the loops of
``conv.py`` are its judge."""

import itertools

import numpy as np

from tests.reference.conv import axes, pads, source


def _shifts(x, weight, options):
    """Output sizes, and for every tap (tap, its index arrays into x with zeros at missing cells, mask of existing cells)."""
    d = x.ndim - 2
    stride, dilation = axes(options.get("stride", 1), d), axes(options.get("dilation", 1), d)
    mode, sizes, window = options.get("padding_mode", "zeros"), x.shape[2:], weight.shape[2:]
    extents = [(r - 1) * g + 1 for r, g in zip(window, dilation, strict=True)]
    pad = pads(options.get("padding", 0), sizes, extents, stride)
    outputs = [(m + b + a - e) // s + 1 for m, (b, a), e, s in zip(sizes, pad, extents, stride, strict=True)]
    found = []
    for r in itertools.product(*map(range, window)):
        cells = [[source(mode, p * stride[a] + r[a] * dilation[a] - pad[a][0], sizes[a]) for p in range(outputs[a])] for a in range(d)]
        exists = np.ones(outputs, bool)
        for a, c in enumerate(cells):
            exists &= np.array([i is not None for i in c]).reshape(-1, *(1,) * (d - 1 - a))
        tap = tuple(w - 1 - i for i, w in zip(r, window, strict=True)) if options.get("flip", False) else r
        found.append((tap, np.ix_(*[[i or 0 for i in c] for c in cells]), exists))
    return outputs, found


def _grouped(a, axis, groups):
    return a.reshape(*a.shape[:axis], groups, a.shape[axis] // groups, *a.shape[axis + 1 :])


def forward(x, weight, bias, options):
    groups, n = options.get("groups", 1), x.shape[0]
    outputs, found = _shifts(x, weight, options)
    y = np.zeros((n, groups, weight.shape[0] // groups, int(np.prod(outputs))))
    w = _grouped(weight, 0, groups)
    for tap, cells, exists in found:
        shifted = x[(slice(None), slice(None), *cells)] * exists
        y += np.einsum("ngcp,gkc->ngkp", _grouped(shifted.reshape(*x.shape[:2], -1), 1, groups), w[(..., *tap)])
    y = y.reshape(n, weight.shape[0], *outputs)
    return y if bias is None else y + bias.reshape(-1, *(1,) * len(outputs))


def backward(dy, x, weight, options):
    groups = options.get("groups", 1)
    _, found = _shifts(x, weight, options)
    dx, dw = np.zeros(x.shape), np.zeros(weight.shape)
    g, w = _grouped(dy.reshape(*dy.shape[:2], -1), 1, groups), _grouped(weight, 0, groups)
    for tap, cells, exists in found:
        shifted = x[(slice(None), slice(None), *cells)] * exists
        dw[(..., *tap)] += np.einsum("ngkp,ngcp->gkc", g, _grouped(shifted.reshape(*x.shape[:2], -1), 1, groups)).reshape(dw.shape[:2])
        back = np.einsum("ngkp,gkc->ngcp", g, w[(..., *tap)]).reshape(*x.shape[:2], *exists.shape) * exists
        np.add.at(dx, (slice(None), slice(None), *cells), back)
    return dx, dw, dy.sum(axis=(0, *range(2, dy.ndim)))
