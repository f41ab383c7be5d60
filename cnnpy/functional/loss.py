"""Losses."""

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import select

__all__ = ["cross_entropy", "cross_entropy_backward"]


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
    return _core.cross_entropy_forward(logits, target, weight, ignore_index, label_smoothing, reduction)


@cross_entropy.backward
def cross_entropy_backward(
    dy, logits, target, *, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean", cache=None, needs=None
):
    """Gradient of :func:`cross_entropy`: ``dlogits = (softmax * sum(Q) - Q) * dy / divisor``, 0 in ignored rows."""
    Gradients = cross_entropy.operation.Gradients
    if not select("cross_entropy_backward", Gradients, needs):
        return Gradients(None)
    return Gradients(_core.cross_entropy_backward(dy, logits, target, weight, ignore_index, label_smoothing, reduction))
