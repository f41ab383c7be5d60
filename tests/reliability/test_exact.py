"""Integer operands against the naive references, threshold zero, for every dtype and instruction set; real ones within derived bounds."""

import math

import numpy as np
import pytest

from tests.reliability.bounds import terms
from tests.reliability.cases import CASES, EXACT
from tests.reliability.flat import BACKWARD, FORWARD
from tests.reliability.flat import FLAT as OPERATIONS

pytestmark = pytest.mark.usefixtures("strict")

ROUNDS = {"conv1d": 12, "conv2d": 16, "conv3d": 5}
DTYPES = [np.float32, np.float64]


def functions(name):
    op = OPERATIONS[name]
    return op.forward, op.backward


def flat(result):
    """The arrays of a result in order."""
    if isinstance(result, (tuple, list)):
        return [a for r in result for a in flat(r)]
    return [] if result is None else [np.asarray(result)]


def tolerance(name, dtype):
    """Relative to the largest value, or to the largest of the terms whose difference a gradient is. Sums here have at most 4,000 terms of
    similar size: 2 u sqrt(n) is 130 u; element functions have 4 ulp, their combinations in softmax, losses and quotients below 100 u."""
    return 200 * np.finfo(dtype).eps / 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(CASES))
def test_forward_and_backward(name, dtype, isa, rng, budget):
    forward, backward = functions(name)
    for _ in range(ROUNDS.get(name, 8) * budget(1, 2, 8)):
        arrays, options = CASES[name](rng, dtype, integers=name in EXACT)
        exact = name in EXACT
        y = forward(*arrays, **options)
        wanted = FORWARD[name](*arrays, **options)
        assert flat(y)[0].dtype == dtype
        compare(flat(y), flat(wanted), 0 if exact else tolerance(name, dtype), name, arrays, options)
        dy = rng.integers(-4, 5, flat(y)[0].shape).astype(dtype)
        gradients, expected = backward(dy, *arrays, **options), BACKWARD[name](dy.astype(np.float64), *arrays, **options)
        compare(
            flat(gradients),
            flat(tuple(expected)),
            0 if exact else tolerance(name, dtype),
            name + "_backward",
            arrays,
            options,
            terms(name, dy, arrays, options),
        )


def compare(got, wanted, bound, name, arrays, options, size=1.0):
    assert len(got) == len(wanted), f"{name}: {len(got)} results, expected {len(wanted)}"
    for g, w in zip(got, wanted, strict=True):
        assert g.shape == w.shape, f"{name}: shape {g.shape}, expected {w.shape}; {options}"
        if not w.size:
            continue
        shapes = [np.shape(a) for a in arrays]
        if bound == 0:
            assert np.array_equal(g, w), f"{name}: {np.count_nonzero(g != w)} of {w.size} differ; {shapes} {options}"
        else:
            worst = np.max(np.abs(g - w)) / max(size, float(np.max(np.abs(w))))
            assert worst <= bound, f"{name}: relative error {worst:.3g} above {bound:.3g}; {shapes} {options}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_convolutions_are_not_vacuous(dtype, rng):
    """Most sampled outputs are not zero and take several values, so agreement means something."""
    zeros, values = [], []
    for _ in range(60):
        arrays, options = CASES["conv2d"](rng, dtype)
        y = OPERATIONS["conv2d"].forward(*arrays, **options)
        if y.size > 8:
            zeros.append(np.mean(y == 0))
            values.append(len(np.unique(y)))
    assert np.mean(zeros) < 0.5 and np.median(values) > 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_reductions(dtype, isa, rng):
    """More channels than a chunk, more pixels than a part, sizes around the tile: against an independent sum over taps."""
    import cnnpy.functional as F

    for n, c, k, size in ((1, 300, 33, 9), (9, 5, 20, 30), (3, 17, 6, 50), (1, 520, 15, 5), (2, 2, 64, 40)):
        x = rng.integers(-2, 3, (n, c, size, size)).astype(dtype)
        w = rng.integers(-2, 3, (k, c, 3, 3)).astype(dtype)
        xp = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.int64)
        y = np.zeros((n, k, size, size), np.int64)
        dy = rng.integers(-2, 3, y.shape)
        dw, dxp = np.zeros(w.shape, np.int64), np.zeros(xp.shape, np.int64)
        for r in range(3):
            for s in range(3):
                part = xp[:, :, r : r + size, s : s + size]
                y += np.einsum("nchw,kc->nkhw", part, w[:, :, r, s].astype(np.int64))
                dw[:, :, r, s] = np.einsum("nchw,nkhw->kc", part, dy)
                dxp[:, :, r : r + size, s : s + size] += np.einsum("nkhw,kc->nchw", dy, w[:, :, r, s].astype(np.int64))
        bias = np.arange(k).astype(dtype)
        assert np.array_equal(F.conv2d(x, w, bias, padding=1), y + np.arange(k)[:, None, None])
        g = F.conv2d_backward(dy.astype(dtype), x, w, bias, padding=1)
        assert np.array_equal(g.x, dxp[:, :, 1:-1, 1:-1])
        assert np.array_equal(g.weight, dw)
        assert np.array_equal(g.bias, dy.sum(axis=(0, 2, 3)))


@pytest.mark.parametrize("terms", [9, 400, 5000])
def test_float32_sums_stay_within_the_bound(terms, rng):
    """|error| <= n u sum|x w| always, and 99.9 % within 2 u sqrt(n) times that sum (u the unit roundoff)."""
    import cnnpy.functional as F

    x, w = rng.normal(size=(200, terms)).astype(np.float32), rng.normal(size=(30, terms)).astype(np.float32)
    exact, size = x.astype(np.float64) @ w.T.astype(np.float64), np.abs(x).astype(np.float64) @ np.abs(w).T.astype(np.float64)
    error, u = np.abs(F.linear(x, w) - exact), 2.0**-24
    assert np.all(error <= terms * u * size)
    assert np.mean(error <= 2 * u * math.sqrt(terms) * size) >= 0.999


@pytest.mark.parametrize("channels", [16, 17, 20, 31, 33])
def test_input_gradient_reads_no_weight_beyond_the_last(channels, isa, rng):
    """Packing reads whole vectors of taps: behind the last filter there is no memory to read. A sanitizer build sees it."""
    from cnnpy import functional as F

    x = rng.integers(-2, 3, (1, channels, 6, 6)).astype(np.float32)
    w = rng.integers(-2, 3, (9, channels, 2, 2)).astype(np.float32)
    dy = rng.integers(-2, 3, (1, 9, 5, 5)).astype(np.float32)
    wanted = BACKWARD["conv2d"](dy, x, w)[0]
    assert np.array_equal(F.conv2d_backward(dy, x, w, needs=("x",)).x, wanted)
