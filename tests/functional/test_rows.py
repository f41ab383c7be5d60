"""Images in C order go through kernels whose lanes are columns, channels-last ones through kernels whose lanes are channels: both give the same bits
on whole numbers, for rows that are wide enough and for those that are not."""

import itertools

import numpy as np
import pytest

import cnnpy
from cnnpy import functional as F

WIDTHS = (1, 3, 7, 9, 16, 17, 29, 38)


def whole(rng, shape, dtype, high=9):
    return rng.integers(-high, high + 1, shape).astype(dtype)


def both(function, *arrays):
    """The results of C-order and of channels-last images."""
    return function(*arrays), function(*(F.channels_last(a) if a.ndim > 3 else a for a in arrays))


def same(a, b):
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


POOLS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0)},
    {"kernel_size": 4, "stride": 2, "padding": 2},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": 5, "stride": 4, "padding": 2},
    {"kernel_size": 2, "ceil_mode": True},
    {"kernel_size": (2, 5), "stride": 1, "padding": (0, 2)},
    {"kernel_size": (3, 6), "stride": (1, 2), "padding": (1, 0)},
    {"kernel_size": (1, 7), "stride": 1},
    {"kernel_size": (2, 8), "stride": 1, "padding": (1, 4)},
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", POOLS, ids=str)
def test_pools(options, dtype):
    rng = np.random.default_rng(0)
    for width, dilation in itertools.product(WIDTHS, (1, 2)):
        x = whole(rng, (2, 5 if width % 2 else 16, 9, width), dtype)
        of_max = {**options, "dilation": dilation}
        try:
            y, index = F.max_pool2d(x, **of_max, return_indices=True)
        except ValueError:  # no window fits
            continue
        last = F.channels_last(x)
        same((y, index), F.max_pool2d(last, **of_max, return_indices=True))
        np.testing.assert_array_equal(F.max_pool2d(x, **of_max), y)
        dy = whole(rng, y.shape, dtype)
        caches = [F.max_pool2d(a, **of_max, return_cache=True)[-1] for a in (x, last)]
        gradients = [F.max_pool2d_backward(dy, x, **of_max, cache=c).x for c in (*caches, index)]
        gradients += [F.max_pool2d_backward(F.channels_last(dy), last, **of_max, cache=c).x for c in (*caches, index)]
        for g in gradients[1:]:
            np.testing.assert_array_equal(g, gradients[0])
        if dilation == 1:
            for counted in (False, True):
                o = {**options, "count_include_pad": counted}
                forward, back = both(lambda a: F.avg_pool2d(a, **o), x)  # noqa: B023
                np.testing.assert_allclose(forward, back, rtol=1e-6)
                forward, back = both(lambda g, a: F.avg_pool2d_backward(g, a, **o).x, dy, x)  # noqa: B023
                np.testing.assert_allclose(forward, back, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3])
def test_pools_of_other_ranks(rank):
    rng = np.random.default_rng(1)
    pool, back = getattr(F, f"max_pool{rank}d"), getattr(F, f"max_pool{rank}d_backward")
    average, share = getattr(F, f"avg_pool{rank}d"), getattr(F, f"avg_pool{rank}d_backward")
    for width, options in itertools.product((9, 16, 29), ({"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1})):
        x = whole(rng, (2, 3, *(6,) * (rank - 1), width), np.float32)
        y, cache = pool(x, **options, return_cache=True)
        dy = whole(rng, y.shape, np.float32)
        last = F.channels_last(x)
        np.testing.assert_array_equal(pool(last, **options), y)
        other = pool(last, **options, return_cache=True)[-1]
        np.testing.assert_array_equal(back(dy, x, **options, cache=cache).x, back(F.channels_last(dy), last, **options, cache=other).x)
        np.testing.assert_allclose(average(x, **options), average(last, **options), rtol=1e-6)
        np.testing.assert_allclose(share(dy, x, **options).x, share(F.channels_last(dy), last, **options).x, rtol=1e-5, atol=1e-5)


def test_the_first_maximum_wins_and_a_nan_beats_all():
    x = np.zeros((1, 3, 4, 40), np.float32)
    x[0, 1, 1, 7] = x[0, 1, 2, 20] = np.nan
    x[0, 2] = -np.inf
    for order in (np.ascontiguousarray, F.channels_last):
        y, index = F.max_pool2d(order(x), 2, return_indices=True)
        assert np.isnan(y[0, 1, 0, 3]) and index[0, 1, 0, 3] == 47 and np.isnan(y[0, 1, 1, 10]) and np.isnan(y).sum() == 2
        assert index[0, 0, 0, 5] == 10 and index[0, 2, 1, 19] == 2 * 40 + 38
        assert np.isnan(F.max_pool2d(order(x), 2)).sum() == 2


def test_taps_that_no_forward_writes_add_nothing():
    x = np.zeros((2, 3, 8, 40), np.float32)
    for options in ({"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 5, "stride": 4, "padding": 2}):
        y, cache = F.max_pool2d(x, **options, return_cache=True)
        dy, cache = np.ones_like(y), cache.copy(order="K")
        for wrong in (200, 255):
            cache[...] = wrong
            assert not F.max_pool2d_backward(dy, x, **options, cache=cache).x.any()
        cache[...] = 0  # the corner, in the padding for the first windows
        dx = F.max_pool2d_backward(dy, x, **options, cache=cache).x
        assert dx.sum() == 6 * sum(
            h * 1 for h in [(y.shape[2] - bool(options.get("padding"))) * (y.shape[3] - bool(options.get("padding")))]
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adaptive_pools(dtype):
    rng = np.random.default_rng(2)
    for width, out in ((40, 10), (40, 20), (36, 9), (40, 7), (28, 1), (30, 30)):
        x = whole(rng, (2, 3, 8, width), dtype)
        size = (2, out)
        y, index = F.adaptive_max_pool2d(x, size, return_indices=True)
        same((y, index), F.adaptive_max_pool2d(F.channels_last(x), size, return_indices=True))
        dy = whole(rng, y.shape, dtype)
        caches = [F.adaptive_max_pool2d(a, size, return_cache=True)[-1] for a in (x, F.channels_last(x))]
        want = F.adaptive_max_pool2d_backward(dy, x, size, cache=index).x
        for c in caches:
            np.testing.assert_array_equal(F.adaptive_max_pool2d_backward(dy, x, size, cache=c).x, want)
            np.testing.assert_array_equal(F.adaptive_max_pool2d_backward(F.channels_last(dy), F.channels_last(x), size, cache=c).x, want)
        same(*([F.adaptive_avg_pool2d(o(x), size)] for o in (np.ascontiguousarray, F.channels_last)))
        a, b = both(lambda g, v: F.adaptive_avg_pool2d_backward(g, v, size).x, dy, x)  # noqa: B023
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular", "symmetric"])
def test_padding(mode, dtype):
    rng = np.random.default_rng(3)
    for width, pads in itertools.product(
        (4, 9, 33), (((1, 2), (3, 2)), ((0, 1), (-2, 3)), ((2, 0), (0, 0)), ((-1, 0), (2, -3)), ((4, 4), (3, 3)))
    ):
        x = whole(rng, (2, 3, 5, width), dtype)
        y, other = both(lambda a: F.pad(a, pads, mode=mode), x)  # noqa: B023
        np.testing.assert_array_equal(y, other)
        dy = whole(rng, y.shape, dtype)
        np.testing.assert_array_equal(*both(lambda g, a: F.pad_backward(g, a, pads, mode=mode).x, dy, x))  # noqa: B023


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options", [{"mode": "nearest"}, {"mode": "bilinear"}, {"mode": "bilinear", "align_corners": True}, {"mode": "bicubic"}], ids=str
)
def test_doubling(options, dtype):
    rng, close = np.random.default_rng(4), 1e-5 if dtype == np.float32 else 1e-13
    for width, height in itertools.product((5, 12, 13, 29, 40), (1, 4, 23)):
        x = rng.standard_normal((2, 3, height, width)).astype(dtype)
        for factor in (2.0, (3.0, 2.0), (1.0, 2.0)):
            y, other = both(lambda a: F.interpolate(a, scale_factor=factor, **options), x)  # noqa: B023
            np.testing.assert_allclose(y, other, rtol=close, atol=close)
            dy = rng.standard_normal(y.shape).astype(dtype)
            a, b = both(lambda g, v: F.interpolate_backward(g, v, scale_factor=factor, **options).x, dy, x)  # noqa: B023
            np.testing.assert_allclose(a, b, rtol=close, atol=close)


def test_average_of_a_broadcast_gradient():
    x = np.zeros((2, 3, 20, 40), np.float32)
    dy = np.broadcast_to(np.arange(40, dtype=np.float32), x.shape)  # every row is the same memory, their divisors are not
    o = {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False}
    np.testing.assert_array_equal(F.avg_pool2d_backward(dy, x, **o).x, F.avg_pool2d_backward(dy.copy(), x, **o).x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_pixel_shuffle(factor, dtype):
    rng = np.random.default_rng(7)
    for width, channels in itertools.product((1, 7, 16, 33), (1, 5, 16, 19)):
        x = whole(rng, (2, channels * factor**2, 3, width), dtype)
        want = x.reshape(2, channels, factor, factor, 3, width).transpose(0, 1, 4, 2, 5, 3).reshape(2, channels, 3 * factor, width * factor)
        for order in (np.ascontiguousarray, F.channels_last):
            np.testing.assert_array_equal(F.pixel_shuffle(order(x), factor), want)
            np.testing.assert_array_equal(F.pixel_unshuffle(order(want), factor), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_averages_of_volumes_share_their_rows(dtype):
    rng = np.random.default_rng(8)
    for width, options in itertools.product(
        (16, 37), ({"kernel_size": 3, "stride": 1, "padding": 1}, {"kernel_size": (2, 3, 3), "stride": 1})
    ):
        x = whole(rng, (2, 3, 5, 11, width), dtype)
        dy = whole(rng, F.avg_pool3d(x, **options).shape, dtype) * 54  # divided without a rest by each count of cells
        a, b = both(lambda g, v: F.avg_pool3d_backward(g, v, **options).x, dy, x)  # noqa: B023
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_depthwise(dtype):
    rng = np.random.default_rng(5)
    for width, kernel, stride, dilation in itertools.product((3, 7, 9, 29, 40), ((3, 3), (1, 5)), (1, 2, 3), (1, 2)):
        x, w = whole(rng, (2, 9, 7, width), dtype), whole(rng, (9, 1, *kernel), dtype)
        for mode in ("zeros", "reflect"):
            o = {"stride": stride, "dilation": dilation, "padding": (1, 2), "groups": 9, "padding_mode": mode}
            if (kernel[1] - 1) * dilation + 1 > width + 4:
                continue
            b = whole(rng, 9, dtype)
            y, other = both(lambda a: F.conv2d(a, w, b, **o), x)  # noqa: B023
            np.testing.assert_array_equal(y, other)
            dy = whole(rng, y.shape, dtype)
            np.testing.assert_array_equal(*both(lambda g, a: F.conv2d_backward(g, a, w, b, **o, needs=("x",)).x, dy, x))  # noqa: B023


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolutions_turn_their_results(dtype):
    rng = np.random.default_rng(9)
    for width, filters, stride in itertools.product((7, 16, 17, 29, 45), (16, 35), (1, 2, 3)):
        x, w, b = whole(rng, (2, 24, 6, width), dtype), whole(rng, (filters, 24, 3, 5), dtype), whole(rng, filters, dtype)
        o = {"stride": (1, stride), "padding": (2, 4), "dilation": (2, 2)}
        y, other = both(lambda a: F.conv2d(a, w, b, **o), x)  # noqa: B023
        np.testing.assert_array_equal(y, other)
        dy = whole(rng, y.shape, dtype)
        np.testing.assert_array_equal(*both(lambda g, a: F.conv2d_backward(g, a, w, b, **o, needs=("x",)).x, dy, x))  # noqa: B023
        v = whole(rng, (24, filters, 2, 2), dtype)
        np.testing.assert_array_equal(*both(lambda a: F.conv_transpose2d(a, v, b, stride=(2, stride), padding=(0, 1)), x))  # noqa: B023


def test_threads_change_no_bit():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((3, 11, 33, 41)).astype(np.float32)
    w = rng.standard_normal((11, 1, 3, 3)).astype(np.float32)
    before, results = cnnpy.num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            cnnpy.set_num_threads(threads)
            y, cache = F.max_pool2d(x, kernel_size=3, stride=2, padding=1, return_cache=True)
            results.append(
                (
                    y,
                    F.max_pool2d_backward(y, x, kernel_size=3, stride=2, padding=1, cache=cache).x,
                    F.avg_pool2d(x, kernel_size=3, stride=2, padding=1),
                    F.avg_pool2d_backward(y, x, kernel_size=3, stride=2, padding=1).x,
                    F.interpolate(x, scale_factor=2.0, mode="bilinear"),
                    F.conv2d(x, w, padding=1, groups=11),
                    F.pad(x, ((1, 1), (2, 2)), mode="reflect"),
                )
            )
    finally:
        cnnpy.set_num_threads(before)
    for other in results[1:]:
        same(results[0], other)


@pytest.mark.parametrize("images", ["one after another", "apart", "of one channel", "of one channel, apart"])
def test_averages_of_small_planes(images):
    """Planes of all images fill the lanes together where they lie one after another, else those of one image, or its rows: the same numbers."""
    rng = np.random.default_rng(0)
    for size, (window, stride) in itertools.product((4, 9, 14, 28), ((2, 2), (3, 2), (3, 1), (4, 4))):
        x = whole(rng, (40, 1 if "one channel" in images else 18, size, size), np.float32)
        x = x[::2] if "apart" in images else x
        n, c = x.shape[:2]
        out = (size - window) // stride + 1
        y = F.avg_pool2d(x, window, stride=stride)
        wanted = np.zeros((n, c, out, out))
        dy, dx = whole(rng, (n, c, out, out), np.float32), np.zeros(x.shape)
        for i, j in itertools.product(range(out), range(out)):
            at = (..., slice(i * stride, i * stride + window), slice(j * stride, j * stride + window))
            wanted[..., i, j] = x[at].astype(np.float64).mean((2, 3))
            dx[at] += dy[..., i, j, None, None] / window**2
        np.testing.assert_allclose(y, wanted, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(F.avg_pool2d_backward(dy, x, window, stride=stride).x, dx, rtol=1e-5, atol=1e-5)
