"""Transforms of whole batches of images, ``transform(x, rng) -> x``: x is (N, C, H, W), rng a numpy Generator, or None for evaluation, where
the random ones leave the batch as it is. Every sample gets its own random numbers; all of a batch are transformed at once.

A transform with ``with_targets = True`` takes and gives the targets too: ``transform(x, y, rng) -> x, y``.
"""

import math

import numpy as np

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "Cutout",
    "Mixup",
    "Normalize",
    "PadAndCrop",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomVerticalFlip",
]


def _number(owner, name, value, low, high=math.inf):
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{owner}: {name} is {type(value).__name__}, expected a real number")
    if not low <= value <= high:
        raise ValueError(f"{owner}: {name} is {value!r}, expected a number from {low} to {high}")
    return float(value)


def _images(owner, x):
    x = np.asarray(x)
    if x.ndim != 4:
        raise ValueError(f"{owner}: x has shape {x.shape}, expected (N, C, H, W)")
    return x


def _like(values, x):
    """Real numbers back in x's dtype: rounded and kept in range for integers."""
    if x.dtype.kind == "f":
        return values.astype(x.dtype, copy=False)
    limits = np.iinfo(x.dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(x.dtype)


class Compose:
    """One transform after the other."""

    def __init__(self, *transforms):
        for i, transform in enumerate(transforms):
            if not callable(transform):
                raise TypeError(
                    f"transforms.Compose: argument {i} is a {type(transform).__name__}, expected a transform (each as its own argument)"
                )
        self.transforms = transforms
        self.with_targets = any(getattr(t, "with_targets", False) for t in transforms)

    def __call__(self, x, *rest):
        rng = rest[-1] if rest else None
        y = rest[0] if self.with_targets else None
        for transform in self.transforms:
            if getattr(transform, "with_targets", False):
                x, y = transform(x, y, rng)
            else:
                x = transform(x, rng)
        return (x, y) if self.with_targets else x


class Normalize:
    """Pixels to float32 with mean 0 and standard deviation 1 a channel: ``(x - mean) / std``.

    Parameters
    ----------
    mean, std : float or sequence of float, one a channel, in units of the pixels as they come
    """

    def __init__(self, mean, std):
        self.mean, self.std = np.atleast_1d(np.asarray(mean, np.float64)), np.atleast_1d(np.asarray(std, np.float64))
        if not (self.std > 0).all():
            raise ValueError(f"Normalize: std is {std}, expected numbers above 0")

    @classmethod
    def of(cls, dataset, limit=10000):
        """The statistics of (the first `limit` samples of) a data set."""
        x = np.asarray(dataset[np.arange(min(limit, len(dataset)))][0], np.float64)
        axes = (0, *range(2, x.ndim))
        return cls(x.mean(axes), np.maximum(x.std(axes), 1e-6))

    def __call__(self, x, rng=None):
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return (np.asarray(x, np.float32) - self.mean.astype(np.float32).reshape(shape)) * (1 / self.std).astype(np.float32).reshape(shape)

    def state(self):
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}


class _Flip:
    axis = 3

    def __init__(self, p=0.5):
        self.p = _number(type(self).__name__, "p", p, 0, 1)

    def __call__(self, x, rng=None):
        x = _images(type(self).__name__, x)
        if rng is None:
            return x
        chosen = rng.random(len(x)) < self.p
        return np.where(chosen[:, None, None, None], np.flip(x, self.axis), x)


class RandomHorizontalFlip(_Flip):
    """Mirrors left and right with probability p."""


class RandomVerticalFlip(_Flip):
    """Mirrors top and bottom with probability p."""

    axis = 2


def _size(owner, size):
    sizes = size if isinstance(size, tuple) else (size, size)
    if len(sizes) != 2 or any(isinstance(s, bool) or not isinstance(s, (int, np.integer)) or s < 1 for s in sizes):
        raise ValueError(f"{owner}: size is {size!r}, expected an int or (height, width) of at least 1")
    return tuple(int(s) for s in sizes)


def _crop(owner, x, top, left, size):
    """Windows of one size from every sample's own corner."""
    if size[0] > x.shape[2] or size[1] > x.shape[3]:
        raise ValueError(f"{owner}: size is {size}, expected at most the images' {x.shape[2:]}")
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=(2, 3))
    return windows[np.arange(len(x)), :, top, left]


class RandomCrop:
    """A random window of the given size; in evaluation the middle one."""

    def __init__(self, size):
        self.size = _size("RandomCrop", size)

    def __call__(self, x, rng=None):
        x = _images("RandomCrop", x)
        if rng is None:
            return CenterCrop(self.size)(x)
        room = [max(0, x.shape[2 + a] - self.size[a]) for a in range(2)]
        top, left = (rng.integers(0, r + 1, len(x)) for r in room)
        return _crop("RandomCrop", x, top, left, self.size)


class CenterCrop:
    """The window of the given size in the middle."""

    def __init__(self, size):
        self.size = _size("CenterCrop", size)

    def __call__(self, x, rng=None):
        x = _images("CenterCrop", x)
        top, left = ((x.shape[2 + a] - self.size[a]) // 2 for a in range(2))
        return _crop("CenterCrop", x, np.full(len(x), top), np.full(len(x), left), self.size)


class PadAndCrop:
    """Adds a border and takes a random window of the old size: shifts by up to `padding` cells.

    Parameters
    ----------
    padding : int
    mode : {'constant', 'reflect', 'symmetric', 'edge'}
        As of ``np.pad``.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning for image recognition, 2016, section 4.2.
    """

    def __init__(self, padding=4, mode="constant"):
        if isinstance(padding, bool) or not isinstance(padding, (int, np.integer)) or padding < 0:
            raise ValueError(f"PadAndCrop: padding is {padding!r}, expected an int of at least 0")
        self.padding, self.mode = int(padding), mode

    def __call__(self, x, rng=None):
        x = _images("PadAndCrop", x)
        if rng is None:
            return x
        p = self.padding
        wide = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), mode=self.mode)
        top, left = rng.integers(0, 2 * p + 1, (2, len(x)))
        return _crop("PadAndCrop", wide, top, left, x.shape[2:])


class RandomAffine:
    """Rotates, moves, scales and shears around the middle, with bilinear interpolation; outside the image is `fill`.

    Parameters
    ----------
    degrees : float
        Turned by up to so much either way.
    translate : float
        Moved by up to this share of height and width.
    scale : (float, float)
        Enlarged by a factor between the two.
    shear : float
        Sheared by up to so many degrees along the rows.
    fill : float
    """

    def __init__(self, degrees=0.0, translate=0.0, scale=(1.0, 1.0), shear=0.0, fill=0.0):
        owner = type(self).__name__
        self.degrees = _number(owner, "degrees", degrees, 0, 360)
        self.translate = _number(owner, "translate", translate, 0, 1)
        self.scale = tuple(_number(owner, "scale", s, 1e-3) for s in scale)
        self.shear = _number(owner, "shear", shear, 0, 89)
        self.fill = _number(owner, "fill", fill, -math.inf)

    def __call__(self, x, rng=None):
        x = _images(type(self).__name__, x)
        if rng is None or not len(x):
            return x
        n, _, h, w = x.shape
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees, n))
        scale = rng.uniform(*self.scale, n)
        shear = np.tan(np.deg2rad(rng.uniform(-self.shear, self.shear, n)))
        down, right = rng.uniform(-self.translate, self.translate, (2, n)) * np.array([[h], [w]])
        # From a result's cell back to the source: undo the move, then scale, turn and shear.
        rows, columns = np.mgrid[0:h, 0:w].astype(np.float64)
        v = rows[None] - (h - 1) / 2 - down[:, None, None]
        u = columns[None] - (w - 1) / 2 - right[:, None, None]
        cos, sin = (np.cos(angle) / scale)[:, None, None], (np.sin(angle) / scale)[:, None, None]
        source_v = cos * v + sin * u
        source_u = cos * u - sin * v - shear[:, None, None] * source_v
        return self._sample(x, source_v + (h - 1) / 2, source_u + (w - 1) / 2)

    def _sample(self, x, v, u):
        n, _, h, w = x.shape
        top, left = np.floor(v).astype(int), np.floor(u).astype(int)
        a, b = (v - top)[:, None], (u - left)[:, None]
        image = np.arange(n)[:, None, None]
        total = np.zeros((n, x.shape[1], *v.shape[1:]))
        for i, wi in ((0, 1 - a), (1, a)):
            for j, wj in ((0, 1 - b), (1, b)):
                r, c = top + i, left + j
                inside = (r >= 0) & (r < h) & (c >= 0) & (c < w)
                cells = x[image, :, np.clip(r, 0, h - 1), np.clip(c, 0, w - 1)].transpose(0, 3, 1, 2)
                total += wi * wj * np.where(inside[:, None], cells, self.fill)
        return _like(total, x)


class RandomRotation(RandomAffine):
    """Turns by up to `degrees` either way; outside the image is `fill`."""

    def __init__(self, degrees, fill=0.0):
        super().__init__(degrees=degrees, fill=fill)


class ColorJitter:
    """Changes brightness, contrast and saturation by random factors.

    Parameters
    ----------
    brightness, contrast, saturation : float
        Factors lie between ``max(0, 1 - value)`` and ``1 + value``: of all pixels; of their distance from the image's mean grey; of their
        distance from their own grey (three channels only).
    """

    def __init__(self, brightness=0.0, contrast=0.0, saturation=0.0):
        self.ranges = [
            _number("ColorJitter", n, v, 0) for n, v in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation))
        ]

    def __call__(self, x, rng=None):
        x = _images("ColorJitter", x)
        if rng is None:
            return x
        factors = [rng.uniform(max(0.0, 1 - r), 1 + r, (len(x), 1, 1, 1)) for r in self.ranges]
        grey = np.array([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1) if x.shape[1] == 3 else np.full((1, x.shape[1], 1, 1), 1 / x.shape[1])
        y = x * factors[0]
        mean = (y * grey).sum(axis=1, keepdims=True).mean(axis=(2, 3), keepdims=True)
        y = mean + (y - mean) * factors[1]
        if x.shape[1] == 3:
            own = (y * grey).sum(axis=1, keepdims=True)
            y = own + (y - own) * factors[2]
        return _like(y, x)


class Cutout:
    """Fills a random square of every image; it may hang over the border.

    References
    ----------
    T. DeVries, G. Taylor, Improved regularization of convolutional neural networks with cutout, 2017.
    """

    def __init__(self, size, fill=0.0):
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(f"Cutout: size is {size!r}, expected an int of at least 1")
        self.size, self.fill = int(size), fill

    def __call__(self, x, rng=None):
        x = _images("Cutout", x)
        if rng is None:
            return x
        hit = np.ones((len(x), 1, 1, 1), bool)
        for axis in (2, 3):
            first = rng.integers(0, x.shape[axis], len(x)) - self.size // 2
            at = np.arange(x.shape[axis])[None] - first[:, None]
            shape = [len(x), 1, 1, 1]
            shape[axis] = x.shape[axis]
            hit = hit & ((at >= 0) & (at < self.size)).reshape(shape)
        return np.where(hit, np.asarray(self.fill, x.dtype), x)


class Mixup:
    """Blends every sample with another of its batch, and the targets alike: ``share x_i + (1 - share) x_j``, share from Beta(alpha, alpha).

    Parameters
    ----------
    alpha : float, above 0
    num_classes : int
        Class targets become probabilities (N, num_classes), which :func:`cnnpy.cross_entropy` takes.

    References
    ----------
    H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, mixup: beyond empirical risk minimization, 2018.
    """

    with_targets = True

    def __init__(self, alpha, num_classes):
        self.alpha, self.num_classes = _number("Mixup", "alpha", alpha, 1e-6), int(num_classes)

    def __call__(self, x, y, rng=None):
        if rng is None:
            return x, y
        share = rng.beta(self.alpha, self.alpha, len(x))
        other = rng.permutation(len(x))
        hot = np.eye(self.num_classes)[np.asarray(y)]
        wide = share.reshape(-1, *(1,) * (x.ndim - 1))
        mixed = wide * x + (1 - wide) * x[other]
        return mixed.astype(np.float32), (share[:, None] * hot + (1 - share[:, None]) * hot[other]).astype(np.float32)
