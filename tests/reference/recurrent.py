"""Recurrent networks: one cell a function, a sequence as a loop over its steps, back-propagation through time written out.

A sequence of the reference has the arrays of the library in a flat order: x, h0, c0 (or None), then the weights of up to two sets.
"""

import numpy as np

from tests.reference import conv


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def product(rows, weight):
    return (rows[:, None, :] * weight).sum(axis=-1)


def affine(rows, weight, bias):
    return product(rows, weight) + (0 if bias is None else bias)


def step(kind, x, h, c, w_ih, w_hh, b_ih, b_hh, w_hr=None):
    """(h1, c1, what the gradient needs)."""
    a, q = affine(x, w_ih, b_ih), affine(h, w_hh, b_hh)
    if kind in ("tanh", "relu"):
        h1 = np.tanh(a + q) if kind == "tanh" else np.maximum(a + q, 0)
        return h1, None, h1
    if kind == "gru":
        (ar, az, an), (qr, qz, qn) = np.split(a, 3, 1), np.split(q, 3, 1)
        r, z = sigmoid(ar + qr), sigmoid(az + qz)
        n = np.tanh(an + r * qn)
        return (1 - z) * n + z * h, None, (r, z, n, qn)
    i, f, g, o = np.split(a + q, 4, 1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c1 = f * c + i * g
    m = o * np.tanh(c1)
    return (m if w_hr is None else product(m, w_hr)), c1, (i, f, g, o, c1, m)


def step_backward(kind, dh1, dc1, x, h, c, kept, weights, grads):
    """(dx, dh, dc); adds to grads, the gradients of the weights."""
    w_ih, w_hh, _, _, w_hr = weights
    carry, dc = 0, None
    if kind == "tanh":
        da = dq = dh1 * (1 - kept**2)
    elif kind == "relu":
        da = dq = dh1 * (kept > 0)
    elif kind == "gru":
        r, z, n, qn = kept
        en = dh1 * (1 - z) * (1 - n**2)
        er, ez = en * qn * r * (1 - r), dh1 * (h - n) * z * (1 - z)
        da, dq, carry = np.hstack([er, ez, en]), np.hstack([er, ez, en * r]), dh1 * z
    else:
        i, f, g, o, c1, m = kept
        dm = dh1 if w_hr is None else product(dh1, w_hr.T)
        if w_hr is not None:
            grads[4] += product(dh1.T, m.T)
        t = np.tanh(c1)
        d = dc1 + dm * o * (1 - t**2)
        da = dq = np.hstack([d * g * i * (1 - i), d * c * f * (1 - f), d * i * (1 - g**2), dm * t * o * (1 - o)])
        dc = d * f
    grads[0] += product(da.T, x.T)
    grads[1] += product(dq.T, h.T)
    for place, error in ((2, da), (3, dq)):
        if grads[place] is not None:
            grads[place] += error.sum(axis=0)
    return product(da, w_ih.T), product(dq, w_hh.T) + carry, dc


def order(length, reverse):
    return range(length - 1, -1, -1) if reverse else range(length)


def run(kind, x, h0, c0, weights, lengths, reverse):
    """One layer in one direction, row by row: y (N, T, P), h_n, c_n, and the steps of every row."""
    samples, steps, _ = x.shape
    outputs = weights[1].shape[1]
    y, h_n = np.zeros((samples, steps, outputs)), np.zeros((samples, outputs))
    c_n = np.zeros((samples, weights[1].shape[0] // 4)) if kind == "lstm" else None
    history = []
    for n in range(samples):
        h, c = h0[n : n + 1], None if c0 is None else c0[n : n + 1]
        row = []
        for t in order(lengths[n], reverse):
            h1, c1, kept = step(kind, x[n : n + 1, t], h, c, *weights)
            row.append((t, h, c, kept))
            h, c = h1, c1
            y[n, t] = h[0]
        h_n[n] = h[0]
        if c is not None:
            c_n[n] = c[0]
        history.append(row)
    return y, h_n, c_n, history


def run_backward(kind, dy, dh_n, dc_n, x, weights, history):
    dx = np.zeros_like(x)
    grads = [None if w is None else np.zeros_like(w) for w in weights]
    dh0, dc0 = np.zeros_like(dh_n), None if dc_n is None else np.zeros_like(dc_n)
    for n, row in enumerate(history):
        dh, dc = dh_n[n : n + 1], None if dc_n is None else dc_n[n : n + 1]
        for t, h, c, kept in reversed(row):
            dx[n, t], dh, dc = step_backward(kind, dh + dy[n, t], dc, x[n : n + 1, t], h, c, kept, weights, grads)
        dh0[n] = dh[0]
        if dc is not None:
            dc0[n] = dc[0]
    return dx, grads, dh0, dc0


class Sequence:
    """Layers and directions of a whole call."""

    def __init__(self, kind, x, weights, h0, c0, num_layers=1, bidirectional=False, lengths=None, batch_first=True, **ignored):
        self.kind, self.batch_first, self.directions = kind, batch_first, 2 if bidirectional else 1
        x = np.asarray(x, np.float64)
        self.x = x if batch_first else x.swapaxes(0, 1)
        self.weights = [
            [None if w is None else np.asarray(w, np.float64) for w in (*group, *[None] * (5 - len(group)))] for group in weights
        ]
        count, samples = num_layers * self.directions, self.x.shape[0]
        self.lengths = [self.x.shape[1]] * samples if lengths is None else [int(n) for n in lengths]
        self.h0 = [np.zeros((samples, self.weights[0][1].shape[1])) for _ in range(count)] if h0 is None else np.asarray(h0, np.float64)
        self.c0 = [None] * count
        if kind == "lstm":
            units = self.weights[0][1].shape[0] // 4
            self.c0 = [np.zeros((samples, units)) for _ in range(count)] if c0 is None else np.asarray(c0, np.float64)
        self.inputs, self.runs = [], []
        data = self.x
        for layer in range(num_layers):
            self.inputs.append(data)
            sides = []
            for d in range(self.directions):
                k = layer * self.directions + d
                sides.append(run(kind, data, self.h0[k], self.c0[k], self.weights[k], self.lengths, d == 1))
            self.runs += sides
            data = np.concatenate([s[0] for s in sides], axis=2)
        self.y = data

    def result(self):
        y = self.y if self.batch_first else self.y.swapaxes(0, 1)
        h_n = np.stack([r[1] for r in self.runs])
        return (y, (h_n, np.stack([r[2] for r in self.runs]))) if self.kind == "lstm" else (y, h_n)

    def backward(self, dy, dh_n, dc_n):
        dy = np.asarray(dy, np.float64)
        dy = dy if self.batch_first else dy.swapaxes(0, 1)
        count = len(self.runs)
        dweights, dh0, dc0 = [None] * count, [None] * count, [None] * count
        for layer in reversed(range(len(self.inputs))):
            dx = 0
            for d, part in enumerate(np.split(dy, self.directions, axis=2)):
                k = layer * self.directions + d
                end = None if self.kind != "lstm" else dc_n[k]
                found = run_backward(self.kind, part, dh_n[k], end, self.inputs[layer], self.weights[k], self.runs[k][3])
                dx, dweights[k], dh0[k], dc0[k] = dx + found[0], tuple(found[1]), found[2], found[3]
            dy = dx
        dx = dy if self.batch_first else dy.swapaxes(0, 1)
        return dx, dweights, np.stack(dh0), np.stack(dc0) if self.kind == "lstm" else None


def sequence_forward(kind):
    def forward(x, weights, h0=None, c0=None, *, nonlinearity="tanh", **options):
        return Sequence(nonlinearity if kind == "rnn" else kind, x, weights, h0, c0, **options).result()

    return forward


def sequence_backward(kind):
    def backward(dy, x, weights, h0=None, c0=None, *, nonlinearity="tanh", **options):
        s = Sequence(nonlinearity if kind == "rnn" else kind, x, weights, h0, c0, **options)
        ends = dy[1] if kind == "lstm" else (dy[1], None)
        dx, dweights, dh0, dc0 = s.backward(dy[0], *ends)
        dweights = [g[: len(w)] for g, w in zip(dweights, weights, strict=True)]
        result = (dx, dweights, None if h0 is None else dh0)
        return (*result, None if c0 is None else dc0) if kind == "lstm" else result

    return backward


def cell_forward(kind):
    def forward(x, h, *rest, nonlinearity="tanh"):
        c, weights = (rest[0], rest[1:]) if kind == "lstm" else (None, rest)
        x, h, *weights = (None if a is None else np.asarray(a, np.float64) for a in (x, h, *weights, *[None] * (4 - len(weights))))
        h1, c1, _ = step(nonlinearity if kind == "rnn" else kind, x, h, c, *weights)
        return (h1, c1) if kind == "lstm" else h1

    return forward


def cell_backward(kind):
    def backward(dy, x, h, *rest, nonlinearity="tanh"):
        c, weights = (rest[0], rest[1:]) if kind == "lstm" else (None, rest)
        x, h, *weights = (None if a is None else np.asarray(a, np.float64) for a in (x, h, *weights, *[None] * (4 - len(weights))))
        name = nonlinearity if kind == "rnn" else kind
        _, _, kept = step(name, x, h, c, *weights)
        grads = [None if w is None else np.zeros_like(w) for w in weights] + [None]
        dh, dc = dy if kind == "lstm" else (dy, None)
        dx, dh, dc = step_backward(name, dh, dc, x, h, c, kept, [*weights, None], grads)
        return (dx, dh, *([dc] if kind == "lstm" else []), *grads[:4])

    return backward


def convlstm(x, h, c, w_xh, w_hh, b=None):
    """(h1, c1): the steps of an LSTM, products replaced by 'same' convolutions."""
    a = conv.forward(x, w_xh, b, padding="same") + conv.forward(h, w_hh, None, padding="same")
    i, f, g, o = np.split(a, 4, axis=1)
    c1 = sigmoid(f) * np.asarray(c, np.float64) + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c1), c1


def convlstm_backward(dy, x, h, c, w_xh, w_hh, b=None):
    dh1, dc1 = dy
    a = conv.forward(x, w_xh, b, padding="same") + conv.forward(h, w_hh, None, padding="same")
    i, f, g, o = np.split(a, 4, axis=1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    t = np.tanh(f * c + i * g)
    d = dc1 + dh1 * o * (1 - t**2)
    da = np.concatenate([d * g * i * (1 - i), d * c * f * (1 - f), d * i * (1 - g**2), dh1 * t * o * (1 - o)], axis=1)
    dx, dw, db = conv.backward(da, x, w_xh, b, padding="same")
    dh, du, _ = conv.backward(da, h, w_hh, None, padding="same")
    return dx, dh, d * f, dw, du, db


FORWARD = {k: sequence_forward(k) for k in ("rnn", "lstm", "gru")} | {f"{k}_cell": cell_forward(k) for k in ("rnn", "lstm", "gru")}
BACKWARD = {k: sequence_backward(k) for k in ("rnn", "lstm", "gru")} | {f"{k}_cell": cell_backward(k) for k in ("rnn", "lstm", "gru")}
FORWARD["convlstm_cell"], BACKWARD["convlstm_cell"] = convlstm, convlstm_backward
