"""Small images: planes of less than a vector go several at once, few channels that are neighbours as rows. Every size around those where the way of
computing changes gives what the definition gives, and the same bits for C order, channels-last and views."""

import itertools

import numpy as np
import pytest

from cnnpy import functional as F
from tests.reference import pool, resize

CHANNELS = (1, 2, 3, 5, 6, 7, 8, 9, 17)
SIZES = ((1, 1), (3, 2), (7, 7), (5, 9), (14, 14), (4, 16), (3, 17), (2, 33), (6, 65))


def whole(rng, shape, dtype=np.float32):
    return rng.integers(-9, 10, shape).astype(dtype)


def orders(x):
    """The same values in C order, channels-last, and as a view whose rows and pixels have gaps."""
    roomy = np.zeros((*x.shape[:-2], x.shape[-2] + 1, x.shape[-1] + 3), x.dtype)
    view = roomy[..., :-1, 1:-2]
    view[...] = x
    return x, F.channels_last(x), view


def agree(want, function, *arrays):
    """The function gives `want` for arrays of every order; nothing but the result is written."""
    for given in zip(*map(orders, arrays), strict=True):
        before = [g.copy() for g in given]
        np.testing.assert_array_equal(np.asarray(function(*given)), want)
        for g, b in zip(given, before, strict=True):
            np.testing.assert_array_equal(g, b)


def first_maxima(x, windows):
    """{output cell: flat index of the first maximum in its window}, for every image and channel at once."""
    for p, cells in windows:
        at = np.array([np.ravel_multi_index(c, x.shape[2:]) for c in cells])
        yield p, at[np.argmax(x.reshape(*x.shape[:2], -1)[..., at], axis=-1)]


def returned(index, dy, shape):
    """dy at the cells of index, added in C order of the outputs."""
    dx = np.zeros((*shape[:2], shape[2] * shape[3]), dy.dtype)
    for n, c in np.ndindex(*shape[:2]):
        np.add.at(dx[n, c], index[n, c].ravel(), dy[n, c].ravel())
    return dx.reshape(shape)


def shapes():
    for i, (channels, size) in enumerate(itertools.product(CHANNELS, SIZES)):
        yield ((1, 2, 5, 18)[i % 4], channels, *size)


POOLS = (
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": 1, "stride": 3},
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", POOLS, ids=str)
def test_pools(options, dtype):
    rng = np.random.default_rng(0)
    for shape in shapes():
        if min(shape[2:]) + 2 * options.get("padding", 0) < options["kernel_size"]:
            continue
        x = whole(rng, shape, dtype)
        outputs, windows, _ = pool._walk(x, options["kernel_size"], options)
        index = np.zeros((*shape[:2], *outputs), np.int64)
        for p, at in first_maxima(x, windows()):
            index[(..., *p)] = at
        want = np.take_along_axis(x.reshape(*shape[:2], -1), index.reshape(*shape[:2], -1), -1).reshape(index.shape)
        agree(want, lambda a: F.max_pool2d(a, **options), x)
        agree(index, lambda a: F.max_pool2d(a, **options, return_indices=True)[1], x)
        dy = whole(rng, want.shape, dtype)
        dx = returned(index, dy, shape)
        for cached in orders(x):
            cache = F.max_pool2d(cached, **options, return_cache=True)[-1]
            agree(dx, lambda g, a: F.max_pool2d_backward(g, a, **options, cache=cache).x, dy, x)  # noqa: B023
        y = F.avg_pool2d(x, **options)
        np.testing.assert_allclose(y, pool.avg_forward(x, **options), rtol=1e-6 if dtype == np.float32 else 1e-14, atol=1e-15)
        agree(y, lambda a: F.avg_pool2d(a, **options), x)
        back = F.avg_pool2d_backward(dy, x, **options).x
        agree(back, lambda g, a: F.avg_pool2d_backward(g, a, **options).x, dy, x)
        np.testing.assert_allclose(np.vdot(back, x), np.vdot(dy, y), rtol=1e-4, atol=1e-2)  # the adjoint


@pytest.mark.parametrize("out", [1, 2, 3, 7, (2, 5), (9, 1)], ids=str)
def test_adaptive_pools(out):
    rng = np.random.default_rng(1)
    wide = [(2, 20, 56, 56), (1, 3, 21, 35), (3, 2, 24, 40)]  # windows of many columns
    for shape in (*shapes(), *wide):
        x = whole(rng, shape)
        y = F.adaptive_avg_pool2d(x, out)
        np.testing.assert_allclose(y, resize.adaptive_avg(x, out), rtol=1e-5, atol=1e-6)
        agree(y, lambda a: F.adaptive_avg_pool2d(a, out), x)
        dy = whole(rng, y.shape)
        back = F.adaptive_avg_pool2d_backward(dy, x, out).x
        np.testing.assert_allclose(np.vdot(back, x), np.vdot(dy, y), rtol=1e-4, atol=1e-2)
        agree(back, lambda g, a: F.adaptive_avg_pool2d_backward(g, a, out).x, dy, x)
        index = np.zeros(y.shape, np.int64)
        for p, at in first_maxima(x, resize.adaptive_windows(shape[2:], y.shape[2:])):
            index[(..., *p)] = at
        agree(index, lambda a: F.adaptive_max_pool2d(a, out, return_indices=True)[1], x)
        dx = returned(index, dy, shape)
        for cached in orders(x):
            cache = F.adaptive_max_pool2d(cached, out, return_cache=True)[-1]
            agree(dx, lambda g, a: F.adaptive_max_pool2d_backward(g, a, out, cache=cache).x, dy, x)  # noqa: B023


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular", "symmetric"])
def test_padding(mode):
    names = {"zeros": "constant", "replicate": "edge", "circular": "wrap"}
    rng = np.random.default_rng(2)
    for shape, pads in itertools.product(shapes(), (((1, 1), (1, 1)), ((0, 2), (3, 0)), ((2, 2), (5, 6)))):
        if mode != "zeros" and (max(pads[0]) >= shape[2] or max(pads[1]) >= shape[3]):
            continue
        x = whole(rng, shape)
        y = np.pad(x, ((0, 0), (0, 0), *pads), mode=names.get(mode, mode))
        agree(y, lambda a: F.pad(a, pads, mode=mode), x)  # noqa: B023
        dy = whole(rng, y.shape)
        numbers = np.arange(shape[2] * shape[3]).reshape(shape[2:])
        place = np.pad(numbers, pads, mode=names.get(mode, mode), **({"constant_values": -1} if mode == "zeros" else {}))
        dx = np.zeros((*shape[:2], numbers.size + 1), np.float32)
        np.add.at(dx.reshape(-1, numbers.size + 1).T, place.ravel(), dy.reshape(-1, place.size).T)  # the last one is nobody's
        agree(dx[..., :-1].reshape(shape), lambda g, a: F.pad_backward(g, a, pads, mode=mode).x, dy, x)  # noqa: B023
    agree(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=7), lambda a: F.pad(a, ((1, 1), (1, 1)), value=7.0), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options", [{"mode": "nearest"}, {"mode": "bilinear"}, {"mode": "bilinear", "align_corners": True}, {"mode": "bicubic"}], ids=str
)
def test_resizing(options, dtype):
    rng, close = np.random.default_rng(3), 1e-5 if dtype == np.float32 else 1e-12
    for i, shape in enumerate(shapes()):
        height, width = shape[2:]
        for size in (
            (2 * height, 2 * width),
            (max(1, height // 2), max(1, width // 2)),
            (height + 1, max(1, width - 1)),
            (height, 3 * width),
        )[i % 2 :: 2]:
            x = rng.standard_normal(shape).astype(dtype)
            y = np.asarray(F.interpolate(x, size=size, **options))
            np.testing.assert_allclose(y, resize.interpolate(x, size=size, **options), rtol=close, atol=close)
            agree(y, lambda a: F.interpolate(a, size=size, **options), x)  # noqa: B023
            dy = rng.standard_normal(y.shape).astype(dtype)
            back = F.interpolate_backward(dy, x, size=size, **options).x
            np.testing.assert_allclose(np.vdot(back, x), np.vdot(dy, y), rtol=100 * close, atol=1000 * close)
            agree(back, lambda g, a: F.interpolate_backward(g, a, size=size, **options).x, dy, x)  # noqa: B023


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise(stride, dtype):
    rng = np.random.default_rng(4)
    for shape in shapes():
        c = shape[1]
        for window, mode in (((3, 3), "zeros"), ((3, 3), "reflect"), ((1, 2), "zeros")):
            if mode == "reflect" and min(shape[2:]) < 2:
                continue
            x, w, b = whole(rng, shape, dtype), whole(rng, (c, 1, *window), dtype), whole(rng, (c,), dtype)
            o = {"stride": stride, "padding": (1, 1), "groups": c, "padding_mode": mode}
            seen = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode={"zeros": "constant"}.get(mode, mode))
            high, wide = (seen.shape[2] - window[0]) // stride + 1, (seen.shape[3] - window[1]) // stride + 1
            y = np.zeros((*shape[:2], high, wide), dtype) + b[:, None, None]
            for i, j in np.ndindex(*window):
                y += w[:, :, i, j, None] * seen[:, :, i : i + stride * high : stride, j : j + stride * wide : stride]
            agree(y, lambda a: F.conv2d(a, w, b, **o), x)  # noqa: B023
            dy = whole(rng, y.shape, dtype)
            want = F.conv2d_backward(dy, x, w, b, **o)
            for i, j in np.ndindex(*window):
                part = seen[:, :, i : i + stride * high : stride, j : j + stride * wide : stride]
                np.testing.assert_array_equal(want.weight[:, 0, i, j], (part * dy).sum((0, 2, 3)))
            np.testing.assert_array_equal(np.vdot(want.x, x), np.vdot(dy, y) - np.vdot(dy.sum((0, 2, 3)), b))  # sums of whole numbers
            for part in ("x", "weight", "bias"):
                agree(getattr(want, part), lambda g, a: getattr(F.conv2d_backward(g, a, w, b, **o), part), dy, x)  # noqa: B023
