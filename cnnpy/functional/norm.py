"""Normalisation."""

import numpy as np

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import select, single

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "local_response_norm",
    "local_response_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]


def _check_running(running_mean, running_var):
    for name, a in (("running_mean", running_mean), ("running_var", running_var)):
        if a is None:
            continue
        if not isinstance(a, np.ndarray) or a.dtype.kind != "f":
            kind = f"dtype {a.dtype}" if isinstance(a, np.ndarray) else f"type {type(a).__name__}"
            raise TypeError(f"batch_norm: {name} has {kind}, expected a float ndarray, which training updates in place")
        if not a.flags.writeable:
            raise ValueError(f"batch_norm: {name} is read-only, expected an array that training can update in place")


def _momentum(momentum):
    if isinstance(momentum, bool) or not isinstance(momentum, (int, float, np.integer, np.floating)):
        raise TypeError(f"batch_norm: momentum is {type(momentum).__name__}, expected a real number")
    if not 0 <= momentum <= 1:
        raise ValueError(f"batch_norm: momentum is {momentum!r}, expected a number from 0 to 1")
    return float(momentum)


def _update_running(running_mean, running_var, mean, variance, momentum, n):
    """In place; by the core where the arrays are dense and of the statistics' dtype."""
    kept = [a for a in (running_mean, running_var) if a is not None]
    if not kept:
        return
    if all(a.dtype == mean.dtype and a.flags.carray for a in kept):
        _core.running_update(running_mean, running_var, mean, variance, momentum, n)
        return
    for running, new in ((running_mean, mean), (running_var, variance * (n / (n - 1)))):
        if running is not None:
            running[...] = (1 - momentum) * running + momentum * new


@operation("x running_mean? running_var? weight? bias?", constant=("running_mean", "running_var"), caches=True)
def batch_norm(x, running_mean, running_var, weight=None, bias=None, *, training=False, momentum=0.1, eps=1e-5, return_cache=False):
    """Normalises every channel: by the batch's own mean and variance in training, by the running ones in evaluation.

    Parameters
    ----------
    x : array_like, shape (N, C) or (N, C, spatial)
    running_mean, running_var : ndarray, shape (C,)
        In training they are updated in place, ``running = (1 - momentum) running + momentum statistic``, after everything else has
        succeeded; the variance that enters is the unbiased one. None: nothing is kept (training only).
    weight, bias : array_like, shape (C,), optional
        Scale and shift of the normalised channel; 1 and 0 by default.
    training : bool
    momentum : float, 0 to 1
        The share of the new statistic.
    eps : float
        Added to the variance.
    return_cache : bool
        Return ``(y, cache)``; the cache is the mean and the biased variance used.

    Returns
    -------
    ndarray, the shape of x; channels-last if x is, else C order

    Raises
    ------
    ValueError
        A single value a channel in training; shapes that do not fit.

    Notes
    -----
    ``y = weight (x - m) / sqrt(v + eps) + bias``, v biased. Moments are taken as deviations from block means, merged in order.

    References
    ----------
    S. Ioffe, C. Szegedy, Batch normalization, 2015.

    Examples
    --------
    >>> import numpy as np, cnnpy.functional as F
    >>> F.batch_norm([[1.0], [3.0]], None, None, training=True, eps=0.0).ravel()
    array([-1.,  1.])
    """
    momentum = _momentum(momentum)
    if training is True:
        _check_running(running_mean, running_var)
    y, mean, variance = _core.batch_norm_forward(x, running_mean, running_var, weight, bias, training, eps)
    if training and y.size:
        n = y.size // y.shape[1]
        _update_running(running_mean, running_var, mean, variance, momentum, n)
    return (y, (mean, variance)) if return_cache else y


@batch_norm.backward
def batch_norm_backward(
    dy, x, running_mean, running_var, weight=None, bias=None, *, training=False, momentum=0.1, eps=1e-5, cache=None, needs=None
):
    """Gradients of :func:`batch_norm`.

    ``dx = (t - mean(t) - xh mean(t xh)) / sqrt(v + eps)``, ``t = dy weight``, xh the normalised x; ``dx = t / sqrt(v + eps)`` in evaluation;
    ``dweight = sum dy xh``, ``dbias = sum dy``. The running statistics are not touched.
    """
    Gradients = batch_norm.operation.Gradients
    mask = select("batch_norm_backward", Gradients, needs)
    if cache is None:
        cache = (running_mean, running_var)
        if training:
            cache = _core.batch_norm_forward(x, None, None, None, None, True, eps)[1:]
    return Gradients(*_core.batch_norm_backward(dy, x, weight, bias, *cache, training, eps, mask))


def _last_axes(function, normalized_shape):
    if normalized_shape is None:
        raise TypeError(f"{function}: normalized_shape is None, expected an int or a tuple of ints, the last axes of x")
    return normalized_shape


def _rows_backward(name, op, dy, x, weight, bias, cache, needs, shape, groups, eps, centred):
    """Gradients of a norm whose sets are rows; `cache`: mean and 1/sqrt(variance + eps) of every set."""
    wanted = select(f"{name}_backward", op.Gradients, needs)
    if cache is None:
        cache = _core.row_norm_forward(name, x, None, None, shape, groups, eps, centred)[1:]
    found = _core.row_norm_backward(f"{name}_backward", dy, x, weight, bias, *cache, shape, groups, eps, centred)
    return op.Gradients(*(g if wanted >> i & 1 else None for i, g in zip(range(len(op.Gradients._fields)), found, strict=False)))


@operation("x normalized_shape weight? bias?", constant=("normalized_shape",), caches=True)
def layer_norm(x, normalized_shape, weight=None, bias=None, *, eps=1e-5, return_cache=False):
    """Normalises every sample over its last axes.

    Parameters
    ----------
    x : array_like
    normalized_shape : int or tuple of int
        The last axes of x, over which mean and variance are taken.
    weight, bias : array_like of that shape, optional
    eps : float
    return_cache : bool

    Returns
    -------
    ndarray, the shape of x, C order

    Notes
    -----
    ``y = weight (x - m) / sqrt(v + eps) + bias``, m and biased v of each sample.

    References
    ----------
    J. Ba, J. Kiros, G. Hinton, Layer normalization, 2016.
    """
    y, *cache = _core.row_norm_forward("layer_norm", x, weight, bias, _last_axes("layer_norm", normalized_shape), 1, eps, True)
    return (y, tuple(cache)) if return_cache else y


@layer_norm.backward
def layer_norm_backward(dy, x, normalized_shape, weight=None, bias=None, *, eps=1e-5, cache=None, needs=None):
    """Gradients of :func:`layer_norm`, as of :func:`batch_norm` in training, over each sample's last axes."""
    return _rows_backward(
        "layer_norm",
        layer_norm.operation,
        dy,
        x,
        weight,
        bias,
        cache,
        needs,
        _last_axes("layer_norm_backward", normalized_shape),
        1,
        eps,
        True,
    )


@operation("x normalized_shape weight?", constant=("normalized_shape",), caches=True)
def rms_norm(x, normalized_shape, weight=None, *, eps=None, return_cache=False):
    """Divides every sample by the root of its mean square over the last axes: ``y = weight x / sqrt(mean(x^2) + eps)``.

    Parameters
    ----------
    x : array_like
    normalized_shape : int or tuple of int
    weight : array_like of that shape, optional
    eps : float, optional
        The machine epsilon of the dtype by default.
    return_cache : bool

    Returns
    -------
    ndarray, the shape of x, C order

    References
    ----------
    B. Zhang, R. Sennrich, Root mean square layer normalization, 2019.
    """
    y, *cache = _core.row_norm_forward(
        "rms_norm", x, weight, None, _last_axes("rms_norm", normalized_shape), 1, _epsilon(eps, x, weight), False
    )
    return (y, tuple(cache)) if return_cache else y


def _epsilon(eps, *arrays):
    if eps is not None:
        return eps
    kinds = [np.asarray(a).dtype for a in arrays if a is not None]
    return float(
        np.finfo(np.float64 if any(k in (np.float64, np.int64, np.int32, np.uint32, np.uint64) for k in kinds) else np.float32).eps
    )


@rms_norm.backward
def rms_norm_backward(dy, x, normalized_shape, weight=None, *, eps=None, cache=None, needs=None):
    """Gradients of :func:`rms_norm`: with r the factor and ``t = dy weight``, ``dx = r t - x r^3 mean(x t)``, ``dweight = sum dy x r``."""
    return _rows_backward(
        "rms_norm",
        rms_norm.operation,
        dy,
        x,
        weight,
        None,
        cache,
        needs,
        _last_axes("rms_norm_backward", normalized_shape),
        1,
        _epsilon(eps, x, weight),
        False,
    )


@operation("x num_groups weight? bias?", constant=("num_groups",), caches=True)
def group_norm(x, num_groups, weight=None, bias=None, *, eps=1e-5, return_cache=False):
    """Normalises groups of consecutive channels of every sample.

    Parameters
    ----------
    x : array_like, shape (N, C) or (N, C, spatial)
    num_groups : int
        Divides C.
    weight, bias : array_like, shape (C,), optional
    eps : float
    return_cache : bool

    Returns
    -------
    ndarray, the shape of x; channels-last if x is, else C order

    References
    ----------
    Y. Wu, K. He, Group normalization, 2018.
    """
    y, *cache = _core.row_norm_forward("group_norm", x, weight, bias, None, num_groups, eps, True)
    return (y, tuple(cache)) if return_cache else y


@group_norm.backward
def group_norm_backward(dy, x, num_groups, weight=None, bias=None, *, eps=1e-5, cache=None, needs=None):
    """Gradients of :func:`group_norm`, as of :func:`batch_norm` in training, over each group of each sample."""
    return _rows_backward("group_norm", group_norm.operation, dy, x, weight, bias, cache, needs, None, num_groups, eps, True)


def _channels(function, x):
    shape = _core.shape_of(function, x)
    if len(shape) < 3:
        raise ValueError(f"{function}: x has shape {shape}, expected (N, C, spatial)")
    if int(np.prod(shape[2:])) == 1:
        raise ValueError(f"{function}: x has shape {shape}, expected more than one cell a channel")
    return max(1, shape[1])


@operation("x weight? bias?", caches=True)
def instance_norm(x, weight=None, bias=None, *, eps=1e-5, return_cache=False):
    """Normalises every channel of every sample over its cells.

    Parameters
    ----------
    x : array_like, shape (N, C, spatial), more than one cell
    weight, bias : array_like, shape (C,), optional
    eps : float
    return_cache : bool

    Returns
    -------
    ndarray, the shape of x; channels-last if x is, else C order

    References
    ----------
    D. Ulyanov, A. Vedaldi, V. Lempitsky, Instance normalization, 2016.
    """
    y, *cache = _core.row_norm_forward("instance_norm", x, weight, bias, None, _channels("instance_norm", x), eps, True)
    return (y, tuple(cache)) if return_cache else y


@instance_norm.backward
def instance_norm_backward(dy, x, weight=None, bias=None, *, eps=1e-5, cache=None, needs=None):
    """Gradients of :func:`instance_norm`, as of :func:`batch_norm` in training, over each channel of each sample."""
    channels = _channels("instance_norm_backward", x)
    return _rows_backward("instance_norm", instance_norm.operation, dy, x, weight, bias, cache, needs, None, channels, eps, True)


@operation("x")
def local_response_norm(x, size, *, alpha=1e-4, beta=0.75, k=1.0):
    """Divides by a power of the energy in neighbouring channels.

    Parameters
    ----------
    x : array_like, shape (N, C) or (N, C, spatial)
    size : int
        Channels summed, ``c - size//2`` to ``c + (size - 1)//2``.
    alpha, beta, k : float

    Returns
    -------
    ndarray, the shape of x; channels-last if x is, else C order

    Notes
    -----
    ``y_c = x_c z_c^-beta``, ``z_c = k + alpha / size * sum x_j^2``. AlexNet's paper does not divide alpha by the size: its 1e-4 with n = 5,
    k = 2 is ``alpha=5e-4, k=2`` here.

    References
    ----------
    A. Krizhevsky, I. Sutskever, G. Hinton, ImageNet classification with deep convolutional neural networks, 2012.
    """
    return _core.local_response_norm_forward(x, size, alpha, beta, k)


@local_response_norm.backward
def local_response_norm_backward(dy, x, size, *, alpha=1e-4, beta=0.75, k=1.0, cache=None, needs=None):
    """Gradient of :func:`local_response_norm`.

    ``dx_c = dy_c z_c^-beta - 2 alpha beta / size x_c sum of dy_j x_j z_j^(-beta - 1)`` over all j whose window holds c.
    """
    return single(
        "local_response_norm_backward",
        local_response_norm.operation.Gradients,
        needs,
        lambda: _core.local_response_norm_backward(dy, x, size, alpha, beta, k),
    )
