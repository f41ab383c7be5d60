"""One step of an optimiser on one parameter, in place: what :mod:`cnnpy.optim` is made of."""

import numpy as np

from cnnpy import _core

__all__ = ["adadelta_update", "adagrad_update", "adam_update", "rmsprop_update", "scale", "sgd_update", "sum_squares"]


def sgd_update(parameter, gradient, velocity, *, lr, momentum=0.0, weight_decay=0.0, nesterov=False, first=False):
    """``g += weight_decay w; v = g (first) or momentum v + g; w -= lr v`` (Nesterov: ``lr (g + momentum v)``). velocity may be None."""
    gradient = np.ascontiguousarray(gradient, parameter.dtype)
    _core.sgd_update(parameter, gradient, velocity, lr, momentum, weight_decay, nesterov, first)


def adam_update(parameter, gradient, m, v, *, step, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    """Adam at step 1, 2, ...; ``decoupled`` is AdamW: ``w -= lr weight_decay w`` instead of ``g += weight_decay w``."""
    gradient = np.ascontiguousarray(gradient, parameter.dtype)
    corrections = 1 - betas[0] ** step, (1 - betas[1] ** step) ** 0.5
    _core.adam_update(parameter, gradient, m, v, lr, *betas, eps, weight_decay, decoupled, *corrections)


def rmsprop_update(parameter, gradient, v, velocity, average, *, lr, alpha=0.99, momentum=0.0, eps=1e-8, weight_decay=0.0):
    """``v = alpha v + (1 - alpha) g^2; w -= lr g / (sqrt(v) + eps)``; velocity and average (centered) may be None."""
    gradient = np.ascontiguousarray(gradient, parameter.dtype)
    _core.rmsprop_update(parameter, gradient, v, velocity, average, lr, alpha, momentum, eps, weight_decay)


def adagrad_update(parameter, gradient, total, *, lr, eps=1e-10, weight_decay=0.0):
    """``total += g^2; w -= lr g / (sqrt(total) + eps)``."""
    _core.adagrad_update(parameter, np.ascontiguousarray(gradient, parameter.dtype), total, lr, eps, weight_decay)


def adadelta_update(parameter, gradient, v, z, *, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):
    """``v = rho v + (1 - rho) g^2; D = sqrt(z + eps) / sqrt(v + eps) g; z = rho z + (1 - rho) D^2; w -= lr D``."""
    _core.adadelta_update(parameter, np.ascontiguousarray(gradient, parameter.dtype), v, z, lr, rho, eps, weight_decay)


def sum_squares(array):
    """The sum of squares of a C-ordered array, in float64, the same for any number of threads."""
    return _core.sum_squares(array)


def scale(array, by):
    """Multiplies a C-ordered array in place."""
    _core.scale(array, by)
