"""Data sets in memory."""

import itertools

import numpy as np

__all__ = ["ArrayDataset", "split"]


class ArrayDataset:
    """Arrays whose first axes are the samples.

    Parameters
    ----------
    x : ndarray, shape (N, ...)
    y : ndarray, shape (N,)
    classes : sequence of str, optional
        Names of the classes.

    Examples
    --------
    >>> import numpy as np
    >>> from cnnpy.data import ArrayDataset
    >>> len(ArrayDataset(np.zeros((3, 1, 8, 8)), np.zeros(3, int)))
    3
    """

    def __init__(self, x, y, classes=None):
        self.x, self.y = np.asarray(x), np.asarray(y)
        if len(self.x) != len(self.y):
            raise ValueError(f"ArrayDataset: x has {len(self.x)} samples and y {len(self.y)}, expected as many")
        self.classes = None if classes is None else [str(c) for c in classes]

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]

    def subset(self, indices):
        return ArrayDataset(self.x[indices], self.y[indices], self.classes)

    def __repr__(self):
        return f"ArrayDataset({len(self)} samples of shape {self.x.shape[1:]} {self.x.dtype})"


def split(dataset, fractions, rng=0):
    """Cuts a data set into random parts without overlap.

    Parameters
    ----------
    dataset : ArrayDataset
    fractions : sequence of float
        Shares of the parts, summing to at most 1; if they sum to 1 every sample is used.
    rng : int or numpy.random.Generator

    Returns
    -------
    list of ArrayDataset
    """
    fractions = [float(f) for f in fractions]
    if any(not 0 <= f <= 1 for f in fractions) or sum(fractions) > 1 + 1e-9:
        raise ValueError(f"split: fractions is {fractions}, expected numbers from 0 to 1 that sum to at most 1")
    order = np.random.default_rng(rng).permutation(len(dataset))
    ends = np.rint(np.cumsum([0.0, *fractions]) * len(dataset)).astype(int)
    return [dataset.subset(np.sort(order[a:b])) for a, b in itertools.pairwise(ends)]
