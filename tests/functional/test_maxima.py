"""Gradients of maxima, however a window's winner is found again: whole planes, pairs, gathered vectors of channels, windows too large for these."""

import numpy as np
import pytest

from cnnpy import functional as F
from tests.functional.test_small_images import orders, returned

WINDOWS = (
    {"kernel_size": 2},
    {"kernel_size": 2, "stride": 1},
    {"kernel_size": (2, 3), "stride": (3, 2), "padding": (1, 1)},
    {"kernel_size": 3},
    {"kernel_size": 4},
    {"kernel_size": 5, "stride": 2, "padding": 2},
    {"kernel_size": (16, 16), "stride": 3},
    {"kernel_size": 3, "stride": 2, "dilation": 2, "padding": 1},
    {"kernel_size": 2, "stride": 3, "ceil_mode": True},
)
SHAPES = ((2, 3, 20, 21), (1, 8, 17, 70), (1, 17, 19, 24), (1, 40, 24, 18))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", WINDOWS, ids=str)
def test_every_window_adds_to_its_first_maximum(options, dtype):
    rng = np.random.default_rng(3)
    for shape in SHAPES:
        x = rng.integers(-4, 5, shape).astype(dtype)  # many maxima are equal
        y, index = F.max_pool2d(x, **options, return_indices=True)
        dy = rng.integers(-9, 10, y.shape).astype(dtype)
        want = returned(index, dy, shape)
        for cached in orders(x):
            cache = F.max_pool2d(cached, **options, return_cache=True)[-1]
            for given in orders(x):
                for gradient in orders(dy):
                    np.testing.assert_array_equal(F.max_pool2d_backward(gradient, given, **options, cache=cache).x, want)


@pytest.mark.parametrize(
    ("name", "shape", "options"), [("max_pool1d", (2, 20, 75), {"kernel_size": 2}), ("max_pool3d", (2, 20, 5, 8, 34), {"kernel_size": 2})]
)
def test_other_ranks(name, shape, options):
    rng = np.random.default_rng(4)
    forward, backward = getattr(F, name), getattr(F, name + "_backward")
    x = rng.standard_normal(shape).astype(np.float32)
    y, index = forward(x, **options, return_indices=True)
    dy = rng.integers(-9, 10, y.shape).astype(np.float32)
    want = np.zeros((*shape[:2], int(np.prod(shape[2:]))), np.float32)
    for n, c in np.ndindex(*shape[:2]):
        np.add.at(want[n, c], index[n, c].ravel(), dy[n, c].ravel())
    for order in (np.asarray, F.channels_last):
        cache = forward(order(x), **options, return_cache=True)[-1]
        np.testing.assert_array_equal(backward(order(dy), order(x), **options, cache=cache).x, want.reshape(shape))


@pytest.mark.parametrize("options", WINDOWS, ids=str)
def test_zeros_have_one_sign(options):
    """A gradient is a sum that begins with zero: of dy = -0 it is 0, whatever the memory order and however many windows hold a cell."""
    for shape in SHAPES:
        for x in orders(np.random.default_rng(5).standard_normal(shape).astype(np.float32)):
            y, cache = F.max_pool2d(x, **options, return_cache=True)
            for dy in orders(np.full(y.shape, -0.0, np.float32)):
                assert not np.signbit(F.max_pool2d_backward(dy, x, **options, cache=cache).x).any()


def test_infinities_and_nan_stay_in_their_cells():
    for shape in SHAPES:
        for x in orders(np.random.default_rng(6).standard_normal(shape).astype(np.float32)):
            for options in WINDOWS[:3]:
                y, cache = F.max_pool2d(x, **options, return_cache=True)
                dy = np.ones(y.shape, np.float32)
                index = F.max_pool2d(x, **options, return_indices=True)[1]
                dy[0, 0, 1, 1], dy[0, 1, 2, 2] = np.inf, np.nan
                found = [F.max_pool2d_backward(g, x, **options, cache=cache).x for g in orders(dy)]
                np.testing.assert_array_equal(found[0].reshape(*shape[:2], -1)[0, 0, index[0, 0, 1, 1]], np.inf)
                assert np.isinf(found[0]).sum() == 1 and np.isnan(found[0]).sum() == 1
                for other in found[1:]:
                    np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("options", WINDOWS, ids=str)
def test_taps_that_no_forward_wrote_reach_nothing_else(options):
    for shape in SHAPES:
        for x in orders(np.zeros(shape, np.float32)):
            y, cache = F.max_pool2d(x, **options, return_cache=True)
            if cache.dtype != np.uint8:
                continue
            for tap in (200, 255):
                cache[...] = tap
                got = F.max_pool2d_backward(np.ones(y.shape, np.float32), x, **options, cache=cache).x
                assert np.isfinite(got).all() and np.abs(got).sum() <= y.size
