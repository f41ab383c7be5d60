"""Convolutions with windows of one cell: their own kernels for planes and for the weight gradient, against float64 and bit by bit."""

import itertools

import numpy as np
import pytest

import cnnpy
from cnnpy import functional as F
from tests.functional.test_narrow import orders

# batch, channels, filters, size, stride: every way to read dy, panels cut short on both sides, boxes of several images and of parts of one, sums in
# several chunks, more rows of dy than stay in a cache, pixels a power of two apart that many panels read; few channels, whose product is turned round;
# planes that are a power of two apart, whose rows are copied; many small planes, one stream of memory.
SHAPES = [
    (2, 16, 6, (9, 7), 1),
    (3, 37, 50, (7, 7), 1),
    (1, 70, 300, (14, 14), 1),
    (5, 300, 70, (7, 7), 1),
    (2, 64, 21, (31, 33), 1),
    (2, 48, 40, (15, 13), 2),
    (1, 520, 24, (20, 30), 1),
    (300, 24, 24, (1, 1), 1),
    (4, 2100, 40, (7, 7), 1),
    (2, 1040, 90, (14, 14), 1),
    (1, 40, 2300, (15, 16), 1),
    (1, 512, 600, (12, 12), 1),
    (2, 1, 17, (9, 31), 1),
    (5, 3, 64, (20, 33), 2),
    (3, 6, 40, (64, 64), 1),
    (4, 7, 16, (32, 32), 1),
    (9, 15, 70, (5, 7), 1),
    (40, 3, 24, (1, 1), 1),
    (6, 16, 64, (32, 32), 1),
    (3, 24, 27, (16, 32), 1),
    (20, 17, 64, (28, 28), 1),
]


def _operands(shape, dtype):
    n, c, k, size, stride = shape
    rng = np.random.default_rng(sum(shape[:3]))
    out = [(s - 1) // stride + 1 for s in size]
    x, w, dy = (rng.standard_normal(s).astype(dtype) for s in ((n, c, *size), (k, c, 1, 1), (n, k, *out)))
    return x, w, rng.standard_normal(k).astype(dtype), dy, stride


def _by_einsum(x, w, b, dy, stride):
    x, w, b, dy = (a.astype(np.float64) for a in (x, w, b, dy))
    seen = x[:, :, ::stride, ::stride]
    dx = np.zeros_like(x)
    dx[:, :, ::stride, ::stride] = np.einsum("kc,nkhw->nchw", w[:, :, 0, 0], dy)
    y = np.einsum("kc,nchw->nkhw", w[:, :, 0, 0], seen) + b[:, None, None]
    return y, dx, np.einsum("nkhw,nchw->kc", dy, seen)[:, :, None, None], dy.sum(axis=(0, 2, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_einsum(shape, dtype):
    x, w, b, dy, stride = _operands(shape, dtype)
    expected = _by_einsum(x, w, b, dy, stride)
    terms = max(shape[1], shape[2], dy.size // shape[2])
    bound = 8 * np.sqrt(terms) * np.finfo(dtype).eps  # sums of `terms` unit normals: a root of them large, each term rounded
    for order in (F.channels_last, np.ascontiguousarray):
        y = F.conv2d(order(x), w, b, stride=stride)
        g = F.conv2d_backward(order(dy), order(x), w, b, stride=stride)
        for ours, right in zip((y, g.x, g.weight, g.bias), expected, strict=True):
            np.testing.assert_allclose(ours, right, rtol=0, atol=bound * np.abs(right).max())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits_depend_on_neither_memory_order_nor_threads(shape):
    x, w, b, dy, stride = _operands(shape, "float32")
    results = []
    before = cnnpy.num_threads()
    try:
        for threads in (1, 2, 3, 7):
            cnnpy.set_num_threads(threads)
            for x_order in (F.channels_last, np.ascontiguousarray):
                for dy_order in (F.channels_last, np.ascontiguousarray):
                    g = F.conv2d_backward(dy_order(dy), x_order(x), w, b, stride=stride)
                    results.append([F.conv2d(x_order(x), w, b, stride=stride), g.x, g.weight, g.bias])
    finally:
        cnnpy.set_num_threads(before)
    for other in results[1:]:
        for a, c in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("channels", [3, 40])
def test_pixels_that_lie_apart(channels):
    """Views: every other column, images from the back, a gradient that is one number everywhere."""
    x, w, b, dy, _ = _operands((2, channels, 24, (12, 16), 1), "float32")
    wide = np.repeat(x, 2, axis=3)
    one = np.broadcast_to(np.float32(0.5), dy.shape)
    for x_view, dy_view in ((wide[..., ::2], dy[::-1]), (x[:, :, ::-1], one), (x.transpose(0, 1, 3, 2), dy.transpose(0, 1, 3, 2))):
        g = F.conv2d_backward(dy_view, x_view, w, b)
        copy = F.conv2d_backward(dy_view.copy(), x_view.copy(), w, b)
        np.testing.assert_array_equal(F.conv2d(x_view, w, b), F.conv2d(x_view.copy(), w, b))
        for a, c in zip((g.x, g.weight, g.bias), (copy.x, copy.weight, copy.bias), strict=True):
            np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [1, 2, 3, 6, 7, 8, 15, 16])
def test_few_channels(channels, dtype, isa, rng):
    """Weight gradients in every memory order, views whose gaps are not numbers too: exact for whole numbers."""
    for filters, size, stride in itertools.product((14, 16, 33, 64), ((3, 7), (32, 32), (19, 70)), (1, 2)):
        x = rng.integers(-4, 5, (3, channels, *size)).astype(dtype)
        dy = rng.integers(-4, 5, (3, filters, *((s - 1) // stride + 1 for s in size))).astype(dtype)
        w = np.zeros((filters, channels, 1, 1), dtype)
        right = np.einsum("nkhw,nchw->kc", dy, x[:, :, ::stride, ::stride], optimize=True)[:, :, None, None]
        for x_in, dy_in in itertools.product(orders(x), orders(dy)):
            found = F.conv2d_backward(dy_in, x_in, w, w[:, 0, 0, 0], stride=stride, needs=("weight", "bias"))
            np.testing.assert_array_equal(found.weight, right)
            np.testing.assert_array_equal(found.bias, dy.sum(axis=(0, 2, 3)))
            np.testing.assert_array_equal(F.conv2d_backward(dy_in, x_in, w, stride=stride, needs=("weight",)).weight, right)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels_last", [True, False])
def test_volumes_that_are_cut_along_their_depth(channels_last, stride, rng):
    """A volume of 1x1x1 windows is read where it lies, in parts that begin at other depths."""
    x = rng.integers(-4, 5, (2, 16, 41, 20, 20)).astype(np.float32)
    w = rng.integers(-4, 5, (8, 16, 1, 1, 1)).astype(np.float32)
    given = F.channels_last(x) if channels_last else x
    right = np.einsum("ncdhw,kc->nkdhw", x[:, :, ::stride, ::stride, ::stride], w[:, :, 0, 0, 0])
    np.testing.assert_array_equal(F.conv3d(given, w, stride=stride), right)
