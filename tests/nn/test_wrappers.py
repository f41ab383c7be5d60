"""Modules that only hand on: activations, losses and containers give what their functions give, and print how they were made."""

import numpy as np
import pytest

import cnnpy
from cnnpy import functional as F
from cnnpy import nn

ACTIVATIONS = [
    (nn.ReLU(), F.relu, {}),
    (nn.Sigmoid(), F.sigmoid, {}),
    (nn.Tanh(), F.tanh, {}),
    (nn.SiLU(), F.silu, {}),
    (nn.ReLU6(), F.relu6, {}),
    (nn.Softmax(1), F.softmax, {"axis": 1}),
    (nn.LogSoftmax(0), F.log_softmax, {"axis": 0}),
    (nn.LeakyReLU(0.2), F.leaky_relu, {"negative_slope": 0.2}),
    (nn.ELU(0.5), F.elu, {"alpha": 0.5}),
    (nn.GELU("tanh"), F.gelu, {"approximate": "tanh"}),
    (nn.Softplus(), F.softplus, {}),
    (nn.Hardtanh(-0.5, 0.25), F.hardtanh, {"min_val": -0.5, "max_val": 0.25}),
]


@pytest.mark.parametrize(("layer", "function", "options"), ACTIVATIONS, ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
def test_activations(layer, function, options, rng):
    x = rng.normal(size=(3, 5)) * 3
    np.testing.assert_array_equal(layer(x), function(x, **options))
    for value in options.values():
        assert str(value) in repr(layer) or "axis" in options


def test_losses(rng):
    logits, classes = rng.normal(size=(6, 4)), rng.integers(0, 4, 6)
    weight = rng.uniform(0.5, 2, 4)
    kept = {"ignore_index": 2, "reduction": "sum"}
    assert nn.CrossEntropyLoss(weight, label_smoothing=0.1, **kept)(logits, classes) == F.cross_entropy(
        logits, classes, weight=weight, label_smoothing=0.1, **kept
    )
    logs = F.log_softmax(logits, axis=1)
    assert nn.NLLLoss(weight, **kept)(logs, classes) == F.nll_loss(logs, classes, weight=weight, **kept)
    a, b = rng.normal(size=(3, 4)), rng.uniform(0.1, 0.9, (3, 4))
    for layer, function in (
        (nn.MSELoss, F.mse_loss),
        (nn.L1Loss, F.l1_loss),
        (nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits),
        (nn.KLDivLoss, F.kl_div),
    ):
        for reduction in ("mean", "sum", "none"):
            np.testing.assert_array_equal(layer(reduction)(a, b), function(a, b, reduction=reduction))
    assert nn.HuberLoss("sum", 0.3)(a, b) == F.huber_loss(a, b, reduction="sum", delta=0.3)


def test_module_list_and_sequential(rng):
    blocks = nn.ModuleList([nn.Linear(3, 3, rng=0), nn.Linear(3, 2, rng=1)])
    assert blocks.append(nn.ReLU()) is blocks
    assert len(blocks) == 3 and [type(m).__name__ for m in blocks] == ["Linear", "Linear", "ReLU"] and blocks[1].out_features == 2
    assert [name for name, _ in blocks.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    with pytest.raises(NotImplementedError, match="ModuleList: forward is not defined"):
        blocks(rng.normal(size=(1, 3)))
    net = nn.Sequential(*blocks)
    assert list(net) == list(blocks) and len(net[:2]) == 2


def test_join_concat_and_lambda(rng):
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(2, 4))
    np.testing.assert_array_equal(nn.Join()(a, b), np.concatenate([a, b], axis=1))
    np.testing.assert_array_equal(nn.Join(0)(a, a), np.concatenate([a, a]))
    double = nn.Lambda(lambda x: x + x)
    np.testing.assert_array_equal(nn.Concat(double, nn.ReLU())(a), np.concatenate([2 * a, np.maximum(a, 0)], axis=1))
    assert "axis=0" in repr(nn.Join(0)) and "axis=1" in repr(nn.Concat(double)) and "relu" in repr(nn.Lambda(F.relu))


def test_a_module_forgets_and_applies():
    net = nn.Sequential(nn.Linear(2, 2, rng=0), nn.BatchNorm1d(2))
    net.layer, net.note = nn.ReLU(), "text"
    del net.layer, net.note
    assert not hasattr(net, "layer") and not hasattr(net, "note") and len(net) == 2
    seen = []
    net.apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["Linear", "BatchNorm1d", "Sequential"]
    for parameter in net.parameters():
        parameter.grad = np.ones(parameter.shape, parameter.dtype)
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert repr(net[0].weight) == "Parameter(shape (2, 2), float32)"


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.RNN(3, 4, nonlinearity="relu"), "RNN(3, 4, nonlinearity='relu')"),
        (nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2), "LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2)"),
        (nn.GRUCell(3, 4, bias=False), "GRUCell(3, 4, bias=False)"),
        (nn.GroupNorm(2, 4), "GroupNorm(2, 4, eps=1e-05)"),
        (nn.BatchNorm2d(4), "BatchNorm2d(4, eps=1e-05, momentum=0.1, affine=True)"),
        (nn.Linear(3, 4, bias=False), "Linear(3, 4, bias=False)"),
        (nn.Embedding(7, 3), "Embedding(7, 3)"),
        (nn.Dropout(0.25), "Dropout(p=0.25)"),
        (nn.MultiheadAttention(8, 2), "MultiheadAttention(8, num_heads=2\n  (out_proj): Linear(8, 8)\n)"),
        (nn.ZeroPad2d(2), "ZeroPad2d((2, 2, 2, 2))"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_what_layers_print(layer, said):
    assert repr(layer) == said


def test_other_norms_print():
    for layer in (nn.LayerNorm(4), nn.RMSNorm(4), nn.InstanceNorm2d(4)):
        assert "4" in repr(layer) and "eps=" in repr(layer)
    assert "alpha" in repr(nn.LocalResponseNorm(5)) and "norm_type=2" in repr(nn.LPPool2d(2, 2))


def test_batch_norm_without_running_statistics(rng):
    x = rng.normal(size=(4, 3, 5)).astype(np.float32)
    layer = nn.BatchNorm1d(3, track_running_stats=False)
    layer.eval()
    np.testing.assert_allclose(layer(x).data.mean(axis=(0, 2)), 0, atol=1e-6)


def test_tensors_print_and_convert():
    t = cnnpy.Tensor([1.5], requires_grad=True)
    assert repr(t) == "Tensor([1.5], requires_grad=True)" and float(t) == 1.5 and bool(t)
    assert [v.item() for v in cnnpy.Tensor([1.0, 2.0])] == [1.0, 2.0]
    with pytest.raises(ValueError, match=r"Tensor.item: the tensor has shape \(2,\)"):
        cnnpy.Tensor([1.0, 2.0]).item()
    with pytest.raises(ValueError, match=r"Tensor.data: the value has shape \(3,\), expected \(1,\)"):
        t.data = np.zeros(3)
