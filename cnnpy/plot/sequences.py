"""Pictures of sequence models: attention, and the gates of an LSTM over time."""

import numpy as np

from cnnpy.plot._axes import BLUE, GREY, ORANGE, axes, matplotlib
from cnnpy.tools.steps import lstm_steps

__all__ = ["attention", "lstm_gates"]


def attention(weights, source=None, target=None, *, ax=None):
    """Attention weights: a row a step of the output, a column a step of what it looks at.

    Parameters
    ----------
    weights : array_like, shape (L, S)
    source, target : sequences of str, optional
        Names of the columns and of the rows.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    weights = np.asarray(weights)
    if weights.ndim != 2 or not weights.size:
        raise ValueError(f"plot.attention: weights has shape {weights.shape}, expected (L, S)")
    for name, names, count in (("source", source, weights.shape[1]), ("target", target, weights.shape[0])):
        if names is not None and len(names) != count:
            raise ValueError(f"plot.attention: {name} has {len(names)} names, expected {count}")
    ax = axes("attention", ax, (1.8 + 0.32 * weights.shape[1], 1.4 + 0.32 * weights.shape[0]))
    shown = ax.imshow(weights, cmap="Blues", vmin=0, vmax=max(1e-12, float(weights.max())), aspect="auto")
    ax.figure.colorbar(shown, ax=ax, label="weight")
    if source is not None:
        ax.set_xticks(range(len(source)), [str(s) for s in source])
    if target is not None:
        ax.set_yticks(range(len(target)), [str(t) for t in target])
    ax.set_xlabel("looked at")
    ax.set_ylabel("output step")
    return ax


def lstm_gates(layer, x, units=(0,), *, figure=None):
    """The gates and states of an LSTM over time: input, forget, candidate, output, cell and hidden state of some units.

    Parameters
    ----------
    layer, x
        As of :func:`cnnpy.tools.lstm_steps`, whose numbers are drawn.
    units : sequence of int
        At most three.
    figure : matplotlib Figure, optional

    Returns
    -------
    matplotlib Figure
    """
    matplotlib("lstm_gates")
    steps = lstm_steps(layer, x, function="plot.lstm_gates")
    units = tuple(units)
    if not 1 <= len(units) <= 3 or not all(0 <= u < layer.hidden_size for u in units):
        raise ValueError(f"plot.lstm_gates: units is {units}, expected one to three numbers from 0 to {layer.hidden_size - 1}")
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(7.0, 8.0), layout="constrained")
    rows = figure.subplots(6, 1, sharex=True)
    for ax, name, values in zip(rows, steps.names, steps, strict=True):
        for unit, colour, style in zip(units, (BLUE, ORANGE, GREY), ("-", "--", ":"), strict=False):
            ax.plot(values[:, unit], style, color=colour, label=f"unit {unit}")
        ax.set_ylabel(name, fontsize=9)
        if "gate" in name:
            ax.set_ylim(-0.05, 1.05)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.3)
    rows[0].legend(frameon=False, ncols=3, fontsize=8, loc="lower right")
    rows[-1].set_xlabel("time step")
    return figure
