"""Dropout layers. A layer owns a seed and counts its calls: call number n has the mask of that seed and n, whatever else happens."""

import numpy as np

from cnnpy import functional as F
from cnnpy.nn.init import generator
from cnnpy.nn.masks import Masks
from cnnpy.nn.module import Module

__all__ = ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d"]


class _Dropout(Masks, Module):
    """In training mode :func:`cnnpy.{name}` with another mask at every call, in evaluation mode the identity.

    Parameters
    ----------
    p : float, 0 to 1
        Probability of a zero.
    rng : int or numpy.random.Generator, optional
        Seeds the masks.
    """

    function = staticmethod(F.dropout)

    def __init__(self, p=0.5, *, rng=None, dtype=None):
        super().__init__()
        F.dropout(np.zeros(1, np.float32), p, training=False)  # refuses a wrong p
        self.p = p
        self._rng = [int(generator(rng).integers(0, 2**31)), 0]

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        return self.function(x, self.p, rng=self.drawn())

    def extra_repr(self):
        return f"p={self.p}"


class Dropout(_Dropout):
    __doc__ = (_Dropout.__doc__ or "").format(name="dropout")


class Dropout1d(_Dropout):
    __doc__ = (_Dropout.__doc__ or "").format(name="dropout1d")
    function = staticmethod(F.dropout1d)


class Dropout2d(_Dropout):
    __doc__ = (_Dropout.__doc__ or "").format(name="dropout2d")
    function = staticmethod(F.dropout2d)


class Dropout3d(_Dropout):
    __doc__ = (_Dropout.__doc__ or "").format(name="dropout3d")
    function = staticmethod(F.dropout3d)
