"""Transforms of whole batches: ``transform(x, rng) -> x``."""

import numpy as np

__all__ = ["Normalize"]


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
