"""Networks for sequences: shapes and parameter counts, what they learn, and what they may not see."""

import numpy as np
import pytest

from cnnpy import Tensor, data, models, nn, no_grad, optim, tools, train
from cnnpy import functional as F


def test_parameter_counts():
    """Layers of 28 inputs and 64 units, as the table says."""
    for layer, count in ((nn.RNN, 6016), (nn.GRU, 18048), (nn.LSTM, 24064)):
        assert sum(p.size for p in layer(28, 64).parameters()) == count


def test_char_lstm_goes_on_from_its_state(rng):
    model = models.char_lstm(11, embedding=5, hidden=8, rng=0).eval()
    ids = rng.integers(0, 11, (3, 10))
    with no_grad():
        whole, (h, c) = model(ids, return_state=True)
        first, state = model(ids[:, :4], return_state=True)
        second, (h2, c2) = model(ids[:, 4:], state, return_state=True)
    assert whole.shape == (3, 11, 10)
    np.testing.assert_allclose(np.concatenate([first.data, second.data], axis=2), whole.data, atol=1e-6)
    np.testing.assert_allclose(h2.data, h.data, atol=1e-6)
    np.testing.assert_allclose(c2.data, c.data, atol=1e-6)


def test_char_lstm_learns_a_text_and_writes_it():
    text = data.Text("to be, or not to be, that is the question. " * 30)
    model = models.char_lstm(len(text.characters), embedding=12, hidden=48, num_layers=1, dropout=0.0, rng=0)
    both = np.lib.stride_tricks.sliding_window_view(text.ids, 25)[::3]
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    history = train.fit(model, (both[:, :-1], both[:, 1:]), optimizer=optimizer, epochs=10, batch_size=32, progress=False)
    assert history[-1]["loss"] < 0.1 and history[-1]["accuracy"] > 0.95
    written = text.decode(tools.sample_characters(model, text.encode("to be, or "), 30, temperature=0.1, rng=0))
    assert written == "not to be, that is the questio"
    assert model.training
    for bad, why in ((np.zeros(0, int), "ids has shape"), (np.zeros((1, 2), int), "ids has shape")):
        with pytest.raises(ValueError, match=why):
            tools.sample_characters(model, bad, 3)
    with pytest.raises(ValueError, match="temperature is 0"):
        tools.sample_characters(model, text.ids[:1], 3, temperature=0)


def test_the_classifier_does_not_see_beyond_a_row(rng):
    model = models.sequence_classifier(3, input_size=4, hidden=6, rng=0).eval()
    x, lengths = rng.normal(size=(5, 9, 4)).astype(np.float32), [9, 1, 4, 7, 2]
    with no_grad():
        wanted = np.concatenate([model(x[i : i + 1, :n]).data for i, n in enumerate(lengths)])
        for i, n in enumerate(lengths):
            x[i, n:] = np.nan
        np.testing.assert_allclose(model(x, lengths).data, wanted, atol=1e-6)
    with pytest.raises(ValueError, match="lengths holds 0"):
        model(x, [0, 1, 1, 1, 1])
    with pytest.raises(ValueError, match="StepPool: lengths is"):
        nn.StepPool()(Tensor(x), [9, 9])


def test_the_classifier_learns_which_half_is_larger(rng):
    x = rng.normal(size=(2300, 10, 1)).astype(np.float32)
    y = (x[:, :5, 0].sum(axis=1) > x[:, 5:, 0].sum(axis=1)).astype(int)
    model = models.sequence_classifier(2, input_size=1, hidden=24, rng=0)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    parts, schedule = ((x[:2000], y[:2000]), (x[2000:], y[2000:])), optim.CosineLR(optimizer, 25)
    history = train.fit(model, *parts, optimizer=optimizer, schedule=schedule, epochs=25, batch_size=50, progress=False)
    assert history[-1]["val_accuracy"] >= 0.95


def test_reversing_with_attention():
    """Solved, and the attention runs backwards."""
    x, y, _ = data.reversals(8000, length=8, symbols=10, rng=0)
    model = models.seq2seq_attention(10, source_length=8, target_length=8, embedding=16, hidden=32, rng=0)
    both, optimizer = np.concatenate([x, y], axis=1), optim.Adam(model.parameters(), lr=1e-2)
    schedule = optim.CosineLR(optimizer, 15)
    train.fit(model, (both[:7800], y[:7800]), optimizer=optimizer, schedule=schedule, epochs=15, batch_size=50, progress=False)
    found = train.predict(model, x[7800:])
    assert (found.argmax(axis=1) == y[7800:]).mean() >= 0.99
    with no_grad():
        _, weights = model.eval()(x[7800:7900], return_weights=True)
    # the reading direction that has just passed a letter, or is about to, knows it as well: one step beside counts
    assert (np.abs(weights.data.argmax(axis=2) - np.arange(7, -1, -1)) <= 1).mean() > 0.95
    with pytest.raises(ValueError, match=r"seq2seq_attention: x has shape \(2, 7\)"):
        model(x[:2, :7])


def test_evaluation_does_not_look_at_the_right_outputs():
    model = models.seq2seq_attention(8, source_length=4, target_length=3, embedding=4, hidden=5, rng=0)
    x = np.arange(14).reshape(2, 7) % 8
    other = x.copy()
    other[:, 4:] = 0
    assert not np.array_equal(model(x).data, model(other).data)
    model.eval()
    assert np.array_equal(model(x).data, model(other).data) and np.array_equal(model(x).data, model(x[:, :4]).data)


def test_dates():
    x, y, characters = data.dates(200, rng=3)
    for source, target in zip(x, y, strict=True):
        written, iso = ("".join(characters[i] for i in row).strip() for row in (source, target))
        year, _, day = iso.split("-")
        assert len(iso) == 10 and year in written and (str(int(day)) in written)
    assert x.shape == (200, 18) and data.dates(5, rng=3)[2] == characters
    with pytest.raises(ValueError, match="symbols is 27"):
        data.reversals(3, symbols=27)


def test_the_gradient_vanishes_in_an_rnn_and_less_in_an_lstm(rng):
    x = rng.normal(size=(8, 60, 4)).astype(np.float32)
    plain = tools.gradient_over_distance(nn.RNN(4, 32, rng=0), x)
    lstm = nn.LSTM(4, 32, rng=0)
    lstm.bias_ih_l0.data[32:64] = 3  # forget gates open
    gated = tools.gradient_over_distance(lstm, x)
    assert plain.shape == (60,) and plain[0] > 0.01 and plain[59] < 1e-7 * plain[0]
    assert gated[59] > 1e-4 * gated[0]
    with pytest.raises(ValueError, match="gradient_over_distance: x has shape"):
        tools.gradient_over_distance(lstm, x[0])


def test_convlstm_follows_a_moving_dot():
    """It predicts the next picture of a dot that moves right: better than the last picture does."""
    frames = np.zeros((16, 7, 1, 8, 8), np.float32)
    for n in range(16):
        for t in range(7):
            frames[n, t, 0, n % 8, (n // 2 + t) % 8] = 1

    class Predictor(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells, self.output = nn.ConvLSTM2d(1, 6, 3, rng=0), nn.Conv2d(6, 1, 3, padding=1, rng=1)

        def forward(self, x):
            return self.output(self.cells(x)[1][0])

    model = Predictor()
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        loss = F.mse_loss(model(frames[:, :6]), frames[:, 6])
        loss.backward()
        optimizer.step()
    naive = float(((frames[:, 5] - frames[:, 6]) ** 2).mean())
    assert loss.item() < 0.3 * naive
    with pytest.raises(ValueError, match="ConvLSTM2d: x has shape"):
        model.cells(frames[0])
    with pytest.raises(ValueError, match="kernel_size is 2"):
        nn.ConvLSTM2d(1, 2, 2)
    with pytest.raises(ValueError, match=r"convlstm_cell: h has shape \(1, 1, 8, 8\)"):
        F.convlstm_cell(frames[:, 0], frames[:1, 0], frames[:, 0], np.ones((4, 1, 3, 3)), np.ones((4, 1, 3, 3)))


@pytest.mark.parametrize("batch_first", [True, False])
def test_heads_in_both_orders(batch_first, rng):
    layer = nn.MultiheadAttention(8, 2, batch_first=batch_first, rng=0)
    x = Tensor(rng.normal(size=(2, 5, 8)).astype(np.float32))
    y = layer(x if batch_first else x.transpose(1, 0, 2), is_causal=True)
    y = y if batch_first else y.transpose(1, 0, 2)
    again = nn.MultiheadAttention(8, 2, rng=0)(x, is_causal=True)
    np.testing.assert_allclose(y.data, again.data, atol=1e-6)
    y.sum().backward()
    assert layer.in_proj_weight.grad.any() and layer.out_proj.weight.grad.any()
    with pytest.raises(ValueError, match="num_heads is 3"):
        nn.MultiheadAttention(8, 3)
