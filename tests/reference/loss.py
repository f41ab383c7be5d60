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


FORWARD, BACKWARD = {"cross_entropy": forward}, {"cross_entropy": backward}
