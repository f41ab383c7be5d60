"""Recurrent networks out to ONNX, run by another library, and back in."""

import numpy as np
import pytest

from cnnpy import functional as F
from cnnpy import io, models, nn, optim

onnx = pytest.importorskip("onnx", reason="it comes with the onnx extra")
onnxruntime = pytest.importorskip("onnxruntime", reason="it comes with the onnx extra")


def run(path, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})


def flat(result):
    return [r for part in result for r in flat(part)] if isinstance(result, tuple) else [result.detach().numpy()]


def there_and_back(model, example, x, path):
    io.export_onnx(model.eval(), path, example)
    wanted = flat(model(x))
    again = io.import_onnx(path).eval()
    for found in (run(path, x), flat(again(x))):
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)
    assert set(again.state_dict()) == set(model.state_dict())
    return again


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False, "batch_first": False}])
def test_layers(kind, options, tmp_path, rng):
    model = getattr(nn, kind)(5, 7, rng=0, **options)
    x = rng.normal(size=(3, 6, 5) if options.get("batch_first", True) else (6, 3, 5)).astype(np.float32)
    there_and_back(model, x if not options.get("batch_first", True) else x[:2], x, tmp_path / "m.onnx")


def test_relu_and_cells(tmp_path, rng):
    x = rng.normal(size=(4, 6, 5)).astype(np.float32)
    there_and_back(nn.RNN(5, 7, nonlinearity="relu", rng=0), x, x, tmp_path / "m.onnx")

    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.RNNCell(5, 5, rng=0), nn.GRUCell(5, 5, rng=1), nn.LSTMCell(5, 5, rng=2)

        def forward(self, x):
            h = self.b(self.a(x, F.tanh(x)), x)
            return self.c(h, (x, F.sigmoid(x)))

    there_and_back(Steps(), x[:, 0], x[:, 0], tmp_path / "n.onnx")


def test_models(tmp_path, rng):
    ids = rng.integers(0, 11, (4, 9))
    there_and_back(models.char_lstm(11, embedding=6, hidden=8, rng=0), ids[:2], ids, tmp_path / "c.onnx")
    x = rng.normal(size=(5, 9, 4)).astype(np.float32)
    model = models.sequence_classifier(3, input_size=4, hidden=6, num_layers=2, rng=0)
    again = there_and_back(model, x[:2], x, tmp_path / "s.onnx")
    there_and_back(models.forecaster(9, hidden=5, rng=0), x[:2, :, :1], x[:, :, :1], tmp_path / "f.onnx")
    optimizer, losses = optim.Adam(again.train().parameters(), lr=1e-2), []
    for _ in range(25):
        optimizer.zero_grad()
        loss = F.cross_entropy(again(x), np.arange(5) % 3)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0] and again.state_dict()["lstm.weight_hh_l1_reverse"].shape == (24, 6)


def test_a_reversed_layer_and_lengths_of_others(tmp_path, rng):
    """What this library never writes but others do."""
    t, n, f, h = 5, 3, 4, 6
    w, r, b = (rng.normal(size=s).astype(np.float32) for s in ((1, 3 * h, f), (1, 3 * h, h), (1, 6 * h)))
    x = rng.normal(size=(t, n, f)).astype(np.float32)
    H = onnx.helper
    value = lambda name, shape: H.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)  # noqa: E731

    def write(lengths=None, **attributes):
        weights = [onnx.numpy_helper.from_array(a, k) for k, a in (("w", w), ("r", r), ("b", b))]
        inputs = ["x", "w", "r", "b"]
        if lengths is not None:
            weights.append(onnx.numpy_helper.from_array(np.array(lengths, np.int32), "lengths"))
            inputs.append("lengths")
        node = H.make_node("GRU", inputs, ["y", "last"], hidden_size=h, **attributes)
        graph = H.make_graph([node], "g", [value("x", (t, n, f))], [value("y", (t, 1, n, h)), value("last", (1, n, h))], weights)
        onnx.save(H.make_model(graph, opset_imports=[H.make_opsetid("", 20)], ir_version=9), str(tmp_path / "m.onnx"))
        return tmp_path / "m.onnx"

    for options in ({"direction": "reverse", "linear_before_reset": 1}, {"lengths": [5, 2, 3], "linear_before_reset": 1}):
        path = write(**options)
        for a, b_ in zip(run(path, x), flat(io.import_onnx(path).eval()(x)), strict=True):
            np.testing.assert_allclose(b_, a, atol=2e-5)
    for options, why in (
        ({}, "applies the reset gate before the product"),
        ({"linear_before_reset": 1, "clip": 1.0}, "clips"),
        ({"linear_before_reset": 1, "activations": ["HardSigmoid", "Tanh"]}, "has activations"),
        ({"linear_before_reset": 1, "direction": "reverse", "lengths": [5, 2, 3]}, "is reversed and has lengths"),
    ):
        with pytest.raises(ValueError, match=f"import_onnx: GRU .*{why}"):
            io.import_onnx(write(**options))(x)


def test_what_cannot_be_written(tmp_path, rng):
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)

    class WithLengths(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(3, 4)

        def forward(self, x):
            return self.gru(x, lengths=[4, 2])[0]

    for model, why in ((WithLengths(), "with lengths"), (nn.LSTM(3, 4, proj_size=2), "has projections")):
        with pytest.raises(ValueError, match=f"export_onnx: (gru|lstm).*{why}"):
            io.export_onnx(model, tmp_path / "m.onnx", x)
    assert not (tmp_path / "m.onnx").exists()


def test_a_decoder_that_chooses_is_refused(tmp_path):
    """Its next input is its own likeliest output: a traced file would keep the choices made for the example."""
    model = models.seq2seq_attention(5, source_length=3, target_length=3, rng=0)
    with pytest.raises(ValueError, match="export_onnx: additive_attention has no counterpart in ONNX"):
        io.export_onnx(model, tmp_path / "m.onnx", np.zeros((2, 3), int))
