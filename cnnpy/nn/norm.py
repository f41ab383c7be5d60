"""Normalisation layers."""

import numpy as np

from cnnpy import functional as F
from cnnpy.functional._notes import note
from cnnpy.nn.module import Module, Parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
]


def _affine(layer, shape, dtype, weight, bias):
    """A weight of ones and a bias of zeros, or None."""
    layer.weight = Parameter(np.ones(shape, dtype)) if weight else None
    layer.bias = Parameter(np.zeros(shape, dtype)) if bias else None


class _BatchNorm(Module):
    """:func:`cnnpy.batch_norm`; running statistics are kept as buffers and updated by every forward pass in training mode.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float
    momentum : float or None
        Share of the new statistic; None: the plain mean over all batches so far.
    affine : bool
        Learn weight and bias.
    track_running_stats : bool
        False: the batch's own statistics always.
    """

    ranks: tuple = ()
    weight: Parameter | None
    bias: Parameter | None
    running_mean: np.ndarray
    running_var: np.ndarray
    num_batches_tracked: np.ndarray

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, *, rng=None, dtype="float32"):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        _affine(self, num_features, dtype, affine, affine)
        track = track_running_stats
        self.register_buffer("running_mean", np.zeros(num_features, dtype) if track else None)
        self.register_buffer("running_var", np.ones(num_features, dtype) if track else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if track else None)

    def forward(self, x):
        if len(x.shape) not in self.ranks:
            raise ValueError(f"{type(self).__name__}: x has {len(x.shape)} axes, expected {' or '.join(map(str, self.ranks))}")
        if not self.track_running_stats:
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        momentum = 0.0
        if self.training:
            momentum = 1 / (int(self.num_batches_tracked) + 1) if self.momentum is None else self.momentum
        y = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=self.training, momentum=momentum, eps=self.eps
        )
        if self.training:
            self.num_batches_tracked[...] += 1
            note("count", self.num_batches_tracked)
        return y

    def extra_repr(self):
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"


class BatchNorm1d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    ranks = (5,)


class GroupNorm(Module):
    """:func:`cnnpy.group_norm` with a weight and a bias a channel.

    Parameters
    ----------
    num_groups, num_channels : int
    eps : float
    affine : bool
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, *, rng=None, dtype="float32"):
        super().__init__()
        if num_channels % num_groups:
            raise ValueError(f"GroupNorm: num_groups is {num_groups}, expected a divisor of num_channels {num_channels}")
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        _affine(self, num_channels, dtype, affine, affine)

    def forward(self, x):
        return F.group_norm(x, self.num_groups, self.weight, self.bias, eps=self.eps)

    def extra_repr(self):
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"


class _InstanceNorm(Module):
    """:func:`cnnpy.instance_norm`.

    Parameters
    ----------
    num_features : int
    eps : float
    affine : bool
        Learn weight and bias.
    """

    rank: int = 0
    weight: Parameter | None
    bias: Parameter | None

    def __init__(self, num_features, eps=1e-5, affine=False, *, rng=None, dtype="float32"):
        super().__init__()
        self.num_features, self.eps = num_features, eps
        _affine(self, num_features, dtype, affine, affine)

    def forward(self, x):
        if len(x.shape) != self.rank:
            raise ValueError(f"{type(self).__name__}: x has {len(x.shape)} axes, expected {self.rank}")
        return F.instance_norm(x, self.weight, self.bias, eps=self.eps)

    def extra_repr(self):
        return f"{self.num_features}, eps={self.eps}"


class InstanceNorm1d(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__
    rank = 3


class InstanceNorm2d(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__
    rank = 4


class InstanceNorm3d(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__
    rank = 5


def _shape(value):
    return (int(value),) if isinstance(value, (int, np.integer)) else tuple(int(v) for v in value)


class LayerNorm(Module):
    """:func:`cnnpy.layer_norm` over the last axes, with a weight and a bias of their shape.

    Parameters
    ----------
    normalized_shape : int or tuple of int
    eps : float
    elementwise_affine, bias : bool
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, *, rng=None, dtype="float32"):
        super().__init__()
        self.normalized_shape, self.eps = _shape(normalized_shape), eps
        _affine(self, self.normalized_shape, dtype, elementwise_affine, elementwise_affine and bias)

    def forward(self, x):
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, eps=self.eps)

    def extra_repr(self):
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """:func:`cnnpy.rms_norm` over the last axes, with a weight of their shape."""

    weight: Parameter | None

    def __init__(self, normalized_shape, eps=None, elementwise_affine=True, *, rng=None, dtype="float32"):
        super().__init__()
        self.normalized_shape, self.eps = _shape(normalized_shape), eps
        _affine(self, self.normalized_shape, dtype, elementwise_affine, False)

    def forward(self, x):
        return F.rms_norm(x, self.normalized_shape, self.weight, eps=self.eps)

    def extra_repr(self):
        return f"{self.normalized_shape}, eps={self.eps}"


class LocalResponseNorm(Module):
    """:func:`cnnpy.local_response_norm`."""

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1.0):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x):
        return F.local_response_norm(x, self.size, alpha=self.alpha, beta=self.beta, k=self.k)

    def extra_repr(self):
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
