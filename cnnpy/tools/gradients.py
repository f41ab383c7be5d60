"""Numeric differentiation."""

import numpy as np

from cnnpy.autograd import Tensor

__all__ = ["gradcheck"]


def _flat(result):
    if isinstance(result, tuple):
        for r in result:
            yield from _flat(r)
    else:
        yield result


def gradcheck(fn, *given, step=1e-6, entries=200, rng=0):
    """Compares gradients with central differences in float64.

    ``fn(*tensors)`` is weighted by fixed random numbers to one value; its gradient in every array, or in `entries` random entries of a
    large one, is compared with ``(f(x + step) - f(x - step)) / (2 step)``.

    Parameters
    ----------
    fn : callable
        Takes Tensors, returns a Tensor or a tuple of Tensors, perhaps of tuples.
    given : array_like
        Real arrays are differentiated, others passed on.
    step : float
    entries : int
        Most entries of an array to be differentiated.
    rng : int or numpy.random.Generator

    Returns
    -------
    float
        The largest absolute difference, divided by the larger of 1 and the largest gradient.

    Examples
    --------
    >>> import numpy as np, cnnpy.functional as F
    >>> from cnnpy.tools import gradcheck
    >>> gradcheck(F.tanh, np.array([0.3, -0.5])) < 1e-8
    True
    """
    rng = np.random.default_rng(rng)
    arrays = [np.array(a, np.float64) if np.asarray(a).dtype.kind == "f" else a for a in given]
    real = [isinstance(a, np.ndarray) and a.dtype == np.float64 for a in arrays]
    weights = None

    def value(values, requires_grad=False):
        nonlocal weights
        tensors = [Tensor(v.copy(), requires_grad) if r else v for v, r in zip(values, real, strict=True)]
        results = [r for r in _flat(fn(*tensors)) if isinstance(r, Tensor)]
        if weights is None:
            weights = [rng.normal(size=r.shape) for r in results]
        total = None
        for r, w in zip(results, weights, strict=True):
            part = (r * w).sum()
            total = part if total is None else total + part
        return total, tensors

    total, tensors = value(arrays, True)
    total.backward()
    worst, largest = 0.0, 1.0
    for i, (array, is_real) in enumerate(zip(arrays, real, strict=True)):
        if not is_real or array.size == 0:
            continue
        analytic = np.zeros(array.shape) if tensors[i].grad is None else tensors[i].grad
        chosen = np.arange(array.size) if array.size <= entries else rng.choice(array.size, entries, replace=False)
        for flat in chosen:
            at = np.unravel_index(flat, array.shape)
            sides = []
            for sign in (1, -1):
                moved = [a.copy() if r else a for a, r in zip(arrays, real, strict=True)]
                moved[i][at] += sign * step
                sides.append(value(moved)[0].item())
            numeric = (sides[0] - sides[1]) / (2 * step)
            worst = max(worst, abs(numeric - analytic[at]))
            largest = max(largest, abs(numeric))
    return worst / largest
