"""Transposed convolutions, and the gradients of convolutions, whose windows are a multiple of their stride: one product serves every phase of the output."""

import numpy as np
import pytest

from cnnpy import functional as F

# batch, channels in, out, size, window, stride, groups, dilation, padding, output padding or 0: rows shorter and longer than a vector, more channels than a chunk, two taps a
# phase, phases with other taps, some before the first cell, that end early, a stride that leaves cells out, phases along one axis only
SHAPES = [
    (2, 20, 37, (5, 7, 14), (2, 2, 2), 2, 1, 1, 0),
    (1, 33, 64, (9, 21), (2, 2), 2, 1, 1, 0),
    (3, 24, 18, (6, 40), (1, 2), (1, 2), 1, 1, 0),
    (1, 70, 17, (8, 9), (3, 3), 3, 1, 1, 0),
    (1, 300, 34, (4, 19), (2, 2), 2, 1, 1, 0),
    (2, 32, 48, (5, 18), (4, 4), 2, 1, 1, 0),
    (2, 40, 36, (7, 17), (2, 2), 2, 2, 1, 0),
    (1, 16, 40, (6, 8), (2, 2), 2, 1, 3, 0),
    (1, 16, 40, (6, 8), (4, 2), (3, 2), 1, 1, (1, 0)),
    (1, 16, 40, (6, 9), (2, 3), (3, 4), 1, 1, 0),
    (1, 12, 9, (30,), (4,), 4, 1, 1, 0),
    (1, 16, 600, (64, 3), (2, 2), 2, 1, 1, 0),
    (0, 16, 40, (6, 8), (2, 2), 2, 1, 1, 0),
    (2, 16, 40, (6, 18), (4, 4), 2, 1, 1, 1),
    (2, 40, 24, (5, 9), (3, 3), 2, 1, 1, 1, 1),
    (1, 40, 35, (5, 20), (3, 3), (1, 2), 1, 1, 1, (0, 1)),
    (1, 18, 34, (6, 9), (5, 3), (3, 2), 1, 1, 1, 1),
    (1, 270, 34, (17,), (3,), 2, 1, 1, 1, 1),
    (1, 20, 34, (6, 9), (3, 3), 2, 1, 2, 2, 1),
    (1, 20, 34, (6, 9), (3, 3), 2, 1, 3, 1, 1),
    (2, 12, 34, (3, 6, 9), (3, 2, 4), 2, 1, 1, (1, 0, 1), (1, 0, 0)),
    (1, 16, 40, (3, 19), (10, 2), (9, 2), 1, 1, 0),
]


class Definition:
    """Over a plane that the padding has not been cut off yet: every cell of x times the window, added where it lies."""

    def __init__(self, x, w, stride, dilation, padding, groups, output_padding):
        d = x.ndim - 2
        self.x, self.w, self.groups = x, w, groups
        stride, dilation, self.padding, more = ((v,) * d if isinstance(v, int) else v for v in (stride, dilation, padding, output_padding))
        self.plane = [
            (n - 1) * s + (t - 1) * e + 1 + m for n, s, t, e, m in zip(x.shape[2:], stride, w.shape[2:], dilation, more, strict=True)
        ]
        self.cells = {
            tap: tuple(slice(t * e, t * e + (n - 1) * s + 1, s) for t, e, n, s in zip(tap, dilation, x.shape[2:], stride, strict=True))
            for tap in np.ndindex(*w.shape[2:])
        }

    def pieces(self, *arrays):
        return zip(*(np.split(a, self.groups, axis) for a, axis in arrays), strict=True)

    def cut(self, plane):
        return plane[(..., *(slice(p, n - p) for p, n in zip(self.padding, plane.shape[2:], strict=True)))]

    def forward(self, bias):
        y = np.zeros((self.x.shape[0], bias.size, *self.plane))
        for tap, cells in self.cells.items():
            for x, w, to in self.pieces((self.x, 1), (self.w, 0), (y, 1)):
                to[(..., *cells)] += np.moveaxis(np.tensordot(x, w[(..., *tap)], (1, 0)), -1, 1)
        return self.cut(y) + bias.reshape(-1, *[1] * (self.x.ndim - 2))

    def backward(self, dy):
        plane, dx, dw = np.zeros((*dy.shape[:2], *self.plane)), np.zeros(self.x.shape), np.zeros(self.w.shape)
        self.cut(plane)[...] = dy
        others = [0, *range(2, dy.ndim)]
        for tap, cells in self.cells.items():
            for x, w, e, to_x, to_w in self.pieces((self.x, 1), (self.w, 0), (plane[(..., *cells)], 1), (dx, 1), (dw, 0)):
                to_x += np.moveaxis(np.tensordot(e, w[(..., *tap)], (1, 1)), -1, 1)
                to_w[(..., *tap)] = np.tensordot(x, e, (others, others))
        return dx, dw, dy.sum(tuple(others))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_by_the_definition(shape, dtype, rng, isa):
    """Whole numbers: every order of a sum is exact. Reals: both memory orders have the same bits."""
    n, c, k, size, window, stride, groups, dilation, padding, more = (*shape, 0)[:10]
    call, backward = getattr(F, f"conv_transpose{len(size)}d"), getattr(F, f"conv_transpose{len(size)}d_backward")
    options = {"stride": stride, "groups": groups, "dilation": dilation, "padding": padding, "output_padding": more}
    x, w, b = (rng.integers(-4, 5, s).astype(dtype) for s in ((n, c, *size), (c, k // groups, *window), (k,)))
    defined = Definition(x, w, **options)
    y = defined.forward(b)
    dy = rng.integers(-4, 5, y.shape).astype(dtype)
    gradients = defined.backward(dy)
    for order in (lambda a: a, F.channels_last):
        np.testing.assert_array_equal(call(order(x), w, b, **options), y)
        for found, want in zip(backward(order(dy), order(x), w, b, **options), gradients, strict=True):
            np.testing.assert_array_equal(found, want)
    x, w, dy = (rng.standard_normal(a.shape).astype(dtype) for a in (x, w, dy))
    planes, neighbours = (
        (call(order(x), w, b, **options), *backward(order(dy), order(x), w, b, **options)) for order in (lambda a: a, F.channels_last)
    )
    for one, other in zip(planes, neighbours, strict=True):
        np.testing.assert_array_equal(one, other)
