"""A long short-term memory whose products are convolutions."""

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import select
from cnnpy.functional.recurrent_cells import parts
from cnnpy.functional.runtime import automatic

__all__ = ["convlstm_cell", "convlstm_cell_backward"]

_SAME = (1, "same", 1, 1, "zeros", False)  # stride, padding, dilation, groups, padding mode, flip


def _check(function, x, h, c, w_xh, w_hh, b):
    given = {"x": x, "h": h, "c": c, "w_xh": w_xh, "w_hh": w_hh}
    x, h, c, w, u = (_core.shape_of(function, a, n) for n, a in given.items())
    if len(x) != 4:
        raise ValueError(f"{function}: x has shape {x}, expected (N, C, H, W)")
    if len(w) != 4 or w[0] % 4 or w[0] == 0 or w[1] != x[1]:
        raise ValueError(f"{function}: w_xh has shape {w}, expected (4*K, {x[1]}, kh, kw) because x has shape {x}")
    k = w[0] // 4
    if len(u) != 4 or u[:2] != (4 * k, k):
        raise ValueError(f"{function}: w_hh has shape {u}, expected ({4 * k}, {k}, kh, kw)")
    for name, shape in (("h", h), ("c", c)):
        if shape != (x[0], k, *x[2:]):
            raise ValueError(f"{function}: {name} has shape {shape}, expected {(x[0], k, *x[2:])}")
    if b is not None and _core.shape_of(function, b, "b") != (4 * k,):
        raise ValueError(f"{function}: b has shape {_core.shape_of(function, b)}, expected ({4 * k},)")


def _convolve(x, w, b):
    return _core.conv_forward(2, x, w, b, *_SAME, automatic(), None)


@operation("x h c w_xh w_hh b?", caches=True)
def convlstm_cell(x, h, c, w_xh, w_hh, b=None, *, return_cache=False):
    """One step of a convolutional LSTM: :func:`lstm_cell` on maps, its products 'same' convolutions.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    h, c : array_like, shape (N, K, H, W)
        Hidden state and cell state before the step.
    w_xh, w_hh : array_like, shapes (4 K, C, kh, kw) and (4 K, K, kh, kw)
        Filters in the order input gate i, forget gate f, candidate g, output gate o.
    b : array_like, shape (4 K,), optional
    return_cache : bool

    Returns
    -------
    (h, c) : ndarrays, shape (N, K, H, W)

    Notes
    -----
    ``a = w_xh * x + b + w_hh * h``; ``i, f, o = sigmoid(a)``, ``g = tanh(a)``; ``c1 = f c + i g``, ``h1 = o tanh(c1)``. Without the paper's
    peephole connections, as most use it.

    References
    ----------
    X. Shi et al., Convolutional LSTM network: a machine learning approach for precipitation nowcasting, 2015.
    """
    _check("convlstm_cell", x, h, c, w_xh, w_hh, b)
    h1, c1, gates = _core.lstm_gates_forward("convlstm_cell", _convolve(x, w_xh, b), _convolve(h, w_hh, None), c)
    return ((h1, c1), (c1, gates)) if return_cache else (h1, c1)


@convlstm_cell.backward
def convlstm_cell_backward(dy, x, h, c, w_xh, w_hh, b=None, *, cache=None, needs=None):
    """Gradients of :func:`convlstm_cell`; dy is ``(dh, dc)``, either may be None. The errors of a are those of :func:`lstm_cell_backward`, the rest
    is two convolutions' backward."""
    function, op = "convlstm_cell_backward", convlstm_cell.operation
    wanted, (dh, dc) = select(function, op.Gradients, needs), parts(function, dy)
    _check(function, x, h, c, w_xh, w_hh, b)
    if dh is None and dc is None:
        raise TypeError(f"{function}: dy is None in all its parts, expected at least one gradient")
    if cache is None:
        cache = convlstm_cell.operation.forward(x, h, c, w_xh, w_hh, b, return_cache=True)[1]
    da, dc0 = _core.lstm_gates_backward(function, dh, dc, c, *cache)
    of_x = (1 if wanted & 1 else 0) | (2 if wanted & 8 else 0) | (4 if wanted & 32 and b is not None else 0)
    of_h = (1 if wanted & 2 else 0) | (2 if wanted & 16 else 0)
    dx = dw = db = dh0 = du = None
    if of_x:
        dx, dw, db = _core.conv_backward(2, da, x, w_xh, b, *_SAME, automatic(), of_x)
    if of_h:
        dh0, du, _ = _core.conv_backward(2, da, h, w_hh, None, *_SAME, automatic(), of_h)
    return op.Gradients(dx, dh0, dc0 if wanted & 4 else None, dw, du, db)
