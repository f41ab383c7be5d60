"""Losses, row by row."""

import numpy as np

from tests.reference.elementwise import log_softmax


def _rows(logits, target, weight, ignore_index, label_smoothing):
    """(position, log-probabilities, Q, share of the mean's divisor) of every row that is not ignored."""
    classes = logits.shape[1]
    w = np.ones(classes) if weight is None else np.asarray(weight, np.float64)
    rows = np.moveaxis(logits, 1, -1)
    soft = np.asarray(target).dtype.kind == "f"
    for at in np.ndindex(*rows.shape[:-1]):
        if soft:
            q, share = np.moveaxis(target, 1, -1)[at], 1.0
        elif target[at] == ignore_index:
            continue
        else:
            q, share = np.eye(classes)[target[at]], w[target[at]]
        yield at, log_softmax(rows[at]), w * ((1 - label_smoothing) * q + label_smoothing / classes), share


def forward(logits, target, *, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    logits, target = np.asarray(logits, np.float64), np.asarray(target)
    losses, divisor = np.zeros(np.moveaxis(logits, 1, -1).shape[:-1]), 0.0
    for at, lp, q, share in _rows(logits, target, weight, ignore_index, label_smoothing):
        losses[at] = -(q * lp).sum()
        divisor += share
    if reduction == "none":
        return losses
    return losses.sum() / divisor if reduction == "mean" else losses.sum()


def backward(dy, logits, target, *, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    logits, target = np.asarray(logits, np.float64), np.asarray(target)
    found = list(_rows(logits, target, weight, ignore_index, label_smoothing))
    divisor = sum(share for *_, share in found) if reduction == "mean" else 1.0
    dx = np.zeros(np.moveaxis(logits, 1, -1).shape)
    for at, lp, q, _ in found:
        dx[at] = (np.exp(lp) * q.sum() - q) * (dy[at] if reduction == "none" else dy) / divisor
    return (np.moveaxis(dx, -1, 1),)


def nll_forward(input, target, *, weight=None, ignore_index=-100, reduction="mean"):
    rows, w = (
        np.moveaxis(np.asarray(input, np.float64), 1, -1),
        np.ones(input.shape[1]) if weight is None else np.asarray(weight, np.float64),
    )
    losses, divisor = np.zeros(rows.shape[:-1]), 0.0
    for at in np.ndindex(*losses.shape):
        if target[at] != ignore_index:
            losses[at] = -w[target[at]] * rows[at][target[at]]
            divisor += w[target[at]]
    return losses if reduction == "none" else losses.sum() / (divisor if reduction == "mean" else 1.0)


def nll_backward(dy, input, target, *, weight=None, ignore_index=-100, reduction="mean"):
    w = np.ones(input.shape[1]) if weight is None else np.asarray(weight, np.float64)
    dx = np.zeros(np.moveaxis(np.asarray(input), 1, -1).shape)
    kept = [at for at in np.ndindex(*dx.shape[:-1]) if target[at] != ignore_index]
    divisor = sum(w[target[at]] for at in kept) if reduction == "mean" else 1.0
    for at in kept:
        dx[at][target[at]] = -w[target[at]] * (dy[at] if reduction == "none" else dy) / divisor
    return (np.moveaxis(dx, -1, 1),)


def _log(t):
    return np.log(np.where(t == 0, 1.0, t))


ELEMENTS = {  # value and slope of each element, and whether the target has the opposite slope
    "mse_loss": (lambda x, t: (x - t) ** 2, lambda x, t: 2 * (x - t), True),
    "l1_loss": (lambda x, t: np.abs(x - t), lambda x, t: np.sign(x - t), True),
    "huber_loss": (
        lambda x, t, delta=1.0: np.where(np.abs(x - t) <= delta, (x - t) ** 2 / 2, delta * (np.abs(x - t) - delta / 2)),
        lambda x, t, delta=1.0: np.clip(x - t, -delta, delta),
        True,
    ),
    "binary_cross_entropy_with_logits": (
        lambda x, t: np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x))),
        lambda x, t: np.where(x < 0, np.exp(-np.abs(x)), 1.0) / (1 + np.exp(-np.abs(x))) - t,
        False,
    ),
    "kl_div": (lambda x, t: np.where(t == 0, 0.0, t * (_log(t) - x)), lambda x, t: -t, False),
}


def _element(value, slope, both):
    def element_forward(x, t, reduction="mean", **o):
        losses = value(np.asarray(x, np.float64), np.asarray(t, np.float64), **o)
        return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()

    def element_backward(dy, x, t, reduction="mean", **o):
        dx = slope(np.asarray(x, np.float64), np.asarray(t, np.float64), **o) * dy / (np.size(x) if reduction == "mean" else 1)
        return (dx, -dx) if both else (dx,)

    return element_forward, element_backward


FORWARD, BACKWARD = {"cross_entropy": forward, "nll_loss": nll_forward}, {"cross_entropy": backward, "nll_loss": nll_backward}
for _name, _row in ELEMENTS.items():
    FORWARD[_name], BACKWARD[_name] = _element(*_row)
