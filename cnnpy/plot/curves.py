"""Curves and tables of a training run."""

import numpy as np

from cnnpy.plot._axes import BLUE, ORANGE, axes

__all__ = ["confusion_matrix", "training_curves"]


def training_curves(history, metric="loss", *, ax=None):
    """A column of a history over the epochs, of the training and, where it has one, of the validation part.

    Parameters
    ----------
    history : cnnpy.train.History
    metric : str
        'loss', 'accuracy' or another column.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        The history has no such column; the sentence lists those it has.
    """
    columns = history.columns()
    if metric not in columns:
        raise ValueError(f"plot.training_curves: metric is {metric!r}, expected one of {', '.join(columns)}")
    ax = axes("training_curves", ax)
    epochs = history["epoch"] if "epoch" in columns else list(range(1, len(history) + 1))
    for name, label, colour, style in ((metric, "training", BLUE, "-"), (f"val_{metric}", "validation", ORANGE, "--")):
        if name in columns:
            pairs = [(e, v) for e, v in zip(epochs, history[name], strict=True) if v is not None]
            ax.plot(*zip(*pairs, strict=True), style, color=colour, label=label, marker="o" if len(pairs) < 2 else None)
    ax.set_xlabel("epoch")
    ax.set_ylabel(metric)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", alpha=0.3)
    ax.legend(frameon=False)
    ax.xaxis.get_major_locator().set_params(integer=True)
    return ax


def confusion_matrix(matrix, classes=None, *, ax=None):
    """A confusion matrix: rows are right classes, columns what they were taken for; shades are shares of the row, numbers are counts.

    Parameters
    ----------
    matrix : array_like of int, shape (classes, classes)
        As :func:`cnnpy.train.confusion_matrix` makes it.
    classes : sequence of str, optional
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"plot.confusion_matrix: matrix has shape {matrix.shape}, expected (classes, classes)")
    names = [str(i) for i in range(len(matrix))] if classes is None else [str(c) for c in classes]
    if len(names) != len(matrix):
        raise ValueError(f"plot.confusion_matrix: classes has {len(names)} names, expected {len(matrix)}")
    side = max(4.0, 0.45 * len(matrix) + 1.5)
    ax = axes("confusion_matrix", ax, (side, side))
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("taken for")
    ax.set_ylabel("right class")
    if len(names) <= 20:
        for i, j in np.argwhere(matrix):
            ax.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=8, color="white" if shares[i, j] > 0.5 else "black")
    return ax
