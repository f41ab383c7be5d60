"""One step of an optimiser on one parameter, in place: what :mod:`cnnpy.optim` is made of."""

import numpy as np

from cnnpy import _core

__all__ = ["adam_update", "sgd_update"]


def sgd_update(parameter, gradient, velocity, *, lr, momentum=0.0, weight_decay=0.0, nesterov=False, first=False):
    """``g += weight_decay w; v = g (first) or momentum v + g; w -= lr v`` (Nesterov: ``lr (g + momentum v)``). velocity may be None."""
    gradient = np.ascontiguousarray(gradient, parameter.dtype)
    _core.sgd_update(parameter, gradient, velocity, lr, momentum, weight_decay, nesterov, first)


def adam_update(parameter, gradient, m, v, *, step, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    """Adam at step 1, 2, ...; ``decoupled`` is AdamW: ``w -= lr weight_decay w`` instead of ``g += weight_decay w``."""
    gradient = np.ascontiguousarray(gradient, parameter.dtype)
    corrections = 1 - betas[0] ** step, (1 - betas[1] ** step) ** 0.5
    _core.adam_update(parameter, gradient, m, v, lr, *betas, eps, weight_decay, decoupled, *corrections)
