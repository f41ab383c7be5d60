"""Workloads of sequences: recurrent layers, time first as PyTorch has them, and attention.

A row is (label, kind, sizes, options); sizes are (steps, samples, inputs, units) of recurrent layers, (samples, heads, length, width) of attention.
"""

import numpy as np

__all__ = ["PASSES", "ROWS", "flops", "make_ours", "make_torch"]

PASSES = ("forward", "both")  # forward alone without gradients; forward and backward
_GATES = {"rnn": 1, "lstm": 4, "gru": 3}

ROWS = [
    *((f"{k.upper()} T100 B32 I512 H512", k, (100, 32, 512, 512), {}) for k in ("lstm", "gru", "rnn")),
    *((f"{k.upper()} T64 B32 I128 H256", k, (64, 32, 128, 256), {}) for k in ("lstm", "gru", "rnn")),
    *((f"{k.upper()} T50 B1 I128 H128", k, (50, 1, 128, 128), {}) for k in ("lstm", "gru", "rnn")),
    ("LSTM T50 B16 I256 H256, 2 layers, 2 directions", "lstm", (50, 16, 256, 256), {"num_layers": 2, "bidirectional": True}),
    ("attention 8 x 8 heads, 512, 64", "attention", (8, 8, 512, 64), {}),
    ("attention 8 x 8 heads, 512, 64, causal", "attention", (8, 8, 512, 64), {"is_causal": True}),
    ("attention 1 x 1 head, 4096, 64", "attention", (1, 1, 4096, 64), {}),
]


def flops(row, which):
    """Multiply-adds times two; of a causal attention as if all keys were seen."""
    _, kind, (a, b, c, d), options = row
    if kind == "attention":
        return 4.0 * a * b * c * c * d * (1 if which == "forward" else 3.5)
    directions = 2 if options.get("bidirectional") else 1
    total = 0.0
    for layer in range(options.get("num_layers", 1)):
        total += 2.0 * a * b * directions * _GATES[kind] * d * ((c if layer == 0 else d * directions) + d)
    return total * (1 if which == "forward" else 3)


def _weights(row):
    _, kind, (_, _, inputs, units), options = row
    rng, directions = np.random.default_rng(0), 2 if options.get("bidirectional") else 1
    sets = []
    for layer in range(options.get("num_layers", 1)):
        for _ in range(directions):
            rows, width = _GATES[kind] * units, inputs if layer == 0 else units * directions
            shapes = ((rows, width), (rows, units), (rows,), (rows,))
            sets.append(tuple(((rng.random(s, np.float32) - np.float32(0.5)) * np.float32(2 / units**0.5)) for s in shapes))
    return sets


def _arrays(row):
    _, kind, sizes, options = row
    rng = np.random.default_rng(1)
    if kind == "attention":
        return [rng.standard_normal(sizes, np.float32) for _ in range(4)]
    t, n, f, h = sizes
    directions = 2 if options.get("bidirectional") else 1
    return [rng.standard_normal((t, n, f), np.float32), rng.standard_normal((t, n, directions * h), np.float32)]


def make_ours(row, which, channels_last):
    from cnnpy import functional as F

    _, kind, _, options = row
    if kind == "attention":
        q, k, v, dy = _arrays(row)

        def attend():
            if which == "forward":
                return F.scaled_dot_product_attention(q, k, v, **options)
            _, cache = F.scaled_dot_product_attention(q, k, v, return_cache=True, **options)
            return F.scaled_dot_product_attention_backward(dy, q, k, v, cache=cache, **options).q

        return attend
    (x, dy), weights, options = _arrays(row), _weights(row), {**options, "batch_first": False}
    forward, backward = getattr(F, kind), getattr(F, f"{kind}_backward")
    ends = (None, None) if kind == "lstm" else None

    def run():
        if which == "forward":
            return forward(x, weights, **options)[0]
        _, cache = forward(x, weights, return_cache=True, **options)
        return backward((dy, ends), x, weights, cache=cache, **options).x

    return run


def make_torch(row, which, channels_last):
    import torch

    _, kind, _, options = row
    if channels_last:
        raise NotImplementedError(kind)
    tensors = [torch.from_numpy(a) for a in _arrays(row)]
    if kind == "attention":
        q, k, v = (t.requires_grad_(which != "forward") for t in tensors[:3])

        def attend():
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, **options)
            if which == "forward":
                return y
            q.grad = k.grad = v.grad = None
            y.backward(tensors[3])
            return q.grad

        return attend
    x, dy = tensors
    layer = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](row[2][2], row[2][3], **options)
    flat = [torch.from_numpy(a) for group in _weights(row) for a in group]
    with torch.no_grad():
        for own, given in zip(layer.parameters(), flat, strict=True):
            own.copy_(given)
    x.requires_grad_(which != "forward")

    def run():
        if which == "forward":
            with torch.no_grad():
                return layer(x)[0]
        x.grad = None
        for p in layer.parameters():
            p.grad = None
        layer(x)[0].backward(dy)
        return x.grad

    return run
