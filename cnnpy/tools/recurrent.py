"""Looking into recurrent networks: how far a gradient reaches, and what a character model writes."""

import numpy as np

from cnnpy import functional as F
from cnnpy.autograd import Tensor, no_grad

__all__ = ["gradient_over_distance", "sample_characters"]


def gradient_over_distance(layer, x, rng=0):
    """How strongly the last output depends on inputs further and further back.

    Parameters
    ----------
    layer : cnnpy.nn.RNN, LSTM or GRU
        Batch first, one direction.
    x : array_like, shape (N, T, input_size)
    rng : int or numpy.random.Generator
        Of the direction in which the last output is looked at.

    Returns
    -------
    ndarray of float64, shape (T,)
        ``result[d]`` is the norm of the gradient of one random direction of the last step's output with respect to the input d steps before it, the root of
        the mean square over the samples. A curve that falls like a power of d steps is the vanishing gradient.

    References
    ----------
    Y. Bengio, P. Simard, P. Frasconi, Learning long-term dependencies with gradient descent is difficult, 1994; S. Hochreiter, 1991.

    Examples
    --------
    >>> import numpy as np
    >>> from cnnpy import nn, tools
    >>> curve = tools.gradient_over_distance(nn.RNN(3, 8, rng=0), np.random.default_rng(0).normal(size=(4, 50, 3)))
    >>> bool(curve[49] < 1e-6 * curve[0])
    True
    """
    x = Tensor(np.asarray(x), True)
    if len(x.shape) != 3:
        raise ValueError(f"gradient_over_distance: x has shape {x.shape}, expected (N, T, input_size)")
    y = layer(x)[0]
    direction = np.random.default_rng(rng).normal(size=y.shape[2])
    direction = (direction / np.sqrt((direction**2).sum())).astype(y.dtype)
    (y[:, -1] * direction).sum().backward()
    square = (x.grad.astype(np.float64) ** 2).sum(axis=2)
    return np.sqrt(square.sum(axis=0) / len(square))[::-1].copy()


def sample_characters(model, ids, length, *, temperature=1.0, rng=None):
    """Goes on with a sequence, one character after the other, each drawn by the model's probabilities.

    Parameters
    ----------
    model : cnnpy.models.char_lstm
        In evaluation mode while it writes.
    ids : array_like of int, shape (T,)
        What is there already, at least one.
    length : int
        How many to add.
    temperature : float, above 0
        Scores are divided by it: towards 0 the likeliest character always.
    rng : int or numpy.random.Generator, optional

    Returns
    -------
    ndarray of int64, shape (length,)
    """
    ids, rng = np.asarray(ids), np.random.default_rng(rng)
    if ids.ndim != 1 or not len(ids):
        raise ValueError(f"sample_characters: ids has shape {ids.shape}, expected at least one number along one axis")
    if not temperature > 0:
        raise ValueError(f"sample_characters: temperature is {temperature}, expected a number above 0")
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    found: list = []
    try:
        with no_grad():
            scores, state = model(ids[None], return_state=True)
            while len(found) < length:
                p = F.softmax(scores.data[0, :, -1].astype(np.float64) / temperature)
                found.append(int(np.searchsorted(np.cumsum(p), rng.random() * p.sum(), side="right").clip(0, len(p) - 1)))
                scores, state = model(np.array([[found[-1]]]), state, return_state=True)
    finally:
        for module, training in modes:
            object.__setattr__(module, "training", training)
    return np.array(found, np.int64)
