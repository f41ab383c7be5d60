"""Recurrent networks: values worked out by hand, what lengths mean, errors, bits, and the notes' own form."""

import numpy as np
import pytest

import cnnpy
from cnnpy import Tensor
from cnnpy import functional as F

HALF = 0.5


def scalar_weights(gates, bias=None):
    w = np.full((gates, 1), HALF)
    b = None if bias is None else np.full(gates, bias)
    return w, w, b, b


def two_steps(function, gates, bias=None):
    """y, and all gradients of the last h, of the scalar cell with every weight 0.5 on x = 1, 1."""
    x, weights = np.ones((1, 2, 1)), [scalar_weights(gates, bias)]
    y, ends = function(x, weights)
    backward = getattr(F, f"{function.__name__}_backward")
    end = (np.ones((1, 1, 1)), None) if function is F.lstm else np.ones((1, 1, 1))
    return y.ravel(), ends, backward((None, end), x, weights)


def close(a, b):
    np.testing.assert_allclose(np.ravel(a), b, atol=5e-10)


def test_rnn_by_hand():
    y, _, g = two_steps(F.rnn, 1)
    close(y, [0.462117157, 0.623712550])
    close(g.x, [0.120126481, 0.305491328])
    close(g.weights[0][0], [0.851235617])
    close(g.weights[0][1], [0.282345568])


def test_lstm_by_hand():
    y, (h, c), g = two_steps(F.lstm, 4)
    close(y, [0.174269719, 0.309058931])
    close(h, [0.309058931])
    close(c, [0.524115723])
    close(g.x, [0.139136813, 0.216015777])
    close(g.weights[0][0], [0.107831982, 0.032636728, 0.445199504, 0.124636966])
    close(g.weights[0][1], [0.010436648, 0.005687593, 0.039922139, 0.019243637])


def test_the_cell_update_that_summaries_leave_out():
    """c1 = f c + i g: with the forget gate open and the input gate shut c is carried on, with both open it counts."""
    open_, shut = 1000.0, -1000.0
    weights = np.zeros((4, 1)), np.zeros((4, 1))
    for i, f, wanted in ((shut, open_, 0.7), (open_, open_, 1.7), (open_, shut, 1.0), (shut, shut, 0.0)):
        h, c = F.lstm_cell([[3.0]], [[0.2]], [[0.7]], *weights, [i, f, open_, open_], None)
        assert c[0, 0] == wanted and h[0, 0] == pytest.approx(np.tanh(wanted))


def test_gru_by_hand():
    y, _, g = two_steps(F.gru, 3)
    close(y, [0.174468021, 0.292576456])
    close(g.x, [0.065248665, 0.097778359])
    close(g.weights[0][0], [0.005331100, -0.151167577, 0.471890525])
    close(g.weights[0][1], [0.000930107, -0.013244193, 0.029843559])
    y, _, g = two_steps(F.gru, 3, 0.5)
    close(y, [0.161854550, 0.288137029])  # reset before the product would give 0.165122144, 0.293230398
    close(g.weights[0][2], [0.004912100, -0.209467940, 0.062599916])
    close(g.weights[0][3], [0.004912100, -0.209467940, 0.051554953])


def test_a_relu_network_with_a_permutation_is_exact():
    """The state goes round: after n steps it is back, plus what came in."""
    n = 5
    w_hh = np.roll(np.eye(n), 1, axis=0)
    x = np.zeros((1, 2 * n, 1), np.float32)
    x[0, 0] = 3
    y, h = F.rnn(x, [(np.eye(n)[:, :1].astype(np.float32), w_hh.astype(np.float32))], nonlinearity="relu")
    assert np.array_equal(y[0].argmax(axis=1), np.arange(2 * n) % n) and (y.sum(axis=2) == 3).all() and h[0, 0, n - 1] == 3


def sets(rng, gates, inputs, units, layers=1, directions=1, dtype=np.float64):
    found = []
    for layer in range(layers):
        for _ in range(directions):
            f = inputs if layer == 0 else units * directions
            found.append(
                tuple(
                    rng.normal(size=s).astype(dtype) / 3 for s in ((gates * units, f), (gates * units, units), gates * units, gates * units)
                )
            )
    return found


KINDS = {"rnn": 1, "lstm": 4, "gru": 3}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_is_its_cell_step_after_step(kind, rng):
    x, (weights,) = rng.normal(size=(3, 6, 4)), sets(rng, KINDS[kind], 4, 5)
    y, _ = getattr(F, kind)(x, [weights])
    h = c = np.zeros((3, 5))
    for t in range(6):
        if kind == "lstm":
            h, c = F.lstm_cell(x[:, t], h, c, *weights)
        else:
            h = getattr(F, f"{kind}_cell")(x[:, t], h, *weights)
        np.testing.assert_allclose(y[:, t], h, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers, directions", [(1, 1), (1, 2), (2, 2), (3, 1)])
def test_lengths_are_the_rows_one_by_one(kind, layers, directions, rng):
    """Padded steps hold NaN: no output and no gradient sees them."""
    n, t, f, units = 7, 9, 3, 10
    lengths = np.array([9, 1, 4, 9, 2, 8, 4])
    x = rng.normal(size=(n, t, f))
    for row, length in enumerate(lengths):
        x[row, length:] = np.nan
    weights, options = sets(rng, KINDS[kind], f, units, layers, directions), {"num_layers": layers, "bidirectional": directions == 2}
    function, backward = getattr(F, kind), getattr(F, f"{kind}_backward")
    (y, ends), cache = function(x, weights, lengths=lengths, return_cache=True, **options)
    dy = rng.normal(size=y.shape)
    for row, length in enumerate(lengths):
        dy[row, length:] = np.nan  # ignored as well
    ends = ends if kind == "lstm" else (ends,)
    d_ends = [rng.normal(size=e.shape) for e in ends]
    g = backward((dy, tuple(d_ends) if kind == "lstm" else d_ends[0]), x, weights, lengths=lengths, cache=cache, **options)
    total = None
    for row, length in enumerate(lengths):
        part = x[row : row + 1, :length]
        y1, e1 = function(part, weights, **options)
        np.testing.assert_allclose(y[row : row + 1, :length], y1, atol=1e-13)
        assert not y[row, length:].any() and not g.x[row, length:].any()
        for whole, one in zip(ends, e1 if kind == "lstm" else (e1,), strict=True):
            np.testing.assert_allclose(whole[:, row : row + 1], one, atol=1e-13)
        d1 = [e[:, row : row + 1] for e in d_ends]
        g1 = backward((dy[row : row + 1, :length], tuple(d1) if kind == "lstm" else d1[0]), part, weights, **options)
        np.testing.assert_allclose(g.x[row : row + 1, :length], g1.x, atol=1e-12)
        flat = [a for group in g1.weights for a in group]
        total = flat if total is None else [a + b for a, b in zip(total, flat, strict=True)]
    for a, b in zip([a for group in g.weights for a in group], total, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)


def test_dropout_between_layers_has_the_same_mask_in_backward(rng):
    x, weights = rng.normal(size=(2, 4, 3)), sets(rng, 3, 3, 6, 3)
    options = {"num_layers": 3, "dropout": 0.5, "training": True, "rng": 7}
    assert np.array_equal(F.gru(x, weights, **options)[0], F.gru(x, weights, **options)[0])
    assert not np.array_equal(F.gru(x, weights, **options)[0], F.gru(x, weights, **options | {"rng": 8})[0])
    assert not np.array_equal(F.gru(x, weights, **options)[0], F.gru(x, weights, num_layers=3)[0])
    from cnnpy.tools import gradcheck

    assert gradcheck(lambda x: F.gru(x, weights, **options)[0], x) < 1e-7


def test_one_node_on_the_tape(rng):
    x = Tensor(rng.normal(size=(2, 5, 3)), True)
    weights = [tuple(Tensor(a, True) for a in group) for group in sets(rng, 4, 3, 4, 2, 2)]
    y, (h, c) = F.lstm(x, weights, num_layers=2, bidirectional=True)
    program = ((y * y).sum() + h.sum() + c.sum()).backward_program()
    assert program.count("lstm_backward") == 1 and "dx, dweights = lstm_backward(dy(2, 5, 8), x(2, 5, 3), weights[4])" in program
    ((y * y).sum() + h.sum() + c.sum()).backward()
    assert x.grad.shape == x.shape and all(w.grad is not None and w.grad.any() for group in weights for w in group)


@pytest.mark.parametrize("kind", KINDS)
def test_bits_do_not_depend_on_threads(kind, rng, isa):
    x, weights = rng.normal(size=(70, 12, 40)).astype(np.float32), sets(rng, KINDS[kind], 40, 90, 2, 2, np.float32)
    lengths, seen, before = rng.integers(1, 13, 70), set(), cnnpy.num_threads()
    lengths[5] = 12
    try:
        for threads in (1, 2, 3, 8):
            cnnpy.set_num_threads(threads)
            (y, _), cache = getattr(F, kind)(x, weights, num_layers=2, bidirectional=True, lengths=lengths, return_cache=True)
            dy = np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape)
            g = getattr(F, f"{kind}_backward")(
                (dy, (None, None) if kind == "lstm" else None), x, weights, num_layers=2, bidirectional=True, lengths=lengths, cache=cache
            )
            seen.add((y.tobytes(), g.x.tobytes(), *(a.tobytes() for group in g.weights for a in group)))
    finally:
        cnnpy.set_num_threads(before)
    assert len(seen) == 1


def test_saturated_gates_are_exact():
    """Pre-activations of +-1000: gates are 0 or 1, and c counts the steps."""
    b = np.array([1000.0, 1000, 1000, 1000], np.float32)
    weights = [(np.zeros((4, 1), np.float32), np.zeros((4, 1), np.float32), b, None)]
    x = np.zeros((1, 40, 1), np.float32)
    _, (h, c) = F.lstm(x, weights)
    assert c[0, 0, 0] == 40 and h[0, 0, 0] == 1
    _, h = F.gru(
        x,
        [(np.zeros((3, 1), np.float32), np.zeros((3, 1), np.float32), np.array([1000, 1000, 5], np.float32), None)],
        np.full((1, 1, 1), 0.25, np.float32),
    )
    assert h[0, 0, 0] == 0.25


@pytest.mark.parametrize("kind", KINDS)
def test_float32_stays_near_float64(kind, rng):
    """Relative RMS at most 1e-6 at 128 steps and default weights (policy of the recurrent family)."""
    units = 64
    weights = [tuple(rng.uniform(-1, 1, a.shape) / 8 for a in sets(rng, KINDS[kind], units, units)[0])]
    x = rng.normal(size=(4, 128, units))
    exact, _ = getattr(F, kind)(x, weights)
    single, _ = getattr(F, kind)(x.astype(np.float32), [tuple(a.astype(np.float32) for a in weights[0])])
    assert np.sqrt(np.mean((single - exact) ** 2) / np.mean(exact**2)) < 1e-6


def test_the_form_of_the_notes(rng):
    W, b = rng.normal(size=(20, 8)), rng.normal(size=20)
    w_ih, w_hh, b_ih, b_hh = F.lstm_weights_from_concatenated(W, b)
    x, h, c = rng.normal(size=(2, 3)), rng.normal(size=(2, 5)), rng.normal(size=(2, 5))
    a = np.concatenate([h, x], axis=1) @ W.T + b
    i, f, g, o = np.split(a, 4, axis=1)
    sg = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    wanted = sg(f) * c + sg(i) * np.tanh(g)
    got_h, got_c = F.lstm_cell(x, h, c, w_ih, w_hh, b_ih, b_hh)
    np.testing.assert_allclose(got_c, wanted, atol=1e-14)
    np.testing.assert_allclose(got_h, sg(o) * np.tanh(wanted), atol=1e-14)
    back = F.lstm_weights_to_concatenated(w_ih, w_hh, b_ih, b_hh)
    assert np.array_equal(back[0], W) and np.array_equal(back[1], b)
    with pytest.raises(ValueError, match="lstm_weights_from_concatenated: W has shape"):
        F.lstm_weights_from_concatenated(np.zeros((6, 8)), np.zeros(6))
    with pytest.raises(ValueError, match="lstm_weights_to_concatenated: b_hh has shape"):
        F.lstm_weights_to_concatenated(w_ih, w_hh, b_ih, np.zeros(3))


def bad_calls(rng):
    x, weights = rng.normal(size=(2, 4, 3)), sets(rng, 4, 3, 5)
    w_ih, w_hh, b_ih, b_hh = weights[0]
    yield (x, weights), {"lengths": [0, 4]}, ValueError, "lengths holds 0 at position 0, expected 1 to 4"
    yield (x, weights), {"lengths": [1, -2]}, ValueError, "lengths holds -2 at position 1, expected 1 to 4"
    yield (x, weights), {"lengths": [5, 4]}, ValueError, "lengths holds 5 at position 0, expected 1 to 4"
    yield (x, weights), {"lengths": [4, 4, 4]}, ValueError, r"lengths has shape \(3,\), expected \(2,\)"
    yield (x, weights), {"lengths": [1.5, 2.0]}, TypeError, "lengths has dtype float64, expected integers"
    yield (x[0], weights), {}, ValueError, r"x has shape \(4, 3\), expected \(N, T, F\)"
    yield (x[:, :0], weights), {}, ValueError, "expected at least one step"
    yield (x, weights * 2), {}, ValueError, "weights has 2 sets, expected 1: 1 layers times 1 directions"
    yield (x, 5), {}, TypeError, "weights is int, expected a list"
    yield (x, [w_ih]), {}, TypeError, r"weights\[0\] is ndarray, expected a tuple"
    yield (x, [(w_ih,)]), {}, ValueError, r"weights\[0\] has 1 arrays"
    yield (x, [(w_ih[:, :2], w_hh, b_ih, b_hh)]), {}, ValueError, r"w_ih of weights\[0\] has shape \(20, 2\), expected \(4\*H, 3\)"
    yield (
        (x, [(w_ih, w_hh[:, :2], b_ih, b_hh)]),
        {},
        ValueError,
        r"w_hh of weights\[0\] has shape \(20, 2\), expected \(4\*H, H\) = \(20, 5\)",
    )
    yield (x, [(w_ih, w_hh, b_ih[:3], b_hh)]), {}, ValueError, r"b_ih of weights\[0\] has shape \(3,\), expected \(4\*H,\) = \(20,\)"
    yield (x, [(w_ih.astype(complex), w_hh)]), {}, TypeError, r"w_ih of weights\[0\] has dtype complex128"
    yield (x, [(None, w_hh)]), {}, TypeError, r"w_ih of weights\[0\] is None"
    yield (x, weights), {"h0": np.zeros((2, 2, 5))}, ValueError, r"h0 has shape \(2, 2, 5\), expected \(1, N, H\)"
    yield (x, weights), {"h0": np.zeros((1, 2, 4))}, ValueError, "h0 has shape"
    yield (x, weights), {"c0": np.zeros((1, 3, 5))}, ValueError, "c0 has shape"
    yield (x, weights), {"num_layers": 0}, ValueError, "num_layers is 0"
    yield (x, weights), {"num_layers": True}, TypeError, "num_layers is bool"
    yield (x, weights), {"bidirectional": 1}, TypeError, "bidirectional is int"
    yield (x, weights), {"batch_first": None}, TypeError, "batch_first is NoneType"
    yield (x, weights), {"dropout": 1.5}, ValueError, "dropout is 1.5"
    yield (x, weights), {"dropout": "half"}, TypeError, "dropout is str"
    yield (x, weights), {"proj_size": 2}, ValueError, r"w_hr of weights\[0\] has 0 rows, expected proj_size = 2"
    yield (x, [(*weights[0], np.zeros((2, 5)))]), {"proj_size": 3}, ValueError, "has 2 rows, expected proj_size = 3"
    yield (np.ma.array(x), weights), {}, TypeError, "x is a MaskedArray"


def test_bad_arguments_are_refused_by_name(rng):
    x, weights = rng.normal(size=(2, 4, 3)), sets(rng, 4, 3, 5)
    wanted = F.lstm(x, weights)[0].tobytes()
    dy = (np.ones((2, 4, 5)), (None, None))
    count = 0
    for args, options, error, text in bad_calls(rng):
        with pytest.raises(error, match=f"^lstm: .*{text}"):
            F.lstm(*args, **options)
        with pytest.raises(error, match=f"^lstm_backward: .*{text}"):
            F.lstm_backward(dy, *args, **options)
        count += 1
    assert count > 25 and F.lstm(x, weights)[0].tobytes() == wanted
    for bad, error, text in [
        (np.ones((2, 4, 5)), TypeError, "dy is ndarray, expected a tuple of two"),
        ((np.ones((2, 3, 5)), None), ValueError, r"dy has shape \(2, 3, 5\), expected \(2, 4, 5\)"),
        ((None, (np.ones((1, 2, 4)), None)), ValueError, "dh_n has shape"),
        ((None, (None, None)), TypeError, "dy is None in all its parts"),
    ]:
        with pytest.raises(error, match=f"lstm_backward: .*{text}"):
            F.lstm_backward(bad, x, weights)
    with pytest.raises(ValueError, match="nonlinearity is 'gelu', expected one of 'tanh', 'relu'"):
        F.rnn(x, sets(rng, 1, 3, 5), nonlinearity="gelu")
    with pytest.raises(ValueError, match=r"gru_cell: x has shape \(2, 4, 3\), expected \(N, F\)"):
        F.gru_cell(x, np.zeros((2, 5)), *sets(rng, 3, 3, 5)[0])
    with pytest.raises(ValueError, match=r"gru_cell: h has shape \(2, 4\), expected \(N, H\) = \(2, 5\)"):
        F.gru_cell(x[:, 0], np.zeros((2, 4)), *sets(rng, 3, 3, 5)[0])
    with pytest.raises(TypeError, match="lstm_cell: c is None"):
        F.lstm_cell(x[:, 0], np.zeros((2, 5)), None, *weights[0])


def test_an_empty_batch(rng):
    weights = sets(rng, 3, 3, 5)
    y, h = F.gru(np.zeros((0, 4, 3)), weights)
    assert y.shape == (0, 4, 5) and h.shape == (1, 0, 5)
    g = F.gru_backward((y, h), np.zeros((0, 4, 3)), weights)
    assert g.x.shape == (0, 4, 3) and not any(a.any() for a in g.weights[0])


def test_mixed_dtypes_compute_in_the_common_one(rng):
    x, weights = rng.normal(size=(2, 4, 3)).astype(np.float32), sets(rng, 3, 3, 5, 2)
    y, h = F.gru(x, weights, num_layers=2)
    assert y.dtype == h.dtype == np.float64 and np.array_equal(y, F.gru(x.astype(np.float64), weights, num_layers=2)[0])
