"""Softmax, its logarithm and cross-entropy of many classes: rows that are read where they lie, beside the short ones that are taken a vector of rows at a time."""

import numpy as np
import pytest

import cnnpy
from cnnpy import functional as F

LENGTHS = [1, 5, 63, 64, 65, 100, 1000]


def log_softmax(x):
    shifted = x - x.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def operands(n, dtype, rng, rows=7):
    x = (rng.standard_normal((rows, n)) * 8).astype(dtype)
    return x, rng.standard_normal((rows, n)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", LENGTHS)
def test_softmax(n, dtype, rng, isa):
    x, dy = operands(n, dtype, rng)
    exact, given = log_softmax(x.astype(np.float64)), dy.astype(np.float64)
    bound = {"rtol": 40 * np.finfo(dtype).eps, "atol": 40 * np.finfo(dtype).eps}  # a difference of up to 60, its exponential and a sum
    y, log_y = F.softmax(x), F.log_softmax(x)
    np.testing.assert_allclose(y, np.exp(exact), **bound)
    np.testing.assert_allclose(log_y, exact, **bound)
    p = np.exp(exact)
    sums = np.abs(given).sum(1, keepdims=True)
    dx, dlog = F.softmax_backward(dy, x).x, F.log_softmax_backward(dy, x).x
    assert (np.abs(dx - p * (given - (given * p).sum(1, keepdims=True))) <= bound["rtol"] * sums).all()
    assert (np.abs(dlog - (given - p * given.sum(1, keepdims=True))) <= bound["rtol"] * sums).all()


@pytest.mark.parametrize("n", LENGTHS)
def test_along_other_axes(n, rng):
    """Rows that do not lie side by side are taken by vectors whatever their length: the same numbers within rounding."""
    x, _ = operands(n, "float32", rng, 33)
    np.testing.assert_allclose(F.softmax(np.ascontiguousarray(x.T), axis=0).T, F.softmax(x), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(F.softmax(np.asfortranarray(x)), F.softmax(x))


def smoothed(target, n, share):
    return (1 - share) * np.eye(n)[target] + share / n


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("n", [5, 64, 100, 1000])
def test_cross_entropy(n, reduction, dtype, rng, isa):
    x, _ = operands(n, dtype, rng)
    rows, exact = len(x), log_softmax(x.astype(np.float64))
    target = rng.integers(0, n, rows)
    target[3] = -100
    weight = (rng.random(n) + 0.5).astype(dtype)
    dy = rng.standard_normal(rows).astype(dtype) if reduction == "none" else np.asarray(1.5, dtype)
    kept, safe = target != -100, np.where(target == -100, 0, target)
    for options in ({}, {"weight": weight}, {"label_smoothing": 0.1}, {"weight": weight, "label_smoothing": 0.1}):
        w = options.get("weight", np.ones(n)).astype(np.float64)
        q = smoothed(safe, n, options.get("label_smoothing", 0.0)) * w * kept[:, None]
        shares = -(q * exact).sum(1)
        by = {"none": 1.0, "sum": 1.0, "mean": 1.0 / (w[safe] * kept).sum()}[reduction]
        right = shares if reduction == "none" else shares.sum() * by
        tolerance = 100 * np.finfo(dtype).eps
        np.testing.assert_allclose(F.cross_entropy(x, target, reduction=reduction, **options), right, rtol=tolerance, atol=tolerance)
        scale = np.broadcast_to(np.asarray(dy, np.float64) * by, rows)[:, None]
        gradient = (np.exp(exact) * q.sum(1, keepdims=True) - q) * scale
        found = F.cross_entropy_backward(dy, x, target, reduction=reduction, **options)[0]
        np.testing.assert_allclose(found, gradient, rtol=tolerance, atol=tolerance * np.abs(scale).max())
    q = rng.random((rows, n))
    q /= q.sum(1, keepdims=True)
    right = -(q.astype(dtype).astype(np.float64) * exact).sum(1)
    np.testing.assert_allclose(F.cross_entropy(x, q.astype(dtype), reduction="none"), right, rtol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("n", [5, 64, 1000])
def test_special_rows(n):
    """One NaN, one +Inf: the row is NaN. -Inf: a weight of 0. The others do not see it."""
    x = np.zeros((5, n), np.float32)
    x[0, 1], x[1, 2], x[2, 3] = np.nan, np.inf, -np.inf
    x[3] = np.linspace(-3e38, 3e38, n)
    with np.errstate(all="ignore"):
        y, log_y = F.softmax(x), F.log_softmax(x)
    assert np.isnan(y[:2]).all() and np.isnan(log_y[:2]).all()
    assert y[2, 3] == 0 and np.isneginf(log_y[2, 3])
    np.testing.assert_allclose(y[2].sum(), 1, rtol=1e-6)
    assert y[3, -1] == 1 and not y[3, :-1].any()
    np.testing.assert_allclose(y[4], 1 / n, rtol=1e-6)
    loss = F.cross_entropy(x, np.array([0, 0, 0, n - 1, 0]), reduction="none")
    assert np.isnan(loss[:2]).all() and loss[3] == 0
    np.testing.assert_allclose(loss[[2, 4]], [np.log(n - 1), np.log(n)], rtol=1e-6)


@pytest.mark.parametrize("n", [64, 1000])
def test_bits_do_not_depend_on_threads(n, rng):
    x, dy = operands(n, "float32", rng, 301)
    target = rng.integers(0, n, 301)
    before, results = cnnpy.num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            cnnpy.set_num_threads(threads)
            results.append(
                [F.softmax(x), F.log_softmax_backward(dy, x).x, F.cross_entropy(x, target), F.cross_entropy_backward(1.0, x, target)[0]]
            )
    finally:
        cnnpy.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
