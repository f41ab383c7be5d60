"""Every combination of a convolution's options, forward and backward, equal to the bit on integers."""

import itertools

import numpy as np
import pytest

from cnnpy import functional as F
from tests.reference import BACKWARD, FORWARD, taps
from tests.reliability.cases import CASES, axes

pytestmark = pytest.mark.usefixtures("strict")

RANKS = (1, 2, 3)
STRIDES = (1, 2, 3, "mixed")
DILATIONS = (1, 2, "mixed")
GROUPS = (1, 2, "depthwise")
PADDINGS = (0, 2, "pairs", "same", "full")
MODES = ("zeros", "reflect", "symmetric", "replicate", "circular")
FLIPS = (False, True)
LAYOUTS = ("C", "channels last", "sliced")
DTYPES = (np.float32, np.float64)
GRID = list(itertools.product(RANKS, STRIDES, DILATIONS, GROUPS, PADDINGS, MODES, FLIPS, LAYOUTS, DTYPES))


def laid_out(x, layout):
    if layout == "channels last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    if layout == "sliced":
        wide = np.zeros((x.shape[0], x.shape[1] + 1, *x.shape[2:-1], 2 * x.shape[-1]), x.dtype)
        wide[:, 1:, ..., ::2] = x
        return wide[:, 1:, ..., ::2]
    return x


def problem(cell, rng):
    """Arrays and options of one cell of the grid: sizes, channels and what is 'mixed' are random."""
    d, stride, dilation, groups, padding, mode, flip, layout, dtype = cell
    window = tuple(int(v) for v in rng.integers(1, 4 if d < 3 else 3, d))
    stride = tuple(int(v) for v in rng.integers(1, 4, d)) if stride == "mixed" else stride
    dilation = tuple(int(v) for v in rng.integers(1, 3, d)) if dilation == "mixed" else dilation
    if groups == "depthwise":
        groups = c = k = int(rng.integers(1, 20))
    else:
        c, k = (groups * int(v) for v in rng.integers(1, 9 if rng.integers(4) else 20, 2))
    extents = [(r - 1) * g + 1 for r, g in zip(window, axes(dilation, d), strict=True)]
    sizes = [e + int(rng.integers(0, 7 if d < 3 else 3)) for e in extents]
    if padding == "pairs":
        padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 4, (d, 2)))
    x, w = (rng.integers(-4, 5, shape).astype(dtype) for shape in ((int(rng.integers(1, 3)), c, *sizes), (k, c // groups, *window)))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "padding_mode": mode, "flip": flip}
    return laid_out(x, layout), w, rng.integers(-4, 5, k).astype(dtype), options


def test_the_grid(budget, rng, capsys):
    count = budget(quick=1500, full=len(GRID))
    chosen = rng.permutation(len(GRID))[:count]
    zeros, compared = [], 0
    for number in chosen:
        cell = GRID[number]
        x, w, b, options = problem(cell, rng)
        convolve, back = getattr(F, f"conv{cell[0]}d"), getattr(F, f"conv{cell[0]}d_backward")
        y = convolve(x, w, b, **options)
        exact = [a.astype(np.float64) for a in (x, w, b)]
        np.testing.assert_array_equal(y, taps.forward(*exact, options), err_msg=str(cell))
        dy = laid_out(rng.integers(-4, 5, y.shape).astype(y.dtype), cell[7])
        wanted = taps.backward(dy.astype(np.float64), *exact[:2], options)
        for name, got, expected in zip(("x", "weight", "bias"), back(dy, x, w, b, **options), wanted, strict=True):
            np.testing.assert_array_equal(got, expected, err_msg=f"{name} of {cell}")
        zeros.append(np.mean(y == 0))
        compared += 1
    assert compared == count and np.median(zeros) < 0.5
    with capsys.disabled():
        print(f"\ngrid: {compared} of {len(GRID)} configurations equal to the bit, forward and backward")


@pytest.mark.parametrize("d", RANKS)
def test_the_sum_over_taps_is_what_the_loops_compute(d, rng):
    """The grid's reference against the naive one."""
    for _ in range(12):
        (x, w, b), options = CASES[f"conv{d}d"](rng, np.float64, small=True)
        if x.shape[0] == 0:
            continue
        y = FORWARD[f"conv{d}d"](x, w, b, **options)
        np.testing.assert_array_equal(taps.forward(x, w, b, options), y)
        dy = rng.integers(-4, 5, y.shape).astype(float)
        dx, dw, db = BACKWARD[f"conv{d}d"](dy, x, w, np.zeros(len(w)), **options)
        for got, wanted in zip(taps.backward(dy, x, w, options), (dx, dw, db), strict=True):
            np.testing.assert_array_equal(got, wanted)
