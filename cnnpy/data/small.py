"""Data sets that need no download: real handwritten digits from scikit-learn, and generated shapes."""

import numpy as np

from cnnpy.data.dataset import ArrayDataset

__all__ = ["digits", "shapes"]


def digits(part="train"):
    """The 1,797 handwritten digits that come with scikit-learn, enlarged from 8x8 to 28x28 as LeNet wants them.

    Each digit is bilinearly resized to 20x20 and stands in the middle, as in MNIST. One in five, fixed once, is the test part.

    Parameters
    ----------
    part : {'train', 'test'}

    Returns
    -------
    ArrayDataset
        x uint8 (N, 1, 28, 28), 0 to 255; y int64 (N,).

    References
    ----------
    E. Alpaydin, C. Kaynak, Optical recognition of handwritten digits, UCI machine learning repository, 1998.
    """
    if part not in ("train", "test"):
        raise ValueError(f"digits: part is {part!r}, expected 'train' or 'test'")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("digits: needs scikit-learn; install it with: pip install 'cnnpy[digits]'") from None
    images, labels = load_digits(return_X_y=True)
    small = images.reshape(-1, 8, 8) * (255 / 16)
    weights = _bilinear(8, 20)
    large = np.zeros((len(small), 1, 28, 28), np.uint8)
    rows = sum(weights[:, i, None] * small[:, None, i, :] for i in range(8))
    whole = sum(rows[:, :, j, None] * weights[None, None, :, j] for j in range(8))
    large[:, 0, 4:24, 4:24] = np.rint(whole)
    test = np.zeros(len(small), bool)
    test[np.random.default_rng(0).permutation(len(small))[: len(small) // 5]] = True
    chosen = test if part == "test" else ~test
    return ArrayDataset(large[chosen], labels[chosen].astype(np.int64), classes=[str(c) for c in range(10)])


def _bilinear(size, out):
    """Rows of interpolation weights (out, size), half-pixel rule."""
    t = np.clip((np.arange(out) + 0.5) * size / out - 0.5, 0, size - 1)
    low = np.minimum(t.astype(int), size - 1)
    weights = np.zeros((out, size))
    weights[np.arange(out), low] += 1 - (t - low)
    weights[np.arange(out), np.minimum(low + 1, size - 1)] += t - low
    return weights


_SHAPES = ("circle", "square", "triangle", "cross")


def shapes(n=2000, size=28, rng=0):
    """Generated pictures of circles, squares, triangles and crosses of random place and size, with noise.

    Parameters
    ----------
    n : int
        Pictures, as many of each class as possible.
    size : int
        Height and width, at least 12.
    rng : int or numpy.random.Generator

    Returns
    -------
    ArrayDataset
        x uint8 (n, 1, size, size); y int64 (n,).
    """
    if size < 12:
        raise ValueError(f"shapes: size is {size}, expected at least 12")
    rng = np.random.default_rng(rng)
    y = rng.permutation(np.arange(n) % len(_SHAPES))
    radius = rng.uniform(0.18, 0.4, n) * size
    centre = rng.uniform(radius[:, None], size - radius[:, None], (n, 2))
    rows, columns = np.mgrid[0:size, 0:size] + 0.5
    v = (rows[None] - centre[:, 0, None, None]) / radius[:, None, None]
    u = (columns[None] - centre[:, 1, None, None]) / radius[:, None, None]
    inside = np.stack(
        [
            u * u + v * v <= 1,
            (abs(u) <= 0.85) & (abs(v) <= 0.85),
            (v <= 0.9) & (v >= -1) & (abs(u) <= (v + 1) / 2),
            ((abs(u) <= 0.3) | (abs(v) <= 0.3)) & (abs(u) <= 1) & (abs(v) <= 1),
        ]
    )
    x = inside[y, np.arange(n)] * rng.uniform(150, 255, (n, 1, 1)) + rng.normal(20, 10, (n, size, size))
    return ArrayDataset(np.clip(x, 0, 255).astype(np.uint8)[:, None], y.astype(np.int64), classes=_SHAPES)
