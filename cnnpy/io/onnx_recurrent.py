"""Recurrent layers in ONNX and back.

The standard has time first, a layer with both directions a node, gates in the orders i, o, f, c and z, r, h, and no projections. Weights keep their names
and order in the file; nodes of splitting and joining bring them into the standard's, so that what is read back trains under the same names.
"""

import numpy as np

from cnnpy import functional as F
from cnnpy.io.onnx_nodes import node
from cnnpy.io.onnx_rules import rule

_ORDERS = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}  # the standard's gates among ours
_KINDS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


def _reordered(g, kind, value):
    order = _ORDERS[kind]
    if len(order) == 1:
        return g(value)
    parts = g.node("Split", g(value), outputs=len(order), axis=0, num_outputs=len(order))
    return g.node("Concat", *(parts[i] for i in order), axis=0)


def _directions(g, names):
    """One array a direction, joined along a new first axis."""
    names = [g.node("Unsqueeze", n, g.ints(0)) for n in names]
    return names[0] if len(names) == 1 else g.node("Concat", *names, axis=0)


def _layer(g, kind, x, sets, states, nonlinearity):
    """Adds the node of one layer; returns the names of its results."""
    hidden, dtype = int(sets[0][1].shape[1]), sets[0][0].dtype
    given = [[*group[2:4], None, None][:2] for group in sets]
    biases = ""
    if any(b is not None for pair in given for b in pair):
        zero = np.zeros(sets[0][0].shape[0], dtype)
        names = [[g.constant(zero) if b is None else _reordered(g, kind, b) for b in pair] for pair in given]
        biases = _directions(g, [g.node("Concat", *pair, axis=0) for pair in names])
    w, r = (_directions(g, [_reordered(g, kind, group[i]) for group in sets]) for i in (0, 1))
    attributes: dict = {"hidden_size": hidden, "direction": "bidirectional" if len(sets) == 2 else "forward"}
    if kind == "gru":
        attributes["linear_before_reset"] = 1
    if kind == "rnn":
        attributes["activations"] = ["Relu" if nonlinearity == "relu" else "Tanh"] * len(sets)
    inputs = [x, w, r, biases]
    if any(states):
        inputs += ["", *states]
    return g.node(_KINDS[kind], *inputs, outputs=3 if kind == "lstm" else 2, **attributes)


def _part(g, state, begin, end, layers):
    if state is None:
        return ""
    return g(state) if layers == 1 else g.node("Slice", g(state), g.ints(begin), g.ints(end), g.ints(0))


@rule("rnn", "lstm", "gru")
def _sequence(g, c):
    if c.lengths is not None:
        raise ValueError(f"export_onnx: {c.name} is called with lengths, which would be frozen into the file")
    if any(len(group) == 5 and group[4] is not None for group in c.weights):
        raise ValueError(f"export_onnx: {c.name} has projections, which ONNX lacks")
    directions = 2 if c.bidirectional else 1
    x = g.node("Transpose", g(c.x), perm=[1, 0, 2]) if c.batch_first else g(c.x)
    ends: list = []
    for layer in range(c.num_layers):
        begin, end = layer * directions, (layer + 1) * directions
        states = [_part(g, getattr(c, s, None), begin, end, c.num_layers) for s in ("h0", "c0")[: 2 if c.name == "lstm" else 1]]
        y, *last = _layer(g, c.name, x, c.weights[begin:end], states, getattr(c, "nonlinearity", None))
        ends.append(last)
        x = g.node("Reshape", g.node("Transpose", y, perm=[0, 2, 1, 3]), g.ints(0, 0, -1))
    y = g.node("Transpose", x, perm=[1, 0, 2]) if c.batch_first else x
    joined = [column[0] if len(column) == 1 else g.node("Concat", *column, axis=0) for column in zip(*ends, strict=True)]
    return [y, *joined]


@rule("rnn_cell", "lstm_cell", "gru_cell")
def _cell(g, c):
    kind = c.name.removesuffix("_cell")
    x = g.node("Unsqueeze", g(c.x), g.ints(0))
    states = [g.node("Unsqueeze", g(s), g.ints(0)) for s in ((c.h, c.c) if kind == "lstm" else (c.h,))]
    _, *last = _layer(g, kind, x, [(c.w_ih, c.w_hh, c.b_ih, c.b_hh)], states, getattr(c, "nonlinearity", None))
    names = [g.node("Squeeze", n, g.ints(0)) for n in last]
    return names if kind == "lstm" else names[0]


def _ours(kind, w, h):
    """Rows of the standard's gates in our order."""
    order = _ORDERS[kind]
    parts = [w[i * h : (i + 1) * h] for i in range(len(order))]
    return w if len(order) == 1 else F.concatenate([parts[order.index(i)] for i in range(len(order))], axis=0)


_PLAIN = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


@node("LSTM", "GRU", "RNN")
def _recurrent(model, n, x, w, r, b=None, lengths=None, h0=None, c0=None, peepholes=None):
    kind, directions, hidden = n.kind.lower(), w.shape[0], r.shape[2]
    activations = [a.decode() if isinstance(a, bytes) else a for a in n.get("activations", []) or []]
    plain = _PLAIN.get(n.kind, ["Tanh"])
    options = {"bidirectional": directions == 2, "batch_first": False}
    if kind == "rnn" and activations and all(a == "Relu" for a in activations):
        options["nonlinearity"] = "relu"
    elif activations and activations != plain * directions:
        raise ValueError(f"import_onnx: {n} has activations {activations}, expected {plain}")
    for wrong, what in (
        (n.get("clip"), "clips"),
        (peepholes is not None, "has peepholes"),
        (n.get("layout", 0), "has layout 1"),
        (n.get("input_forget", 0), "couples its gates"),
        (kind == "gru" and not n.get("linear_before_reset", 0), "applies the reset gate before the product"),
    ):
        if wrong:
            raise ValueError(f"import_onnx: {n} {what}, which {kind} lacks here")
    sets = []
    for d in range(directions):
        group = [_ours(kind, w[d], hidden), _ours(kind, r[d], hidden)]
        if b is not None:
            rows = w.shape[1]
            group += [_ours(kind, b[d, :rows], hidden), _ours(kind, b[d, rows:], hidden)]
        sets.append(tuple(group))
    if lengths is not None:
        options["lengths"] = np.asarray(lengths)
    backwards = n.get("direction", "forward") == "reverse"
    if backwards:
        if lengths is not None:
            raise ValueError(f"import_onnx: {n} is reversed and has lengths, which {kind} lacks here")
        x = x.flip(axis=0)
    states = (h0, c0) if kind == "lstm" else (h0,)
    y, ends = getattr(F, kind)(x, sets, *states, **options)
    if backwards:
        y = y.flip(axis=0)
    y = y.reshape(y.shape[0], y.shape[1], directions, hidden).transpose(0, 2, 1, 3)
    return (y, *ends) if kind == "lstm" else (y, ends)
