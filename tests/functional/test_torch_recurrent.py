"""Recurrent layers against PyTorch: layers, directions, packed sequences, projections, states, both memory orders, all gradients."""

import numpy as np
import pytest

from cnnpy import functional as F
from cnnpy import nn

torch = pytest.importorskip("torch", reason="it comes with the bench extra")

SHAPES = [(1, 1, 1, 1), (1, 7, 5, 3), (2, 5, 4, 9), (3, 6, 17, 16), (5, 4, 33, 40), (70, 9, 20, 24), (60, 3, 7, 70)]
LAYERS = [(1, False), (1, True), (2, True), (3, False)]


def plain(tensor):
    return None if tensor is None else tensor.detach().numpy()


def near(got, wanted, dtype):
    wanted = plain(wanted) if isinstance(wanted, torch.Tensor) else wanted
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= (1e-10 if dtype == np.float64 else 3e-5) * max(1e-9, np.abs(wanted).max())


def build(kind, inputs, units, layers, bidirectional, bias, projected, batch_first, relu, kind_of):
    options = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias, "batch_first": batch_first, "dtype": kind_of}
    if projected:
        options["proj_size"] = projected
    if relu:
        options["nonlinearity"] = "relu"
    return {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](inputs, units, **options)


def parameters(module, layers, bidirectional, bias, projected):
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if bias else []), *(["weight_hr"] if projected else [])]
    return [
        [getattr(module, f"{n}_l{layer}" + ("_reverse" if d else "")) for n in names]
        for layer in range(layers)
        for d in range(2 if bidirectional else 1)
    ]


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_sequences(kind, packed, dtype, rng):
    torch.manual_seed(0)
    for n, t, f, h in SHAPES:
        for layers, bidirectional in LAYERS:
            bias, state, batch_first, relu = (bool(v) for v in rng.integers(0, 2, 4))
            relu = relu and kind == "rnn"
            projected = int(rng.integers(1, h)) if kind == "lstm" and h > 1 and rng.integers(2) else 0
            kind_of = torch.float64 if dtype == np.float64 else torch.float32
            module = build(kind, f, h, layers, bidirectional, bias, projected, batch_first, relu, kind_of)
            directions = 2 if bidirectional else 1

            def random(*shape, grad=False, kind_of=kind_of):
                return torch.tensor(rng.normal(size=shape), dtype=kind_of, requires_grad=grad)

            x = random(*((n, t, f) if batch_first else (t, n, f)), grad=True)
            h0 = random(layers * directions, n, projected or h, grad=True) if state else None
            c0 = random(layers * directions, n, h, grad=True) if state and kind == "lstm" else None
            given, lengths = x, None
            if packed:
                lengths = rng.integers(1, t + 1, n)
                lengths[rng.integers(n)] = t
                given = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), batch_first=batch_first, enforce_sorted=False)
            y, ends = module(given, None if not state else (h0, c0) if kind == "lstm" else h0)
            if packed:
                y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=batch_first, total_length=t)
            ends = ends if kind == "lstm" else (ends,)
            dy, d_ends = random(*y.shape), [random(*e.shape) for e in ends]
            ((y * dy).sum() + sum((a * b).sum() for a, b in zip(ends, d_ends, strict=True))).backward()

            theirs = parameters(module, layers, bidirectional, bias, projected)
            weights = [tuple(map(plain, group)) for group in theirs]
            if projected and not bias:
                weights = [(a, b, None, None, c) for a, b, c in weights]
            options = {"num_layers": layers, "bidirectional": bidirectional, "lengths": lengths, "batch_first": batch_first}
            options |= {"nonlinearity": "relu"} if relu else {}
            options |= {"proj_size": projected, "c0": plain(c0)} if kind == "lstm" else {}
            result, found = getattr(F, kind)(plain(x), weights, h0=plain(h0), **options)
            near(result, y, dtype)
            for got, wanted in zip(found if kind == "lstm" else (found,), ends, strict=True):
                near(got, wanted, dtype)
            d_ends = tuple(map(plain, d_ends))
            g = getattr(F, f"{kind}_backward")(
                (plain(dy), d_ends if kind == "lstm" else d_ends[0]), plain(x), weights, h0=plain(h0), **options
            )
            near(g.x, x.grad, dtype)
            if state:
                near(g.h0, h0.grad, dtype)
            if c0 is not None:
                near(g.c0, c0.grad, dtype)
            for ours, group in zip(g.weights, theirs, strict=True):
                for got, wanted in zip([a for a in ours if a is not None], group, strict=True):
                    near(got, wanted.grad, dtype)


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_layers_load_pytorch_checkpoints(kind, rng):
    options = {"num_layers": 2, "bidirectional": True} | ({"proj_size": 4} if kind == "LSTM" else {})
    theirs, ours = getattr(torch.nn, kind)(5, 7, batch_first=True, **options), getattr(nn, kind)(5, 7, **options)
    assert {k: tuple(v.shape) for k, v in theirs.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    x = rng.normal(size=(3, 6, 5)).astype(np.float32)
    near(ours(x)[0].data, theirs(torch.tensor(x))[0], np.float32)


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells(kind, rng):
    theirs, ours = getattr(torch.nn, kind)(5, 7), getattr(nn, kind)(5, 7)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    x = rng.normal(size=(3, 5)).astype(np.float32)
    wanted, got = theirs(torch.tensor(x)), ours(x)
    for a, b in zip(got if kind == "LSTMCell" else (got,), wanted if kind == "LSTMCell" else (wanted,), strict=True):
        near(a.data, b, np.float32)
