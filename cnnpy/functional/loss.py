"""Losses."""

from typing import Any

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import select

__all__ = [
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "huber_loss",
    "huber_loss_backward",
    "kl_div",
    "kl_div_backward",
    "l1_loss",
    "l1_loss_backward",
    "mse_loss",
    "mse_loss_backward",
    "nll_loss",
    "nll_loss_backward",
]


@operation("logits target", constant=("target",))
def cross_entropy(logits, target, *, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    """Cross-entropy of class scores, the softmax included.

    Parameters
    ----------
    logits : array_like, shape (N, classes, ...)
        Unnormalised scores, classes on axis 1.
    target : array_like of int, shape (N, ...), or of real numbers, the shape of logits
        The right class of each row, 0 to classes - 1 or ``ignore_index``; or the probabilities of all classes.
    weight : array_like, shape (classes,), optional
        How much each class counts.
    ignore_index : int
        Rows of this class count nothing.
    label_smoothing : float, 0 to 1
        Share of the target spread evenly over all classes.
    reduction : {'mean', 'sum', 'none'}
        'mean' divides by the weights of the rows' classes (integer target) or by the number of rows (probabilities).

    Returns
    -------
    ndarray, shape () or, for 'none', (N, ...)

    Notes
    -----
    ``l = -sum_c Q_c log_softmax(logits)_c``, ``Q_c = weight_c ((1 - e) q_c + e / C)``, q the (one-hot) target. The mean over nothing is NaN.

    Examples
    --------
    >>> import cnnpy.functional as F
    >>> round(float(F.cross_entropy([[1.0, 2.0, 3.0]], [2])), 9)
    0.407605964
    """
    return _core.cross_entropy_forward("cross_entropy", logits, target, weight, ignore_index, label_smoothing, reduction, False)


@cross_entropy.backward
def cross_entropy_backward(
    dy, logits, target, *, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean", cache=None, needs=None
):
    """Gradient of :func:`cross_entropy`: ``dlogits = (softmax * sum(Q) - Q) * dy / divisor``, 0 in ignored rows."""
    Gradients = cross_entropy.operation.Gradients
    if not select("cross_entropy_backward", Gradients, needs):
        return Gradients(None)
    return Gradients(
        _core.cross_entropy_backward("cross_entropy_backward", dy, logits, target, weight, ignore_index, label_smoothing, reduction, False)
    )


@operation("input target", constant=("target",))
def nll_loss(input, target, *, weight=None, ignore_index=-100, reduction="mean"):
    """Negative log-likelihood of log-probabilities: ``-weight_t input_t``; 'mean' divides by the weights of the rows' classes.

    Parameters
    ----------
    input : array_like, shape (N, classes, ...)
        Log-probabilities, as of :func:`cnnpy.log_softmax` along axis 1.
    target : array_like of int, shape (N, ...)
    weight, ignore_index, reduction
        As of :func:`cross_entropy`.

    Returns
    -------
    ndarray, shape () or, for 'none', (N, ...)
    """
    return _core.cross_entropy_forward("nll_loss", input, target, weight, ignore_index, 0.0, reduction, True)


@nll_loss.backward
def nll_loss_backward(dy, input, target, *, weight=None, ignore_index=-100, reduction="mean", cache=None, needs=None):
    """Gradient of :func:`nll_loss`: ``-weight_t dy / divisor`` at the row's class, else 0."""
    Gradients = nll_loss.operation.Gradients
    if not select("nll_loss_backward", Gradients, needs):
        return Gradients(None)
    return Gradients(_core.cross_entropy_backward("nll_loss_backward", dy, input, target, weight, ignore_index, 0.0, reduction, True))


def _define(name, summary, formula, slope, both, delta=False):
    """A loss element by element; both: the target has the opposite gradient."""

    def forward(input, target, *, reduction="mean", **given):
        return _core.loss_forward(name, input, target, _delta(name, given, delta), reduction)

    forward.__name__ = forward.__qualname__ = name
    forward.__doc__ = (
        f"{summary}\n\nParameters\n----------\ninput, target : array_like of one shape\n"
        + ("delta : float, 1 by default\n    Where the square ends and the line begins.\n" if delta else "")
        + "reduction : {'mean', 'sum', 'none'}\n    'mean' divides by the number of elements; over nothing it is NaN.\n\n"
        + "Returns\n-------\nndarray, shape () or, for 'none', that of input\n\nNotes\n-----\n"
        + f"``{formula}``, x the input, t the target. Sums run in float64, block by block in order.\n"
    )
    call = operation("input target", constant=() if both else ("target",))(forward)
    op = call.operation

    def backward(dy, input, target, *, reduction="mean", cache=None, needs=None, **given):
        mask = select(f"{name}_backward", op.Gradients, needs)
        dx: Any = _core.loss_backward(dy, name, input, target, _delta(f"{name}_backward", given, delta), reduction) if mask else None
        return op.Gradients(dx if mask & 1 else None, -dx if mask & 2 else None) if both else op.Gradients(dx)

    backward.__name__ = backward.__qualname__ = f"{name}_backward"
    backward.__doc__ = f"Gradient of :func:`{name}`: ``dinput = {slope}``, times dy and the reduction's factor" + (
        "; ``dtarget`` is its negative." if both else "."
    )
    call.backward(backward)
    return call, backward


def _delta(function, given, allowed):
    unexpected = set(given) - ({"delta"} if allowed else set())
    if unexpected:
        raise TypeError(f"{function}: unexpected option {sorted(unexpected)[0]!r}")
    return given.get("delta", 1.0)


mse_loss, mse_loss_backward = _define("mse_loss", "Squared error.", "(x - t)^2", "2 (x - t)", True)
l1_loss, l1_loss_backward = _define("l1_loss", "Absolute error.", "|x - t|", "sign(x - t), 0 at 0", True)
huber_loss, huber_loss_backward = _define(
    "huber_loss",
    "Squared near the target, absolute far from it.",
    "e^2/2 where |e| <= delta, else delta (|e| - delta/2), e = x - t",
    "min(max(x - t, -delta), delta)",
    True,
    delta=True,
)
binary_cross_entropy_with_logits, binary_cross_entropy_with_logits_backward = _define(
    "binary_cross_entropy_with_logits",
    "Cross-entropy of independent yes-no scores, the logistic function included; targets from 0 to 1.",
    "max(x, 0) - x t + log(1 + e^-|x|)",
    "sigmoid(x) - t",
    False,
)
kl_div, kl_div_backward = _define(
    "kl_div",
    "Divergence of log-probabilities x from probabilities t, element by element.",
    "t (log t - x), 0 at t = 0",
    "-t",
    False,
)
