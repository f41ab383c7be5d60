"""NaN, infinities, signed zeros and subnormals; and other libraries' floating-point modes."""

import ctypes
import platform
import sys

import numpy as np
import pytest

from cnnpy import functional as F

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_elementwise(dtype, isa):
    x = np.array([NAN, -INF, INF, -0.0, 0.0, -1e-40, 1e-40], dtype)
    with np.errstate(all="ignore"):
        y = F.relu(x)
        assert np.isnan(y[0]) and list(y[1:5]) == [0, INF, 0, 0] and np.signbit(y[3]) and y[6] == x[6]
        assert list(np.isnan(F.tanh(x))) == [True] + [False] * 6
        assert list(F.tanh(x)[1:3]) == [-1, 1] and np.signbit(F.tanh(x)[3]) and F.tanh(x)[6] == x[6]
        assert list(F.sigmoid(x)[1:4]) == [0, 1, 0.5] and np.isnan(F.sigmoid(x)[0])
        assert list(F.exp(x)[1:4]) == [0, INF, 1] and np.isnan(F.exp(x)[0])
        logs = F.log(np.array([NAN, -1, 0, INF, 1], dtype))
        assert np.isnan(logs[0]) and np.isnan(logs[1]) and logs[2] == -INF and logs[3] == INF and logs[4] == 0
    dy = np.full(3, 2, dtype)
    assert list(F.relu_backward(dy, np.array([NAN, 0, -1], dtype)).x) == [2, 0, 0]


def ulps(got, exact, dtype):
    """Distance in units of the last place of dtype at the exact value."""
    return np.abs(got.astype(np.longdouble) - exact) / np.spacing(np.abs(exact).astype(dtype)).astype(np.longdouble)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_are_within_four_ulp(dtype, isa, rng):
    exponents = rng.uniform(-30, 7, 200_000)
    x = (np.exp2(exponents) * rng.choice([-1, 1], exponents.size)).astype(dtype)
    wide = x.astype(np.longdouble)
    with np.errstate(all="ignore"):
        limit = 87 if dtype == np.float32 else 700
        inside = np.abs(x) < limit
        assert ulps(F.exp(x), np.exp(wide), dtype)[inside].max() <= 4
        assert ulps(F.tanh(x), np.tanh(wide), dtype).max() <= 4
        e = np.exp(-np.abs(wide))
        assert ulps(F.sigmoid(x), np.where(wide < 0, e, 1) / (1 + e), dtype)[inside].max() <= 4
        positive = np.abs(x)
        assert ulps(F.log(positive), np.log(np.abs(wide)), dtype).max() <= 4
    tiny = np.array([1e-40, 3e-42, 1.2e-38], np.float32) if dtype == np.float32 else np.array([1e-310, 5e-324])
    assert ulps(F.log(tiny), np.log(tiny.astype(np.longdouble)), dtype).max() <= 4
    low = np.array([-88, -95, -103], np.float32) if dtype == np.float32 else np.array([-709.0, -730, -744])
    assert ulps(F.exp(low), np.exp(low.astype(np.longdouble)), dtype).max() <= 1


def test_functions_over_all_floats(budget, capsys):
    """exp, tanh, sigmoid within 4 ulp: every float32 in the long tier, evenly spaced ones before."""
    stride = budget(quick=1031, full=67, long=1)
    worst = {"exp": 0.0, "tanh": 0.0, "sigmoid": 0.0}
    count = 0
    with np.errstate(all="ignore"):
        for begin in range(0, 2**32, stride << 22):
            x = np.arange(begin, min(begin + (stride << 22), 2**32), stride, np.uint64).astype(np.uint32).view(np.float32)
            wide = x.astype(np.float64)
            number = ~np.isnan(x)
            exact = {"exp": np.exp(wide), "tanh": np.tanh(wide), "sigmoid": 1 / (1 + np.exp(-wide))}
            for name, wanted in exact.items():
                got = getattr(F, name)(x)
                assert np.isnan(got[~number]).all()
                rounded = wanted.astype(np.float32)
                finite = number & np.isfinite(rounded)
                assert (got[number & np.isinf(rounded)] >= np.finfo(np.float32).max).all()
                error = np.abs(got.astype(np.float64) - wanted)[finite] / np.spacing(np.abs(rounded[finite])).astype(np.float64)
                worst[name] = max(worst[name], float(error.max(initial=0)))
            count += x.size
    with capsys.disabled():
        print(f"\n{count:,} floats, largest errors in ulp: " + ", ".join(f"{n} {e:.2f}" for n, e in worst.items()))
    assert all(e <= 4 for e in worst.values()), worst


def test_the_same_bits_at_every_position(isa, rng):
    x = rng.normal(size=67).astype(np.float32)
    for function in (F.tanh, F.sigmoid, F.exp, F.relu):
        whole = function(x)
        assert all(function(x[i:])[0] == whole[i] for i in range(67))
        assert all(function(x[: i + 1])[i] == whole[i] for i in range(67))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_max_pool_keeps_nan_and_the_first_tie(dtype, isa):
    for channels in (1, 5, 16, 33):
        x = np.zeros((1, channels, 2, 4), dtype)
        x[:, :, 1, 1] = NAN
        x[:, :, 0, 1] = NAN
        x[:, :, :, 2:] = -INF
        y, index = F.max_pool2d(F.channels_last(x), 2, return_indices=True)
        assert np.isnan(y[..., 0]).all() and (index[..., 0] == 1).all()
        assert (y[..., 1] == -INF).all() and (index[..., 1] == 2).all()
        dx = F.max_pool2d_backward(np.ones_like(y), x, 2).x
        assert (dx[:, :, 0, 1] == 1).all() and (dx[:, :, 0, 2] == 1).all() and dx.sum() == 2 * channels


def test_zero_padding_takes_part():
    """0 * Inf is NaN: a zero of the padding is a number like any other."""
    x, w = np.ones((1, 1, 3, 3), np.float32), np.full((1, 1, 3, 3), INF, np.float32)
    y = F.conv2d(x, w, padding=1)
    assert y[0, 0, 1, 1] == INF and np.isnan(y[0, 0, 0, 0])


def test_a_nan_stays_where_windows_see_it():
    x = np.zeros((1, 2, 9, 9), np.float32)
    x[0, 1, 4, 4] = NAN
    for k in (1, 7, 20):
        y = F.conv2d(x, np.ones((k, 2, 3, 3), np.float32), padding=1)
        assert np.isnan(y[:, :, 3:6, 3:6]).all() and np.isnan(y).sum() == 9 * k
        dy = np.zeros((1, k, 9, 9), np.float32)
        dy[0, 0, 4, 4] = NAN
        dx = F.conv2d_backward(dy, x, np.ones((k, 2, 3, 3), np.float32), padding=1, needs=("x",)).x
        assert np.isnan(dx[:, :, 3:6, 3:6]).all() and np.isnan(dx).sum() == 18


def test_softmax_rows():
    with np.errstate(all="ignore"):
        y = F.softmax(np.array([[1.0, NAN, 0], [INF, 0, 0], [-INF, -INF, -INF], [1000, 999, -INF]]))
    assert np.isnan(y[:3]).all()
    assert np.allclose(y[3], [0.731058578630005, 0.268941421369995, 0])
    big = F.cross_entropy(np.array([[1e8, 0.0]], np.float32), [1])
    assert float(big) == 1e8


def test_mean_over_nothing_is_nan():
    empty = np.zeros((0, 3), np.float32)
    assert np.isnan(F.cross_entropy(empty, np.zeros(0, int))) and F.cross_entropy(empty, np.zeros(0, int), reduction="sum") == 0
    ignored = np.ones((2, 3), np.float32)
    assert np.isnan(F.cross_entropy(ignored, [-100, -100]))
    assert not F.cross_entropy_backward(np.float32(1), ignored, [-100, -100]).logits.any()


def test_empty_batches():
    x, w = np.zeros((0, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
    y = F.conv2d(x, w, np.ones(4, np.float32))
    assert y.shape == (0, 4, 6, 6)
    g = F.conv2d_backward(y, x, w, np.ones(4, np.float32))
    assert g.x.shape == x.shape and not g.weight.any() and not g.bias.any()
    assert F.max_pool2d(x, 2).shape == (0, 3, 4, 4) and F.avg_pool2d(x, 2).shape == (0, 3, 4, 4)
    assert F.linear(np.zeros((0, 3)), np.ones((2, 3))).shape == (0, 2)
    assert not F.linear_backward(np.zeros((0, 2)), np.zeros((0, 3)), np.ones((2, 3))).weight.any()


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="sets the x86 control register through glibc")
def test_flush_to_zero_of_others_does_not_reach_us():
    """Another library sets rounding down; our bits stay, and so does its setting."""
    libm = ctypes.CDLL("libm.so.6")
    x, w = np.linspace(0.1, 1, 4000, dtype=np.float32).reshape(1, 1, 40, 100), np.full((3, 1, 3, 3), 0.3, np.float32)
    wanted = F.conv2d(x, w).tobytes(), F.tanh(x).tobytes()
    downward = 0x400
    assert libm.fesetround(downward) == 0
    try:
        got = F.conv2d(x, w).tobytes(), F.tanh(x).tobytes()
        assert libm.fegetround() == downward
    finally:
        libm.fesetround(0)
    assert got == wanted
