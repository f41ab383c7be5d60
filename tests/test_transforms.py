"""Transforms of batches: what they do to known pictures, and that they are a function of their generator."""

import numpy as np
import pytest

from cnnpy import transforms as T
from cnnpy.data import ArrayDataset, DataLoader

X = np.arange(2 * 3 * 6 * 5, dtype=np.uint8).reshape(2, 3, 6, 5)
RANDOM = [
    *(T.RandomHorizontalFlip(), T.RandomVerticalFlip(), T.PadAndCrop(2), T.PadAndCrop(2, "reflect"), T.RandomRotation(20)),
    *(T.RandomAffine(10, 0.1, (0.8, 1.2), 10), T.ColorJitter(0.2, 0.2, 0.2), T.Cutout(3)),
]


@pytest.mark.parametrize("transform", RANDOM, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_random_ones(transform, dtype):
    x = X.astype(dtype)
    before = x.copy()
    a, b = transform(x, np.random.default_rng(3)), transform(x, np.random.default_rng(3))
    np.testing.assert_array_equal(a, b)
    assert a.shape == x.shape and a.dtype == dtype
    np.testing.assert_array_equal(transform(x, None), x)
    np.testing.assert_array_equal(x, before)
    many = np.repeat(x[:1], 40, axis=0)
    assert len(np.unique(transform(many, np.random.default_rng(0)).reshape(40, -1), axis=0)) > 1, "every sample has its own numbers"


def test_flips_and_crops():
    always = np.random.default_rng(0)
    np.testing.assert_array_equal(T.RandomHorizontalFlip(1.0)(X, always), X[..., ::-1])
    np.testing.assert_array_equal(T.RandomVerticalFlip(1.0)(X, always), X[:, :, ::-1])
    np.testing.assert_array_equal(T.RandomHorizontalFlip(0.0)(X, always), X)
    np.testing.assert_array_equal(T.CenterCrop((4, 3))(X), X[:, :, 1:5, 1:4])
    np.testing.assert_array_equal(T.RandomCrop((4, 3))(X), X[:, :, 1:5, 1:4])
    seen = {T.RandomCrop((5, 4))(X, always)[0, 0, 0, 0] for _ in range(50)}
    assert seen == {X[0, 0, i, j] for i in range(2) for j in range(2)}
    shifted = T.PadAndCrop(1)(np.ones((200, 1, 3, 3)), always).sum(axis=(1, 2, 3))
    assert set(shifted) == {4, 6, 9}


def test_affine_by_known_angles():
    class Fixed:
        def __init__(self, *values):
            self.values = iter(values)

        def uniform(self, low, high, size):
            return np.full(size, next(self.values), float)

    quarter = T.RandomAffine(360, scale=(1, 1))(X.astype(float)[:, :, :5], Fixed(90, 1, 0, 0))
    np.testing.assert_allclose(quarter, np.rot90(X.astype(float)[:, :, :5], axes=(2, 3)), atol=1e-9)
    moved = T.RandomAffine(translate=0.5)(X.astype(float), Fixed(0, 1, 0, 0.2))
    np.testing.assert_allclose(moved[:, :, 2:, 1:], 0.8 * X[:, :, 1:-1, :-1] + 0.2 * X[:, :, :-2, :-1], atol=1e-9)
    twice = T.RandomAffine(scale=(2, 2))(np.pad(np.ones((1, 1, 2, 2)), ((0, 0), (0, 0), (3, 3), (3, 3))), Fixed(0, 2, 0, 0))
    assert twice.sum() == pytest.approx(16)


def test_colour_and_cutout():
    x = np.full((1, 3, 4, 4), 100, np.uint8)
    y = T.ColorJitter(brightness=0.5)(x, np.random.default_rng(1))
    assert 50 <= y.min() == y.max() <= 150
    grey = T.ColorJitter(saturation=0.9)(
        np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4)).astype(np.float32), np.random.default_rng(2)
    )
    assert np.isfinite(grey).all()
    hole = T.Cutout(3)(np.ones((50, 2, 8, 8)), np.random.default_rng(0))
    missing = (hole == 0).sum(axis=(2, 3))
    assert (missing[:, 0] == missing[:, 1]).all() and missing.max() == 9 and missing.min() >= 4


def test_affine_by_known_scales():
    """Twice as large: the middle spreads; half as large: the image shrinks into the middle."""
    ramp = np.tile(np.arange(9.0), (9, 1))[None, None].repeat(3, axis=0)
    generator = np.random.default_rng(0)
    large, small = (T.RandomAffine(scale=(s, s), fill=-1)(ramp, generator)[0, 0] for s in (2, 0.5))
    np.testing.assert_allclose(large, np.tile(np.arange(2, 6.5, 0.5), (9, 1)), atol=1e-9)
    np.testing.assert_allclose(small[3:6, 2:7], np.tile(np.arange(0, 9, 2), (3, 1)), atol=1e-9)
    assert (small[:2] == -1).all() and (small[:, :1] == -1).all()
    turned = T.RandomAffine(90, scale=(2, 2))(ramp, Turn())[0, 0]
    np.testing.assert_allclose(turned, np.tile(np.arange(6, 1.5, -0.5)[:, None], (1, 9)), atol=1e-9)


class Turn:
    """A generator that draws the upper end of every range."""

    def uniform(self, low, high, size):
        return np.broadcast_to(np.float64(high), size).copy()


def test_jitter_by_known_factors(rng):
    """Brightness, then contrast around the image's mean grey, then saturation around every pixel's own grey."""
    x = rng.uniform(0, 50, (2, 3, 4, 5))
    weights = np.array([0.299, 0.587, 0.114])[:, None, None]
    np.testing.assert_allclose(T.ColorJitter(brightness=0.5)(x, Turn()), 1.5 * x)
    mean = (x * weights).sum(1, keepdims=True).mean((2, 3), keepdims=True)
    np.testing.assert_allclose(T.ColorJitter(contrast=0.5)(x, Turn()), mean + 1.5 * (x - mean))
    grey = (x * weights).sum(1, keepdims=True)
    np.testing.assert_allclose(T.ColorJitter(saturation=1.0)(x, Turn()), grey + 2 * (x - grey))
    one = x[:, :1]
    np.testing.assert_allclose(T.ColorJitter(0.0, 0.5, 1.0)(one, Turn()), one.mean((1, 2, 3), keepdims=True) * -0.5 + 1.5 * one)


@pytest.mark.parametrize("padding", [-1, True, 1.0, "2"])
def test_padding_before_a_crop(padding):
    with pytest.raises(ValueError, match="PadAndCrop: padding is"):
        T.PadAndCrop(padding)
    np.testing.assert_array_equal(T.PadAndCrop(0)(X, np.random.default_rng(0)), X)


def test_mixup_and_compose():
    mix = T.Mixup(1.0, 3)
    x, y = np.eye(3, dtype=np.float32).reshape(3, 1, 1, 3), np.array([0, 1, 2])
    mixed, target = mix(x, y, np.random.default_rng(0))
    np.testing.assert_allclose(mixed.reshape(3, 3), target, atol=1e-6)
    np.testing.assert_allclose(target.sum(axis=1), 1, atol=1e-6)
    both = T.Compose(T.Normalize(0.0, 2.0), mix)
    assert both.with_targets and both(x, y, np.random.default_rng(0))[0].max() <= 0.5
    loader = DataLoader(ArrayDataset(x, y), 3, transform=both)
    batch, soft = next(iter(loader))
    assert batch.shape == x.shape and soft.shape == (3, 3)
    with pytest.raises(TypeError, match=r"transforms.Compose: argument 0 is a list, expected a transform"):
        T.Compose([T.RandomHorizontalFlip(1.0)])
    plain = T.Compose(T.RandomHorizontalFlip(1.0), T.Normalize(0.0, 1.0))
    np.testing.assert_array_equal(plain(x, np.random.default_rng(0)), x[..., ::-1])
    assert np.array_equal(mix(x, y, None)[1], y)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: T.RandomHorizontalFlip(2), ValueError, "RandomHorizontalFlip: p is 2"),
        (lambda: T.RandomCrop(0), ValueError, "RandomCrop: size is 0"),
        (lambda: T.RandomCrop(9)(X, np.random.default_rng(0)), ValueError, r"RandomCrop: size is \(9, 9\), expected at most"),
        (lambda: T.PadAndCrop(-1), ValueError, "PadAndCrop: padding is -1"),
        (lambda: T.RandomRotation("a"), TypeError, "RandomRotation: degrees is str"),
        (lambda: T.ColorJitter(-1), ValueError, "ColorJitter: brightness is -1"),
        (lambda: T.Cutout(1.5), ValueError, "Cutout: size is 1.5"),
        (lambda: T.Mixup(0, 3), ValueError, "Mixup: alpha is 0"),
        (lambda: T.Cutout(2)(X[0], np.random.default_rng(0)), ValueError, "Cutout: x has shape"),
        (lambda: T.Normalize(0, 0), ValueError, "Normalize: std is 0"),
    ],
)
def test_bad_options(call, error, text):
    with pytest.raises(error, match=text):
        call()
