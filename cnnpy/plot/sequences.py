"""Pictures of sequence models: attention, and the gates of an LSTM over time."""

import numpy as np

from cnnpy.plot._axes import BLUE, GREY, ORANGE, axes, matplotlib

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


def _sigmoid(a):
    return 1 / (1 + np.exp(-a))


def _walk(layer, x):
    """Gates i, f, g, o and states c, h of a one-layer LSTM, each (T, H), by its formulas in float64."""
    w, v, b = (np.asarray(getattr(layer, n)._data, np.float64) for n in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"))
    b = b + np.asarray(layer.bias_hh_l0._data, np.float64)
    h = c = np.zeros(v.shape[1])
    steps = []
    for row in x:
        i, f, g, o = np.split(w @ row + v @ h + b, 4)
        i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        c = f * c + i * g
        h = o * np.tanh(c)
        steps.append((i, f, g, o, c, h))
    return [np.array(a) for a in zip(*steps, strict=True)]


def lstm_gates(layer, x, units=(0,), *, figure=None):
    """The gates and states of an LSTM over time: input, forget, candidate, output, cell and hidden state of some units.

    Parameters
    ----------
    layer : cnnpy.nn.LSTM
        One layer in one direction, with biases, without a projection.
    x : array_like, shape (T, input_size)
        One sequence.
    units : sequence of int
        At most three.
    figure : matplotlib Figure, optional

    Returns
    -------
    matplotlib Figure
    """
    matplotlib("lstm_gates")
    x = np.asarray(x, np.float64)
    if (
        getattr(layer, "gates", None) != 4
        or layer.num_layers != 1
        or layer.bidirectional
        or layer.proj_size
        or not hasattr(layer, "bias_ih_l0")
    ):
        raise ValueError(
            "plot.lstm_gates: layer is no plain LSTM, expected one layer in one direction with biases and without a projection"
        )
    if x.ndim != 2 or x.shape[1] != layer.input_size or not len(x):
        raise ValueError(f"plot.lstm_gates: x has shape {x.shape}, expected (T, {layer.input_size})")
    units = tuple(units)
    if not 1 <= len(units) <= 3 or not all(0 <= u < layer.hidden_size for u in units):
        raise ValueError(f"plot.lstm_gates: units is {units}, expected one to three numbers from 0 to {layer.hidden_size - 1}")
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(7.0, 8.0), layout="constrained")
    rows = figure.subplots(6, 1, sharex=True)
    names = ("input gate i", "forget gate f", "candidate g", "output gate o", "cell c", "hidden h")
    for ax, name, values in zip(rows, names, _walk(layer, x), strict=True):
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
