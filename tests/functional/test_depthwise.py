"""Depthwise convolutions: the kernels for neighbouring channels against the definition and, bit by bit, against those for planes."""

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


# batch, channels, sizes, stride, dilation, padding, mode of windows of three: rows of fewer cells than are computed at once, odd rows, several bands and
# parts, vectors that channels do not fill, borders on one side, windows that see no pixel, planes before the first one
THREES = [
    (2, 33, (9, 11), 1, 1, 1, "zeros"),
    (1, 16, (1, 1), 1, 1, 1, "zeros"),
    (3, 40, (5, 3), 1, 1, (1, 0), "zeros"),
    (2, 70, (19, 6), 2, 1, 1, "zeros"),
    (1, 64, (8, 30), 2, 1, (0, 1), "reflect"),
    (2, 21, (7, 9), 1, 1, ((2, 0), (0, 3)), "circular"),
    (1, 35, (10, 12), 3, 2, 2, "zeros"),
    (9, 17, (17, 18), 1, 1, 1, "replicate"),
    (1, 300, (6, 7), 1, 1, 4, "zeros"),
    (2, 18, (4, 6, 7), (2, 1, 1), 1, 1, "zeros"),
    (2, 18, (4, 6, 9), 2, 1, (2, 1, 1), "zeros"),
]


@pytest.mark.parametrize("shape", THREES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_windows_of_three(shape, dtype, rng, isa):
    """Against one channel at a time, which no kernel of this file computes; whole numbers, so every order of a sum is exact."""
    n, c, size, stride, dilation, padding, mode = shape
    d = len(size)
    call, backward = getattr(F, f"conv{d}d"), getattr(F, f"conv{d}d_backward")
    window = (3, 3) if d == 2 else (1, 3, 3)
    options = {"stride": stride, "dilation": dilation, "padding": padding, "padding_mode": mode}
    x, w, b = (rng.integers(-4, 5, s).astype(dtype) for s in ((n, c, *size), (c, 1, *window), (c,)))
    alone = [call(x[:, i : i + 1], w[i : i + 1], b[i : i + 1], **options) for i in range(c)]
    dy = rng.integers(-4, 5, (n, c, *alone[0].shape[2:])).astype(dtype)
    back = [backward(dy[:, i : i + 1], x[:, i : i + 1], w[i : i + 1], b[i : i + 1], **options) for i in range(c)]
    for order in (lambda a: a, F.channels_last):
        np.testing.assert_array_equal(call(order(x), w, b, groups=c, **options), np.concatenate(alone, axis=1))
        found = backward(order(dy), order(x), w, b, groups=c, **options)
        for name, axis in (("x", 1), ("weight", 0), ("bias", 0)):
            np.testing.assert_array_equal(getattr(found, name), np.concatenate([getattr(g, name) for g in back], axis=axis), err_msg=name)
    x, w, dy = (rng.standard_normal(a.shape).astype(dtype) for a in (x, w, dy))
    x[0, 0].flat[0] = np.inf
    planes, neighbours = (
        (call(order(x), w, groups=c, **options), *backward(order(dy), order(x), w, groups=c, **options, needs=("x", "weight"))[:2])
        for order in (lambda a: a, F.channels_last)
    )
    for one, other in zip(planes, neighbours, strict=True):
        np.testing.assert_array_equal(one, other)


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
