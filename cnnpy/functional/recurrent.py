"""Recurrent networks over whole sequences. The C core runs one layer in one direction a call."""

import numpy as np

from cnnpy import _core
from cnnpy.autograd import _leaves, operation
from cnnpy.functional._new import join
from cnnpy.functional._pair import select
from cnnpy.functional.array import accumulate
from cnnpy.functional.dropout import _key
from cnnpy.functional.recurrent_cells import nonlinearity_cell, parts

__all__ = ["gru", "gru_backward", "lstm", "lstm_backward", "rnn", "rnn_backward"]


def _check_count(function, name, value):
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{function}: {name} is {type(value).__name__}, expected an int")
    if value < 1:
        raise ValueError(f"{function}: {name} is {value}, expected at least 1")


def _check_flag(function, name, value):
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{function}: {name} is {type(value).__name__}, expected True or False")


class _Sequence:
    """The checked arguments of a sequence function: weights a layer and direction, states a layer and direction, options of the core."""

    def __init__(self, function, cell, x, weights, h0, c0, options, projections=False):
        self.function, self.cell = function, cell
        self.num_layers, self.bidirectional, self.lengths = options["num_layers"], options["bidirectional"], options["lengths"]
        self.batch_first, self.dropout, self.training, self.rng = (options[k] for k in ("batch_first", "dropout", "training", "rng"))
        _check_count(function, "num_layers", self.num_layers)
        _check_flag(function, "bidirectional", self.bidirectional)
        _check_flag(function, "training", self.training)
        _check_flag(function, "batch_first", self.batch_first)
        if isinstance(self.dropout, (bool, str)) or not isinstance(self.dropout, (int, float, np.integer, np.floating)):
            raise TypeError(f"{function}: dropout is {type(self.dropout).__name__}, expected a number")
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"{function}: dropout is {self.dropout}, expected a number from 0 to 1")
        self.directions = 2 if self.bidirectional else 1
        self.sets = self._sets(weights, projections)
        self.x = self._common(x, h0, c0)
        self.h0, self.c0 = self._states("h0", h0), self._states("c0", c0)

    def _sets(self, weights, projections):
        count = self.num_layers * self.directions
        if not isinstance(weights, (list, tuple)):
            raise TypeError(f"{self.function}: weights is {type(weights).__name__}, expected a list of tuples of arrays")
        if len(weights) != count:
            raise ValueError(
                f"{self.function}: weights has {len(weights)} sets, expected {count}: {self.num_layers} layers times {self.directions} directions"
            )
        most = 5 if projections else 4
        shape = "(w_ih, w_hh, b_ih, b_hh, w_hr)" if projections else "(w_ih, w_hh, b_ih, b_hh)"
        sets = []
        for number, group in enumerate(weights):
            if not isinstance(group, (list, tuple)):
                raise TypeError(f"{self.function}: weights[{number}] is {type(group).__name__}, expected a tuple {shape}")
            if not 2 <= len(group) <= most:
                raise ValueError(f"{self.function}: weights[{number}] has {len(group)} arrays, expected {shape}")
            sets.append((*group, *[None] * (5 - len(group))))
        rows = [np.shape(s[0])[:1] for s in sets if isinstance(s[0], np.ndarray)]
        for number, size in enumerate(rows):
            if size != rows[0]:
                raise ValueError(
                    f"{self.function}: w_ih of weights[{number}] has {size[0] if size else 0} rows, expected {rows[0][0]} as in weights[0]"
                )
        return sets

    def _common(self, x, h0, c0):
        """x in the dtype that all arrays have in common, so that every layer computes in it."""
        arrays = [a for a in (x, *_leaves(self.sets, 2), h0, c0) if a is not None]
        if all(type(a) is np.ndarray and a.dtype == arrays[0].dtype for a in arrays):
            return x
        try:
            kinds = [a.dtype if isinstance(a, np.ndarray) else np.asarray(a).dtype for a in arrays]
        except Exception:
            return x  # the core names what is no array
        if any(k.kind not in "biuf" or k.itemsize > 8 for k in kinds) or isinstance(x, np.ma.MaskedArray):
            return x
        return np.asarray(x, np.result_type(*kinds, np.float32))

    def _states(self, name, given):
        count = self.num_layers * self.directions
        if given is None:
            return [None] * count
        shape = _core.shape_of(self.function, given, name)
        if len(shape) != 3 or shape[0] != count:
            raise ValueError(f"{self.function}: {name} has shape {shape}, expected ({count}, N, H), one state a layer and direction")
        return np.asarray(given)

    def arguments(self, layer, direction, x):
        """What recurrent_forward and recurrent_backward of the core take first."""
        k = layer * self.directions + direction
        return (
            self.function, self.cell, x, *self.sets[k], self.h0[k], self.c0[k], self.lengths, direction == 1, bool(self.batch_first), k,
            self.directions, direction,
        )  # fmt: skip

    def forward(self, keep):
        """(y, h_n, c_n) and, where kept, the cache: x, y, what the core keeps, and the dropout's key, a layer."""
        x, last, layers = self.x, [], []
        rng = (
            self.rng
            if self.rng is None or isinstance(self.rng, np.random.Generator)
            else np.random.default_rng(_key(self.function, self.rng))
        )
        for layer in range(self.num_layers):
            y, kept = None, []
            for direction in range(self.directions):
                y, h, c, gates, cells = _core.recurrent_forward(*self.arguments(layer, direction, x), y, keep)
                last.append((h, c))
                kept.append((gates, cells))
            dropped = self.training and self.dropout > 0 and layer + 1 < self.num_layers
            key = _key(self.function, rng) if dropped else None
            if keep:
                layers.append((x, y, kept, key))
            x = _core.dropout(self.function, y, float(self.dropout), key, False) if dropped else y
        states = [None if s[0] is None else _stack(s) for s in zip(*last, strict=True)]
        return x, *states, layers

    def backward(self, dy, dh_n, dc_n, layers, mask):
        """(dx, dweights, dh0, dc0); mask: 1 x, 2 weights, 4 h0, 8 c0."""
        dh_n, dc_n = (None if g is None else self._states(n, g) for n, g in (("dh_n", dh_n), ("dc_n", dc_n)))
        weights, h0, c0 = [], [], []
        for layer in reversed(range(self.num_layers)):
            x, y, kept, key = layers[layer]
            if key is not None:
                dy = _core.dropout(self.function, dy, float(self.dropout), key, False)
            dx = None
            needs = mask | (1 if layer else 0)
            for direction in reversed(range(self.directions)):
                k = layer * self.directions + direction
                ends = (None if g is None else g[k] for g in (dh_n, dc_n))
                found = _core.recurrent_backward(*self.arguments(layer, direction, x), dy, *ends, y, *kept[direction], needs)
                dx = found[0] if dx is None else accumulate(dx, found[0])
                weights.append(found[1:6])
                h0.append(found[6])
                c0.append(found[7])
            dy = dx
        states = [_stack(g[::-1]) if g[0] is not None else None for g in (h0, c0)]
        return dy if mask & 1 else None, weights[::-1] if mask & 2 else None, *states


def _stack(arrays):
    return arrays[0][None] if len(arrays) == 1 else join(np.stack, arrays, 0)


def _run(function, cell, x, weights, h0, c0, options, return_cache, projections=False):
    s = _Sequence(function, cell, x, weights, h0, c0, options, projections)
    y, h_n, c_n, layers = s.forward(return_cache)
    result = (y, (h_n, c_n)) if cell == "lstm" else (y, h_n)
    return (result, layers) if return_cache else result


def _run_backward(op, cell, dy, dh_n, dc_n, x, weights, h0, c0, options, cache, needs, projections=False):
    function, fields = f"{op.name}_backward", op.Gradients._fields
    mask = select(function, op.Gradients, needs)
    s = _Sequence(function, cell, x, weights, h0, c0, options, projections)
    layers = s.forward(True)[-1] if cache is None else cache
    wanted = mask & (3 | (4 if h0 is not None else 0) | (8 if c0 is not None else 0))
    if not wanted:
        return op.Gradients(*[None] * len(fields))
    if dy is None and dh_n is None and dc_n is None:
        raise TypeError(f"{function}: dy is None in all its parts, expected at least one gradient")
    dx, dweights, dh0, dc0 = s.backward(dy, dh_n, dc_n, layers, wanted)
    if dweights is not None:  # a gradient for every array that was given, in the form that was given
        dweights = [tuple(g[: len(w)]) for g, w in zip(dweights, weights, strict=True)]
    return op.Gradients(*(v for v, _ in zip((dx, dweights, dh0, dc0), fields, strict=False)))


_SEQUENCE_DOC = """{summary}

Parameters
----------
x : array_like, shape (N, T, F), or (T, N, F) with ``batch_first=False``
weights : list of tuples of array_like
    For each layer, and in it for each direction: ``(w_ih, w_hh, b_ih, b_hh{extra})``, shapes ``({g}H, F)``, ``({g}H, {p})``, ``({g}H,)``
    twice{extra_shape}. A bias may be None or left out. Layers above the first read {p} features a direction.
h0 : array_like, shape (num_layers * directions, N, {p}), optional
    Initial state; zeros by default.{c0}{nonlinearity}
num_layers : int
bidirectional : bool
    A second direction runs from each row's end to its beginning; y holds forward, then reverse.
lengths : array_like of int, shape (N,), optional
    Steps of each row, 1 to T. Steps beyond give 0 and leave the state; what x holds there is never read.
dropout : float, 0 to 1
    Applied to the output of every layer but the last, in training.
training : bool
rng : int or numpy.random.Generator, optional
    Of the dropout.
batch_first : bool
    True here; PyTorch's layers have time first by default.
return_cache : bool

Returns
-------
y : ndarray, shape (N, T, directions * {p}), or time first
    The last layer's output at every step.
{returns}

Raises
------
ValueError
    A shape, count or length that does not fit, by name.

Notes
-----
{notes} Backward keeps {kept} of every step.

References
----------
{references}
"""


def _options(values):
    return {k: values[k] for k in ("num_layers", "bidirectional", "lengths", "dropout", "training", "rng", "batch_first")}


@operation("x weights[][] h0?", caches=True)
def rnn(
    x, weights, h0=None, *, nonlinearity="tanh", num_layers=1, bidirectional=False, lengths=None, dropout=0.0, training=False, rng=None,
    batch_first=True, return_cache=False,
):  # fmt: skip
    options = _options(locals())
    return _run("rnn", nonlinearity_cell("rnn", nonlinearity), x, weights, h0, None, options, return_cache)


@rnn.backward
def rnn_backward(
    dy, x, weights, h0=None, *, nonlinearity="tanh", num_layers=1, bidirectional=False, lengths=None, dropout=0.0, training=False, rng=None,
    batch_first=True, cache=None, needs=None,
):  # fmt: skip
    """Gradients of :func:`rnn` by back-propagation through time; dy is ``(dy, dh_n)``, either may be None.

    ``dh_t = dy_t + da_{t+1} w_hh``, ``da_t`` as in :func:`rnn_cell_backward`; the weights' gradients are sums over all steps.
    """
    op, options = rnn.operation, _options(locals())
    cell = nonlinearity_cell("rnn_backward", nonlinearity)
    dy, dh_n = parts("rnn_backward", dy)
    return _run_backward(op, cell, dy, dh_n, None, x, weights, h0, None, options, cache, needs)


@operation("x weights[][] h0?", caches=True)
def gru(
    x, weights, h0=None, *, num_layers=1, bidirectional=False, lengths=None, dropout=0.0, training=False, rng=None, batch_first=True,
    return_cache=False,
):  # fmt: skip
    return _run("gru", "gru", x, weights, h0, None, _options(locals()), return_cache)


@gru.backward
def gru_backward(
    dy, x, weights, h0=None, *, num_layers=1, bidirectional=False, lengths=None, dropout=0.0, training=False, rng=None, batch_first=True,
    cache=None, needs=None,
):  # fmt: skip
    """Gradients of :func:`gru` by back-propagation through time; dy is ``(dy, dh_n)``, either may be None.

    ``dh_t = dy_t + dq_{t+1} w_hh + dh_{t+1} z_{t+1}``, the errors as in :func:`gru_cell_backward`.
    """
    op, options = gru.operation, _options(locals())
    dy, dh_n = parts("gru_backward", dy)
    return _run_backward(op, "gru", dy, dh_n, None, x, weights, h0, None, options, cache, needs)


def _projection(function, proj_size, weights):
    if isinstance(proj_size, (bool, np.bool_)) or not isinstance(proj_size, (int, np.integer)):
        raise TypeError(f"{function}: proj_size is {type(proj_size).__name__}, expected an int")
    if proj_size < 0:
        raise ValueError(f"{function}: proj_size is {proj_size}, expected at least 0")
    for number, group in enumerate(weights if isinstance(weights, (list, tuple)) else ()):
        given = group[4] if isinstance(group, (list, tuple)) and len(group) == 5 else None
        rows = 0 if given is None else np.shape(given)[0] if np.ndim(given) else 1
        if rows != proj_size:
            raise ValueError(f"{function}: w_hr of weights[{number}] has {rows} rows, expected proj_size = {proj_size}")


@operation("x weights[][] h0? c0?", caches=True)
def lstm(
    x, weights, h0=None, c0=None, *, proj_size=0, num_layers=1, bidirectional=False, lengths=None, dropout=0.0, training=False, rng=None,
    batch_first=True, return_cache=False,
):  # fmt: skip
    _projection("lstm", proj_size, weights)
    return _run("lstm", "lstm", x, weights, h0, c0, _options(locals()), return_cache, True)


@lstm.backward
def lstm_backward(
    dy, x, weights, h0=None, c0=None, *, proj_size=0, num_layers=1, bidirectional=False, lengths=None, dropout=0.0, training=False, rng=None,
    batch_first=True, cache=None, needs=None,
):  # fmt: skip
    """Gradients of :func:`lstm` by back-propagation through time; dy is ``(dy, (dh_n, dc_n))``, each part may be None.

    ``dh_t = dy_t + da_{t+1} w_hh``, ``dc_t = dc_{t+1} f_{t+1} + dh_t o (1 - tanh(c_t)^2)``, the errors as in :func:`lstm_cell_backward`.
    """
    op, options = lstm.operation, _options(locals())
    _projection("lstm_backward", proj_size, weights)
    dy, ends = parts("lstm_backward", dy)
    dh_n, dc_n = (None, None) if ends is None else parts("lstm_backward", ends)
    return _run_backward(op, "lstm", dy, dh_n, dc_n, x, weights, h0, c0, options, cache, needs, True)


def _document(function, **texts):
    plain = {"extra": "", "extra_shape": "", "p": "H", "c0": "", "nonlinearity": ""}
    function.__doc__ = function.operation.forward.__doc__ = _SEQUENCE_DOC.format(**plain | texts)


_STATE = "h_n : ndarray, shape (num_layers * directions, N, H)\n    The state after each row's last step."
_document(
    rnn,
    summary="A simple recurrent network over whole sequences: :func:`rnn_cell` step after step.",
    g="",
    nonlinearity="\nnonlinearity : {'tanh', 'relu'}",
    returns=_STATE,
    notes="``h_t = f(x_t w_ih' + b_ih + h_{t-1} w_hh' + b_hh)``.",
    kept="the outputs",
    references="J. Elman, Finding structure in time, 1990; P. Werbos, Backpropagation through time: what it does and how to do it, 1990.",
)
_document(
    gru,
    summary="A gated recurrent unit over whole sequences: :func:`gru_cell` step after step.",
    g="3 ",
    returns=_STATE,
    notes="The steps are those of :func:`gru_cell`, gates in the order r, z, n.",
    kept="r, z, n and the hidden product of n",
    references="K. Cho et al., Learning phrase representations using RNN encoder-decoder for statistical machine translation, 2014.",
)
_document(
    lstm,
    summary="A long short-term memory over whole sequences: :func:`lstm_cell` step after step.",
    g="4 ",
    p="P",
    extra=", w_hr",
    extra_shape=" and, with a projection, ``(P, H)``; P is H without one",
    c0="\nc0 : array_like, shape (num_layers * directions, N, H), optional\nproj_size : int\n    P where weights hold w_hr, else 0.",
    returns="(h_n, c_n) : ndarrays, shapes (num_layers * directions, N, P) and (..., N, H)\n    The states after each row's last step.",
    notes="The steps are those of :func:`lstm_cell`, gates in the order i, f, g, o; with a projection ``h = (o tanh(c)) w_hr'``.",
    kept="the gates and cell states",
    references="S. Hochreiter, J. Schmidhuber, Long short-term memory, 1997; H. Sak, A. Senior, F. Beaufays, Long short-term memory recurrent\n"
    "neural network architectures for large scale acoustic modeling, 2014 (projections).",
)
