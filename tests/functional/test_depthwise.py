"""Gradients of depthwise convolutions with a stride: the kernel for neighbouring channels against the definition and, bit by bit, against that for planes."""

import numpy as np
import pytest

from cnnpy import functional as F

# batch, channels, size, window, stride, dilation, padding; channels that are no multiple of a vector, cells that no window reaches, windows beyond an edge
SHAPES = [
    (2, 19, (9, 11), (3, 3), (2, 2), (1, 1), (1, 1)),
    (1, 70, (12, 7), (3, 3), (2, 3), (2, 1), (2, 0)),
    (3, 16, (8, 8), (1, 1), (2, 2), (1, 1), (0, 0)),
    (1, 33, (13, 13), (2, 4), (3, 2), (1, 3), (1, 2)),
    (2, 130, (6, 5), (3, 1), (2, 1), (1, 1), (1, 0)),
]


def _defined(dy, w, shape, stride, dilation, padding):
    """dx by the definition: every product goes to the cell that it came from."""
    n, c, h, width = shape
    dx = np.zeros((n, c, h + 2 * padding[0], width + 2 * padding[1]))
    for i in range(dy.shape[2]):
        for j in range(dy.shape[3]):
            for a in range(w.shape[2]):
                for b in range(w.shape[3]):
                    dx[:, :, i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1]] += dy[:, :, i, j] * w[:, 0, a, b]
    return dx[:, :, padding[0] : padding[0] + h, padding[1] : padding[1] + width]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_input_gradient(shape, rng, isa):
    n, c, size, window, stride, dilation, padding = shape
    x, w = np.zeros((n, c, *size), np.float32), rng.integers(-4, 5, (c, 1, *window)).astype(np.float32)
    options = {"stride": stride, "dilation": dilation, "padding": padding, "groups": c}
    out = F.conv2d(x, w, **options).shape
    dy = rng.integers(-4, 5, out).astype(np.float32)
    right = _defined(dy, w, x.shape, stride, dilation, padding)
    for order in (lambda a: a, F.channels_last):
        np.testing.assert_array_equal(F.conv2d_backward(order(dy), order(x), w, **options, needs=("x",)).x, right)
    w, dy = rng.standard_normal(w.shape).astype(np.float32), rng.standard_normal(out).astype(np.float32)
    planes, neighbours = (F.conv2d_backward(order(dy), order(x), w, **options, needs=("x",)).x for order in (lambda a: a, F.channels_last))
    np.testing.assert_array_equal(planes, neighbours)


def test_transposed_with_bias(rng):
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((2, 21, 5, 6), (21, 1, 3, 3), (21,)))
    planes, neighbours = (F.conv_transpose2d(a, w, b, stride=2, padding=1, groups=21) for a in (x, F.channels_last(x)))
    np.testing.assert_array_equal(planes, neighbours)
    right = _defined(x.astype(np.float64), w.astype(np.float64), (2, 21, 9, 11), (2, 2), (1, 1), (1, 1)) + b[:, None, None]
    np.testing.assert_allclose(neighbours, right, rtol=1e-5, atol=1e-5)
