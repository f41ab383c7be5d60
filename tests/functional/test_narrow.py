"""Convolutions with few filters, whose lanes lie along rows, and input gradients of few channels: rows of every length around a vector's, odd and even
numbers of them, every memory order, exact for whole numbers."""

import itertools

import numpy as np
import pytest

import cnnpy
from cnnpy import functional as F
from tests.reference import taps

WIDTHS = (8, 13, 14, 16, 17, 28, 31, 32, 33, 50)
OPTIONS = (
    {"padding": 1},
    {"padding": 0},
    {"padding": ((2, 1), (0, 3))},
    {"padding": 2, "dilation": 2},
    {"padding": (3, 1), "stride": (2, 1)},
)


def whole(rng, shape, dtype):
    return rng.integers(-6, 7, shape).astype(dtype)


def orders(x):
    """The same values in C order, channels-last, and as a view whose gaps are not numbers."""
    roomy = np.full((*x.shape[:-2], x.shape[-2] + 1, x.shape[-1] + 3), np.nan, x.dtype)
    view = roomy[..., :-1, 1:-2]
    view[...] = x
    return x, F.channels_last(x), view


def given(i, channels, filters, width, options, dtype):
    rng = np.random.default_rng(i)
    x = whole(rng, ((1, 3)[i % 2], channels, (5, 6, 1)[i % 3] + 2, width), dtype)
    w, bias = whole(rng, (filters, channels, 3, 3), dtype), whole(rng, (filters,), dtype)
    y = taps.forward(*(a.astype(np.float64) for a in (x, w, bias)), options)
    return x, w, bias, y, whole(rng, y.shape, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("channels, filters", [(1, 6), (3, 8), (8, 3), (17, 5), (6, 1), (33, 2), (2, 4), (5, 16), (3, 64)])
def test_every_row_length(channels, filters, options, dtype, isa):
    for i, width in enumerate(WIDTHS):
        x, w, bias, y, dy = given(i, channels, filters, width, options, dtype)
        want = taps.backward(*(a.astype(np.float64) for a in (dy, x, w)), options)
        for x_in, dy_in in itertools.product(orders(x), orders(dy)):
            np.testing.assert_array_equal(F.conv2d(x_in, w, bias, **options), y)
            found = F.conv2d_backward(dy_in, x_in, w, bias, **options)
            np.testing.assert_array_equal(found.x, want[0])
            np.testing.assert_array_equal(found.weight, want[1])
            np.testing.assert_array_equal(found.bias, want[2])


@pytest.mark.parametrize("width", [14, 28, 50])
def test_bits_in_every_order_and_for_all_threads(width, isa):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((5, 3, 9, width), (6, 3, 3, 3)))
    dy = rng.standard_normal((5, 6, 9, width)).astype(np.float32)
    results = []
    for threads in (1, 2, 3, 7):
        with cnnpy.threads(threads):
            for x_in, dy_in in itertools.product(orders(x), orders(dy)):
                results.append([F.conv2d(x_in, w, padding=1), *F.conv2d_backward(dy_in, x_in, w, w[:, 0, 0, 0], padding=1)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_what_is_not_a_number_stays_in_its_window():
    """Lanes beyond a row's end are part of no sum, whatever lies there."""
    x, dy, w = np.zeros((2, 2, 6, 19), np.float32), np.ones((2, 4, 6, 19), np.float32), np.ones((4, 2, 3, 3), np.float32)
    x[0, 1, 2, 18] = np.nan
    bad = np.zeros((2, 4, 6, 19), bool)
    bad[0, :, 1:4, 17:] = True
    for x_in in orders(x):
        np.testing.assert_array_equal(np.isnan(F.conv2d(x_in, w, padding=1)), bad)
    dy[1, 2, 0, 18] = np.inf
    dx = np.zeros((2, 2, 6, 19), bool)
    dx[1, :, :2, 17:] = True
    for dy_in in orders(dy):
        found = F.conv2d_backward(dy_in, np.zeros_like(x), w, w[:, 0, 0, 0], padding=1)
        np.testing.assert_array_equal(~np.isfinite(found.x), dx)
        assert np.isfinite(found.weight[[0, 1, 3]]).all() and not np.isfinite(found.bias[2]) and np.isfinite(found.bias[[0, 1, 3]]).all()


def test_transposed_to_few_channels():
    """A transposed convolution is the same gradient, with a bias."""
    rng = np.random.default_rng(3)
    for width in WIDTHS:
        y, w, bias = whole(rng, (2, 12, 5, width), np.float32), whole(rng, (12, 3, 3, 3), np.float32), whole(rng, (3,), np.float32)
        want = (
            taps.backward(y.astype(np.float64), np.zeros((2, 3, 5, width)), w.astype(np.float64), {"padding": 1})[0] + bias[:, None, None]
        )
        for given in orders(y):
            np.testing.assert_array_equal(F.conv_transpose2d(given, w, bias, padding=1), want)
