"""A third opinion where SciPy has the operation."""

import numpy as np
import pytest
from scipy import ndimage, signal

from cnnpy import functional as F

MODES = {"zeros": "constant", "reflect": "mirror", "symmetric": "reflect", "replicate": "nearest", "circular": "wrap"}  # ours: ndimage's


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "full"])
def test_correlation_and_convolution(d, padding, rng):
    for _ in range(20):
        window = tuple(int(v) for v in rng.integers(1, 5, d))
        x = rng.integers(-9, 10, tuple(int(v) for v in rng.integers(5, 12 if d < 3 else 8, d))).astype(float)
        w = rng.integers(-9, 10, window).astype(float)
        ours = getattr(F, f"conv{d}d")
        for flip, theirs in ((False, signal.correlate), (True, signal.convolve)):
            np.testing.assert_array_equal(
                ours(x[None, None], w[None, None], padding=padding, flip=flip)[0, 0], theirs(x, w, padding, method="direct")
            )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_padding_modes(d, mode, rng):
    for _ in range(10):
        size = int(rng.choice([1, 3, 5]))
        x = rng.integers(-9, 10, tuple(int(v) for v in rng.integers(6, 10, d))).astype(float)
        w = rng.integers(-9, 10, (size,) * d).astype(float)
        ours = getattr(F, f"conv{d}d")(x[None, None], w[None, None], padding="same", padding_mode=mode)[0, 0]
        np.testing.assert_array_equal(ours, ndimage.correlate(x, w, mode=MODES[mode], cval=0.0))


def test_gradients_are_correlations(rng):
    x, dy = rng.integers(-9, 10, (9, 8)).astype(float), rng.integers(-9, 10, (7, 6)).astype(float)
    w = rng.integers(-9, 10, (3, 3)).astype(float)
    g = F.conv2d_backward(dy[None, None], x[None, None], w[None, None])
    np.testing.assert_array_equal(g.weight[0, 0], signal.correlate2d(x, dy, "valid"))
    np.testing.assert_array_equal(g.x[0, 0], signal.convolve2d(dy, w, "full"))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_pools_are_filters(d, rng):
    x = rng.normal(size=(11, 10, 9)[:d])
    largest = getattr(F, f"max_pool{d}d")(x[None, None], 3, stride=1, padding=1)[0, 0]
    np.testing.assert_array_equal(largest, ndimage.maximum_filter(x, 3, mode="constant", cval=-np.inf))
    mean = getattr(F, f"avg_pool{d}d")(x[None, None], 3, stride=1, padding=1)[0, 0]
    np.testing.assert_allclose(mean, ndimage.uniform_filter(x, 3, mode="constant"), atol=1e-14)


def test_upsampled_convolution(rng):
    """A transposed convolution is upfirdn: zeros inserted, then filtered."""
    for stride in (1, 2, 3):
        x, w = rng.integers(-9, 10, 7).astype(float), rng.integers(-9, 10, 4).astype(float)
        np.testing.assert_array_equal(
            F.conv_transpose1d(x[None, None], w[None, None], stride=stride)[0, 0], signal.upfirdn(w, x, up=stride)[: 6 * stride + 4]
        )


def test_linear_interpolation_with_aligned_corners(rng):
    x = rng.normal(size=(7, 6))
    ours = F.interpolate(x[None, None], size=(13, 16), mode="bilinear", align_corners=True)[0, 0]
    rows, columns = np.meshgrid(np.linspace(0, 6, 13), np.linspace(0, 5, 16), indexing="ij")
    np.testing.assert_allclose(ours, ndimage.map_coordinates(x, [rows, columns], order=1), atol=1e-13)
