"""Dense layers and tables."""

import numpy as np

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import gradients, select

__all__ = ["embedding", "embedding_backward", "linear", "linear_backward", "one_hot"]


@operation("x weight bias?")
def linear(x, weight, bias=None, *, out=None):
    """``y = x weight' + bias``: every output sees every input.

    Parameters
    ----------
    x : array_like, shape (..., in)
    weight : array_like, shape (out, in)
    bias : array_like, shape (out,), optional
    out : ndarray, optional

    Returns
    -------
    ndarray, shape (..., out)

    Raises
    ------
    ValueError
        The last axis of x is not weight's second.

    Examples
    --------
    >>> import cnnpy.functional as F
    >>> F.linear([1.0, 2.0], [[3.0, 4.0]], [0.5])
    array([11.5])
    """
    return _core.linear_forward(x, weight, bias, out)


@linear.backward
def linear_backward(dy, x, weight, bias=None, *, cache=None, needs=None):
    """Gradients of :func:`linear`: ``dx = dy weight``, ``dweight = dy' x``, ``dbias = sum dy`` over all leading axes."""
    Gradients = linear.operation.Gradients
    return gradients(Gradients, _core.linear_backward(dy, x, weight, bias, select("linear_backward", Gradients, needs)))


@operation("indices weight", constant=("indices",))
def embedding(indices, weight):
    """Rows of a table: ``y[i] = weight[indices[i]]``.

    Parameters
    ----------
    indices : array_like of int, any shape, 0 to num_embeddings - 1
    weight : array_like, shape (num_embeddings, embedding_dim)

    Returns
    -------
    ndarray, shape (*indices.shape, embedding_dim)

    Raises
    ------
    ValueError
        An index outside the table; negative ones too.

    Examples
    --------
    >>> import cnnpy.functional as F
    >>> F.embedding([1, 1], [[0.0], [5.0]])
    array([[5.],
           [5.]])
    """
    return _core.embedding_forward(indices, weight)


@embedding.backward
def embedding_backward(dy, indices, weight, *, cache=None, needs=None):
    """Gradient of :func:`embedding`: ``dweight[v]`` is the sum of dy over all places with index v, in order of place."""
    Gradients = embedding.operation.Gradients
    return Gradients(_core.embedding_backward(dy, indices, weight) if select("embedding_backward", Gradients, needs) else None)


def one_hot(indices, num_classes):
    """int64 array of shape (*indices.shape, num_classes): 1 at the index, else 0.

    Parameters
    ----------
    indices : array_like of int, 0 to num_classes - 1
    num_classes : int

    Raises
    ------
    ValueError
        An index outside the classes.

    Examples
    --------
    >>> import cnnpy.functional as F
    >>> F.one_hot([0, 2], 3)
    array([[1, 0, 0],
           [0, 0, 1]])
    """
    index = np.asarray(indices)
    if index.dtype.kind not in "iu" and index.size:
        raise TypeError(f"one_hot: indices has dtype {index.dtype}, expected integers")
    if isinstance(num_classes, bool) or not isinstance(num_classes, (int, np.integer)):
        raise TypeError(f"one_hot: num_classes is {type(num_classes).__name__}, expected an int")
    if num_classes < 1 or index.size * num_classes > 2**40:
        raise ValueError(
            f"one_hot: num_classes is {num_classes} for indices of shape {index.shape}, expected at least 1 and a result that fits"
        )
    wrong = np.flatnonzero((index < 0) | (index >= num_classes))
    if len(wrong):
        raise ValueError(f"one_hot: indices holds {index.reshape(-1)[wrong[0]]} at position {wrong[0]}, expected 0 to {num_classes - 1}")
    result = np.zeros((*index.shape, int(num_classes)), np.int64)
    np.put_along_axis(result, index.astype(np.int64)[..., None], 1, axis=-1)
    return result
