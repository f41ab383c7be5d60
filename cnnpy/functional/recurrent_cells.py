"""One step of a recurrent network, as the formulas are written: a sequence of length one for the C core."""

import numpy as np

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import select

__all__ = [
    "gru_cell",
    "gru_cell_backward",
    "lstm_cell",
    "lstm_cell_backward",
    "lstm_weights_from_concatenated",
    "lstm_weights_to_concatenated",
    "rnn_cell",
    "rnn_cell_backward",
]

_NONLINEARITIES = {"tanh": "rnn_tanh", "relu": "rnn_relu"}


def nonlinearity_cell(function, name):
    if not isinstance(name, str):
        raise TypeError(f"{function}: nonlinearity is {type(name).__name__}, expected a string")
    if name not in _NONLINEARITIES:
        raise ValueError(f"{function}: nonlinearity is {name!r}, expected one of 'tanh', 'relu'")
    return _NONLINEARITIES[name]


def _one_step(function, x, w_ih):
    """x with an axis of one step; what does not fit is named here, with the shape that x came with."""
    shape = _core.shape_of(function, x)
    if len(shape) != 2:
        raise ValueError(f"{function}: x has shape {shape}, expected (N, F)")
    weight = _core.shape_of(function, w_ih)
    if len(weight) == 2 and weight[1] != shape[1]:
        raise ValueError(f"{function}: w_ih has shape {weight}, expected ({weight[0]}, {shape[1]}) because x has shape {shape}")
    return np.asarray(x)[:, None]


def _cell_forward(function, cell, x, h, c, weights, keep):
    """y, h, c, gates, cells of one step."""
    return _core.recurrent_forward(
        function, cell, _one_step(function, x, weights[0]), *weights, None, h, c, None, False, True, -1, 1, 0, None, keep
    )  # fmt: skip


def _cell_backward(op, cell, dh, dc, x, h, c, weights, cache, needs):
    function = f"{op.name}_backward"
    mask = select(function, op.Gradients, needs)
    if dh is None and dc is None:
        raise TypeError(f"{function}: dy is None{'' if c is None else ' in all its parts'}, expected a gradient")
    if cache is None:
        cache = _cell_forward(function, cell, x, h, c, weights, True)
    y, _, _, gates, cells = cache
    states = 1 if c is None else 2
    wanted = (mask & 1) | (2 if mask >> (1 + states) else 0) | (4 if mask & 2 else 0) | (8 if c is not None and mask & 4 else 0)
    if not wanted:
        return op.Gradients(*[None] * len(op.Gradients._fields))
    found = _core.recurrent_backward(
        function, cell, _one_step(function, x, weights[0]), *weights, None, h, c, None, False, True, -1, 1, 0, None, dh, dc, y, gates, cells, wanted
    )  # fmt: skip
    dx, dw_ih, dw_hh, db_ih, db_hh, _, dh0, dc0 = found
    values = [None if dx is None else dx[:, 0], dh0, *([dc0] if states == 2 else []), dw_ih, dw_hh, db_ih, db_hh]
    return op.Gradients(*(v if mask >> i & 1 else None for i, v in enumerate(values)))


@operation("x h w_ih w_hh b_ih? b_hh?", caches=True)
def rnn_cell(x, h, w_ih, w_hh, b_ih=None, b_hh=None, *, nonlinearity="tanh", return_cache=False):
    """One step of a simple recurrent network: ``h1 = f(x w_ih' + b_ih + h w_hh' + b_hh)``.

    Parameters
    ----------
    x : array_like, shape (N, F)
        The input of this step.
    h : array_like, shape (N, H)
        The state before it.
    w_ih, w_hh : array_like, shapes (H, F) and (H, H)
    b_ih, b_hh : array_like, shape (H,), optional
    nonlinearity : {'tanh', 'relu'}
    return_cache : bool

    Returns
    -------
    ndarray, shape (N, H)
        The state after it.

    Raises
    ------
    ValueError
        A shape that does not fit the others.

    References
    ----------
    J. Elman, Finding structure in time, 1990.

    Examples
    --------
    >>> import numpy as np, cnnpy.functional as F
    >>> F.rnn_cell([[1.0]], [[0.0]], [[0.5]], [[0.5]]).round(9)
    array([[0.46211716]])
    """
    cache = _cell_forward("rnn_cell", nonlinearity_cell("rnn_cell", nonlinearity), x, h, None, (w_ih, w_hh, b_ih, b_hh), return_cache)
    return (cache[1], cache) if return_cache else cache[1]


@rnn_cell.backward
def rnn_cell_backward(dy, x, h, w_ih, w_hh, b_ih=None, b_hh=None, *, nonlinearity="tanh", cache=None, needs=None):
    """Gradients of :func:`rnn_cell`: ``da = dy (1 - h1^2)`` or ``dy [h1 > 0]``, ``dx = da w_ih``, ``dh = da w_hh``, ``dw_ih = da' x``,
    ``dw_hh = da' h``, both db the sum of da over the samples."""
    cell = nonlinearity_cell("rnn_cell_backward", nonlinearity)
    return _cell_backward(rnn_cell.operation, cell, dy, None, x, h, None, (w_ih, w_hh, b_ih, b_hh), cache, needs)


@operation("x h c w_ih w_hh b_ih? b_hh?", caches=True)
def lstm_cell(x, h, c, w_ih, w_hh, b_ih=None, b_hh=None, *, return_cache=False):
    """One step of a long short-term memory.

    Parameters
    ----------
    x : array_like, shape (N, F)
    h, c : array_like, shape (N, H)
        Hidden state and cell state before the step.
    w_ih, w_hh : array_like, shapes (4 H, F) and (4 H, H)
        Rows in the order input gate i, forget gate f, candidate g, output gate o.
    b_ih, b_hh : array_like, shape (4 H,), optional
    return_cache : bool

    Returns
    -------
    (h, c) : ndarrays, shape (N, H)

    Notes
    -----
    With ``a = x w_ih' + b_ih + h w_hh' + b_hh``: ``i, f, o = sigmoid(a)``, ``g = tanh(a)``, and

    - the cell update ``c1 = f c + i g``, the line that summaries of the LSTM often leave out: without it the gates have nothing to act on, and it is
      what carries a gradient over many steps unchanged where f is 1;
    - ``h1 = o tanh(c1)``.

    References
    ----------
    S. Hochreiter, J. Schmidhuber, Long short-term memory, 1997; F. Gers, J. Schmidhuber, F. Cummins, Learning to forget, 2000.

    Examples
    --------
    >>> import numpy as np, cnnpy.functional as F
    >>> w = np.full((4, 1), 0.5)
    >>> h, c = F.lstm_cell([[1.0]], [[0.0]], [[0.0]], w, w)
    >>> h.round(9), c.round(9)
    (array([[0.17426972]]), array([[0.28764914]]))
    """
    cache = _cell_forward("lstm_cell", "lstm", x, h, c, (w_ih, w_hh, b_ih, b_hh), return_cache)
    result = cache[1], cache[2]
    return (result, cache) if return_cache else result


@lstm_cell.backward
def lstm_cell_backward(dy, x, h, c, w_ih, w_hh, b_ih=None, b_hh=None, *, cache=None, needs=None):
    """Gradients of :func:`lstm_cell`; dy is ``(dh, dc)``, either may be None.

    ``dc1 = dc + dh o (1 - tanh(c1)^2)``; the errors of a are ``dc1 g i (1 - i)``, ``dc1 c f (1 - f)``, ``dc1 i (1 - g^2)``,
    ``dh tanh(c1) o (1 - o)``; ``dc = dc1 f``; the products are those of :func:`rnn_cell_backward`.
    """
    dh, dc = parts("lstm_cell_backward", dy)
    return _cell_backward(lstm_cell.operation, "lstm", dh, dc, x, h, c, (w_ih, w_hh, b_ih, b_hh), cache, needs)


@operation("x h w_ih w_hh b_ih? b_hh?", caches=True)
def gru_cell(x, h, w_ih, w_hh, b_ih=None, b_hh=None, *, return_cache=False):
    """One step of a gated recurrent unit.

    Parameters
    ----------
    x : array_like, shape (N, F)
    h : array_like, shape (N, H)
    w_ih, w_hh : array_like, shapes (3 H, F) and (3 H, H)
        Rows in the order reset gate r, update gate z, candidate n.
    b_ih, b_hh : array_like, shape (3 H,), optional
    return_cache : bool

    Returns
    -------
    ndarray, shape (N, H)

    Notes
    -----
    With ``a = x w_ih' + b_ih`` and ``q = h w_hh' + b_hh``: ``r, z = sigmoid(a + q)``, ``n = tanh(a_n + r q_n)``, ``h1 = (1 - z) n + z h``. The reset
    gate acts after the product, as in PyTorch and Keras; the paper of 2014 and ONNX's default apply it to h before.

    References
    ----------
    K. Cho et al., Learning phrase representations using RNN encoder-decoder for statistical machine translation, 2014.
    """
    cache = _cell_forward("gru_cell", "gru", x, h, None, (w_ih, w_hh, b_ih, b_hh), return_cache)
    return (cache[1], cache) if return_cache else cache[1]


@gru_cell.backward
def gru_cell_backward(dy, x, h, w_ih, w_hh, b_ih=None, b_hh=None, *, cache=None, needs=None):
    """Gradients of :func:`gru_cell`: ``en = dy (1 - z)(1 - n^2)``, ``er = en q_n r (1 - r)``, ``ez = dy (h - n) z (1 - z)``; the errors of a are
    er, ez, en, those of q er, ez, en r; ``dh`` has ``dy z`` besides its product."""
    return _cell_backward(gru_cell.operation, "gru", dy, None, x, h, None, (w_ih, w_hh, b_ih, b_hh), cache, needs)


def parts(function, dy):
    if not isinstance(dy, (tuple, list)) or len(dy) != 2:
        raise TypeError(f"{function}: dy is {type(dy).__name__}, expected a tuple of two, like the result")
    return dy


def lstm_weights_from_concatenated(W, b):
    """Weights of ``W [h, x] + b``, as textbooks write an LSTM, in the form of :func:`lstm_cell`.

    Parameters
    ----------
    W : array_like, shape (4 H, H + F)
        Rows of i, f, g, o, columns of h, then x.
    b : array_like, shape (4 H,)

    Returns
    -------
    (w_ih, w_hh, b_ih, b_hh) : ndarrays, shapes (4 H, F), (4 H, H), (4 H,), (4 H,)
        b_hh is zero.

    Raises
    ------
    ValueError
        The rows are no multiple of 4, the columns not more than H, or b does not fit.
    """
    W, b = np.asarray(W), np.asarray(b)
    if W.ndim != 2 or W.shape[0] % 4 or W.shape[0] == 0 or W.shape[1] <= W.shape[0] // 4:
        raise ValueError(f"lstm_weights_from_concatenated: W has shape {W.shape}, expected (4*H, H + F)")
    if b.shape != W.shape[:1]:
        raise ValueError(f"lstm_weights_from_concatenated: b has shape {b.shape}, expected {W.shape[:1]}")
    h = W.shape[0] // 4
    return W[:, h:].copy(), W[:, :h].copy(), b.copy(), np.zeros_like(b)


def lstm_weights_to_concatenated(w_ih, w_hh, b_ih=None, b_hh=None):
    """The inverse of :func:`lstm_weights_from_concatenated`: ``(W, b)``, b the sum of both biases.

    Parameters
    ----------
    w_ih, w_hh : array_like, shapes (4 H, F) and (4 H, H)
    b_ih, b_hh : array_like, shape (4 H,), optional
    """
    w_ih, w_hh = np.asarray(w_ih), np.asarray(w_hh)
    if w_ih.ndim != 2 or w_hh.ndim != 2 or w_ih.shape[0] != w_hh.shape[0] or w_hh.shape[0] != 4 * w_hh.shape[1]:
        raise ValueError(f"lstm_weights_to_concatenated: w_ih has shape {w_ih.shape} and w_hh {w_hh.shape}, expected (4*H, F) and (4*H, H)")
    b = np.zeros(w_ih.shape[0], w_ih.dtype)
    for name, bias in (("b_ih", b_ih), ("b_hh", b_hh)):
        if bias is not None:
            if np.shape(bias) != b.shape:
                raise ValueError(f"lstm_weights_to_concatenated: {name} has shape {np.shape(bias)}, expected {b.shape}")
            b = b + np.asarray(bias)
    return np.concatenate([w_hh, w_ih], axis=1), b
