"""Dense layers on a few rows: every number of rows, filters and inputs that leave a rest, weights in either order, gradients larger than the caches."""

import numpy as np
import pytest

import cnnpy
from cnnpy import functional as F


def whole(rng, *shape, high=5):
    return rng.integers(-high, high + 1, shape).astype(np.float32)


def exact(dy, x, w):
    """dx, dw and db of whole numbers, computed in float64: every sum is exact."""
    dy, x, w = (a.astype(np.float64) for a in (dy, x, w))
    return dy @ w, dy.T @ x, dy.sum(0)


@pytest.mark.parametrize("order", ["weights", "transposed"])
@pytest.mark.parametrize("filters", [1, 7, 8, 9, 24, 67, 300])
def test_few_rows(filters, order, rng):
    for rows in range(1, 10):
        for inputs in (16, 17, 127, 128, 131, 400):
            x, w, dy = whole(rng, rows, inputs), whole(rng, filters, inputs), whole(rng, rows, filters)
            w = np.asfortranarray(w) if order == "transposed" else w
            bias = whole(rng, filters)
            np.testing.assert_array_equal(F.linear(x, w, bias), x.astype(np.float64) @ w.T.astype(np.float64) + bias)
            found = F.linear_backward(dy, x, w, bias)
            for one, wanted in zip((found.x, found.weight, found.bias), exact(dy, x, w), strict=True):
                np.testing.assert_array_equal(one, wanted)


@pytest.mark.parametrize("inputs", [4096, 4098])
def test_a_weight_gradient_larger_than_the_caches(inputs, rng):
    """Whole lines of it are written past the caches, others are not: the same numbers, the same bits for any number of threads."""
    filters = 2 * cnnpy.functional.runtime.config()["l3"] // (4 * 4096) + 64
    x, w, dy = (
        rng.normal(size=(8, inputs)).astype(np.float32),
        np.zeros((filters, inputs), np.float32),
        rng.normal(size=(8, filters)).astype(np.float32),
    )
    found = []
    for threads in (1, 2, 3):
        with cnnpy.threads(threads):
            found.append(F.linear_backward(dy, x, w, needs=("weight",)).weight)
    assert found[0].nbytes > 2 * cnnpy.functional.runtime.config()["l3"]
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
    some = np.r_[0, 1, filters // 2, filters - 1]
    np.testing.assert_allclose(found[0][some], dy[:, some].T.astype(np.float64) @ x.astype(np.float64), rtol=1e-4, atol=1e-5)
    whole_numbers = F.linear_backward(np.rint(dy), np.rint(x), w, needs=("weight",)).weight
    np.testing.assert_array_equal(whole_numbers, (np.rint(dy).T.astype(np.float32) @ np.rint(x)).astype(np.float32))
