"""Normalisation, activations, losses and dropout: golden values, running statistics, what rounding may do."""

import numpy as np
import pytest

from cnnpy import Tensor, nn
from cnnpy import functional as F

ROW = np.array([[1.0, 2, 3, 4]])
NORMAL = [-1.341635420, -0.447211807, 0.447211807, 1.341635420]


def near(y, wanted):
    np.testing.assert_allclose(np.squeeze(y), wanted, rtol=0, atol=1e-9)


def test_golden_norms():
    near(F.layer_norm(ROW, 4), NORMAL)
    near(F.batch_norm(ROW.T, None, None, training=True), NORMAL)
    dy = np.array([[1.0, 0, 0, 0]])
    slope = [0.268330304, -0.357768372, -0.089443435, 0.178881503]
    near(F.layer_norm_backward(dy, ROW, 4).x, slope)
    near(F.batch_norm_backward(dy.T, ROW.T, None, None, training=True).x, slope)
    near(F.group_norm(ROW, 2), [-0.999980001, 0.999980001] * 2)
    near(F.rms_norm(ROW, 4, eps=1e-5), [0.365148128, 0.730296256, 1.095444385, 1.460592513])
    near(F.instance_norm(ROW[:, None]), NORMAL)
    five = np.arange(1.0, 6).reshape(1, 5)
    near(F.local_response_norm(five, 3, alpha=1.0), [0.479207328, 0.544545591, 0.508276127, 0.464188129, 0.667146847])
    near(F.local_response_norm(five, 4, alpha=1.0), [0.544331054, 0.647322362, 0.602638759, 0.538311911, 0.709936782])


def test_running_statistics():
    mean, var = np.zeros(1), np.ones(1)
    F.batch_norm(ROW.T, mean, var, training=True)
    near(mean, 0.25)
    near(var, 0.9 + 0.1 * 5 / 3)
    before = mean.copy(), var.copy()
    F.batch_norm(ROW.T, mean, var)
    assert mean == before[0] and var == before[1]
    with pytest.raises(ValueError, match="weight has shape"):
        F.batch_norm(ROW.T, mean, var, np.ones(2), training=True)
    assert mean == before[0], "a refused call changes nothing"
    with pytest.raises(ValueError, match=r"batch_norm: x has shape \(1, 1\), expected more than one value a channel"):
        F.batch_norm(ROW[:, :1], mean, var, training=True)
    with pytest.raises(TypeError, match="running_mean has type list"):
        F.batch_norm(ROW.T, [0.0], var, training=True)
    with pytest.raises(ValueError, match="running_var is None"):
        F.batch_norm(ROW.T, mean, None)


def test_a_large_offset_does_not_spoil_the_variance(isa, rng):
    """mean / std = 1e4 in float32: the variance within 1e-5, as the data themselves are rounded."""
    x = (rng.normal(size=(64, 3, 20, 20)) + 1e4).astype(np.float32)
    exact = x.astype(np.float64).var(axis=(0, 2, 3))
    for image in (x, F.channels_last(x)):
        _, (_, variance) = F.batch_norm(image, None, None, training=True, return_cache=True)
        np.testing.assert_allclose(variance, exact, rtol=1e-5)
    rows = x.reshape(192, 400)
    _, (_, rstd) = F.layer_norm(rows, 400, eps=0.0, return_cache=True)
    np.testing.assert_allclose(1 / rstd.astype(np.float64) ** 2, rows.astype(np.float64).var(axis=1), rtol=1e-5)


def test_batch_norm_layers_in_training_and_evaluation(rng):
    layer = nn.BatchNorm2d(3)
    x = rng.normal(size=(8, 3, 5, 5)).astype(np.float32) * 2 + 1
    for _ in range(200):
        layer(x)
    assert layer.state_dict()["num_batches_tracked"] == 200 and set(layer.state_dict()) == {
        *("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    trained = layer(x).detach()
    np.testing.assert_allclose(layer.eval()(x).detach(), trained, atol=0.02)
    assert layer.running_mean is layer.state_dict()["running_mean"]
    with pytest.raises(ValueError, match="BatchNorm2d: x has 3 axes, expected 4"):
        layer(x[0])
    mean = nn.BatchNorm1d(2, momentum=None)
    for value in (1.0, 3.0, 8.0):
        mean(np.full((4, 2), value, np.float32) + np.arange(4, dtype=np.float32)[:, None])
    np.testing.assert_allclose(mean.running_mean, 4 + 1.5)


def test_norms_on_the_tape(rng):
    x = Tensor(rng.normal(size=(2, 6, 4)), requires_grad=True)
    for layer in (
        nn.LayerNorm(4),
        nn.RMSNorm((6, 4)),
        nn.GroupNorm(3, 6),
        nn.InstanceNorm1d(6, affine=True),
        nn.LocalResponseNorm(3),
        nn.BatchNorm1d(6),
    ):
        x.grad = None
        (layer.to("float64")(x) ** 2).sum().backward()
        assert x.grad.shape == x.shape and all(p.grad is not None and p.grad.shape == p.shape for p in layer.parameters())


def test_golden_activations():
    at = np.array([1.0, -1])
    near(F.gelu(at), [0.841344746, -0.158655254])
    near(F.gelu(at, approximate="tanh"), [0.841191991, -0.158808009])
    near(F.silu(at), [0.731058579, -0.268941421])
    near(F.elu(at), [1, -0.632120559])
    near(F.softplus(at), [1.313261688, 0.313261688])
    near(F.leaky_relu(at), [1, -0.01])
    near(F.relu6([-1.0, 3, 7]), [0, 3, 6])
    near(F.hardtanh([-3.0, 0.5, 3]), [-1, 0.5, 1])
    near(F.hardtanh([-3.0, 0.5, 3], min_val=0.0, max_val=2.0), [0, 0.5, 2])
    with pytest.raises(TypeError, match="elu: unexpected option 'alfa'"):
        F.elu(at, alfa=1.0)
    with pytest.raises(ValueError, match="gelu: approximate is 'erf'"):
        F.gelu(at, approximate="erf")


def test_a_range_whose_ends_are_crossed(isa, rng):
    """min(max(x, min_val), max_val) as it is written: the upper end wins, as in np.clip."""
    x = rng.standard_normal(100).astype(np.float32)
    x[:3] = np.nan, -np.inf, np.inf
    for low, high in ((2.0, -2.0), (0.5, 0.0), (-1.0, 1.0)):
        np.testing.assert_array_equal(F.hardtanh(x, min_val=low, max_val=high), np.clip(x, np.float32(low), np.float32(high)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_keep_their_bounds(dtype, isa, rng):
    """elu and softplus within 4 ulp, silu 6, gelu 4 u |x|."""
    x = (np.exp2(rng.uniform(-30, 6, 100_000)) * rng.choice([-1, 1], 100_000)).astype(dtype)
    wide, unit = x.astype(np.longdouble), np.finfo(dtype).eps / 2
    import math

    normal = np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in x.astype(float)], np.longdouble)
    with np.errstate(under="ignore", over="ignore"):
        sigmoid = np.where(wide < 0, np.exp(-np.abs(wide)), 1) / (1 + np.exp(-np.abs(wide)))
        exact = {
            "elu": (np.where(wide > 0, wide, np.expm1(np.minimum(wide, 0))), 4),
            "softplus": (np.maximum(wide, 0) + np.log1p(np.exp(-np.abs(wide))), 4),
            "silu": (wide * sigmoid, 6),
        }
    for name, (value, bound) in exact.items():
        normal_range = np.abs(value) > np.finfo(dtype).tiny * 4
        ulps = np.abs(getattr(F, name)(x) - value) / np.spacing(np.abs(value).astype(dtype)).astype(np.longdouble)
        assert ulps[normal_range].max() <= bound, name
    slack = 2.0**-52 if dtype == np.float64 else 0  # the reference itself is rounded to float64
    assert (np.abs(F.gelu(x) - wide * normal) <= (4 * unit + slack) * np.abs(wide)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_at_the_ends(dtype, isa):
    x = np.array([np.nan, -np.inf, np.inf, -0.0], dtype)
    dy = np.ones(4, dtype)
    wanted = {  # value and slope at -inf, +inf
        "relu6": (0, 6, 0, 0),
        "hardtanh": (-1, 1, 0, 0),
        "leaky_relu": (-np.inf, np.inf, 0.01, 1),
        "elu": (-1, np.inf, 0, 1),
        "silu": (0, np.inf, 0, 1),
        "gelu": (0, np.inf, 0, 1),
        "softplus": (0, np.inf, 0, 1),
    }
    for name, (low, high, low_slope, high_slope) in wanted.items():
        y, dx = getattr(F, name)(x), getattr(F, name + "_backward")(dy, x).x
        assert np.isnan(y[0]) and y[1] == low and y[2] == high and abs(y[3]) <= (1 if name == "softplus" else 0), (name, y)
        np.testing.assert_allclose(dx[1:3], [low_slope, high_slope], rtol=1e-6, atol=1e-30, err_msg=name)
    assert F.relu6_backward(dy, x).x[0] == 1 and F.hardtanh_backward(dy, x).x[0] == 1


def test_golden_losses():
    x, t = np.array([1.0, 2, 5]), np.array([1.5, 2, 1])
    near(F.mse_loss(x, t), (0.25 + 16) / 3)
    near(F.l1_loss(x, t, reduction="sum"), 4.5)
    near(F.huber_loss(x, t, reduction="none"), [0.125, 0, 3.5])
    near(F.huber_loss(x, t, reduction="none", delta=5.0), [0.125, 0, 8])
    near(F.binary_cross_entropy_with_logits([0.0, 2.0], [1.0, 0.0], reduction="none"), [np.log(2), 2 + np.log1p(np.exp(-2))])
    near(F.kl_div(np.log([0.5, 0.5]), [1.0, 0.0], reduction="none"), [np.log(2), 0])
    g = F.mse_loss_backward(1.0, x, t)
    near(g.input, [-1 / 3, 0, 8 / 3])
    near(g.target, [1 / 3, 0, -8 / 3])
    assert np.isnan(F.mse_loss(np.zeros(0), np.zeros(0))) and F.mse_loss(np.zeros(0), np.zeros(0), reduction="sum") == 0
    logits = np.array([[1.0, 2, 3], [0, 0, 1]])
    near(F.nll_loss(F.log_softmax(logits), [2, 0]), F.cross_entropy(logits, [2, 0]))
    with pytest.raises(ValueError, match="mse_loss: target has shape"):
        F.mse_loss(x, t[:2])
    with pytest.raises(ValueError, match="nll_loss: target holds 3"):
        F.nll_loss(logits, [3, 0])


def test_dropout_is_a_function_of_key_and_place(rng):
    x = rng.normal(size=(4, 6, 5, 5)).astype(np.float32)
    for function in (F.dropout, F.dropout2d):
        y = function(x, 0.4, rng=7)
        np.testing.assert_array_equal(function(F.channels_last(x), 0.4, rng=7), y)
        np.testing.assert_array_equal(y[y != 0], (x * np.float32(1 / 0.6))[y != 0])
        assert not np.array_equal(function(x, 0.4, rng=8), y)
        same, key = function(x, 0.4, rng=np.random.default_rng(3), return_cache=True)
        np.testing.assert_array_equal(getattr(F, function.__name__ + "_backward")(x, x, 0.4, cache=key).x, same)
    whole = F.dropout2d(np.ones((50, 40, 3, 3), np.float32), 0.3, rng=1)
    assert (whole.min(axis=(2, 3)) == whole.max(axis=(2, 3))).all() and abs((whole[:, :, 0, 0] == 0).mean() - 0.3) < 0.03
    ones = np.ones(400_000, np.float32)
    assert abs((F.dropout(ones, 0.25, rng=2) == 0).mean() - 0.25) < 0.004
    both = (F.dropout(ones, 0.5, rng=2) == 0) & (F.dropout(ones, 0.5, rng=3) == 0)
    assert abs(both.mean() - 0.25) < 0.004, "masks of neighbouring seeds are independent"
    runs = (F.dropout(ones, 0.5, rng=2)[1:] == 0) & (F.dropout(ones, 0.5, rng=2)[:-1] == 0)
    assert abs(runs.mean() - 0.25) < 0.004, "neighbouring places are independent"
    assert not F.dropout(x, 1.0, rng=0).any() and np.array_equal(F.dropout(x, 0.5, training=False), x)
    generator = np.random.default_rng(0)
    assert not np.array_equal(F.dropout(x, rng=generator), F.dropout(x, rng=generator))
    with pytest.raises(ValueError, match="dropout_backward: the mask is not known"):
        F.dropout_backward(x, x, rng=np.random.default_rng(0))
    for bad, error, text in ((1.5, ValueError, "p is 1.5"), (float("nan"), ValueError, "p is nan"), ("a", TypeError, "p is str")):
        with pytest.raises(error, match=f"dropout: {text}"):
            F.dropout(x, bad)
    for bad, error, text in (
        (True, TypeError, "rng is bool, expected an int or a numpy.random.Generator"),
        (1.0, TypeError, "rng is float, expected an int or a numpy.random.Generator"),
        (-1, ValueError, "rng is -1, expected at least 0"),
    ):
        with pytest.raises(error, match=f"dropout: {text}"):
            F.dropout(x, rng=bad)
    with pytest.raises(TypeError, match="dropout: training is int, expected True or False"):
        F.dropout(x, training=1)
    assert np.array_equal(F.dropout(x, rng=np.int64(5)), F.dropout(x, rng=5))


def test_dropout_layers_count_their_calls():
    x = np.ones((3, 50), np.float32)
    a, b = nn.Dropout(0.5, rng=1), nn.Dropout(0.5, rng=1)
    first, second = a(x), a(x)
    np.testing.assert_array_equal(b(x), first)
    np.testing.assert_array_equal(b(x), second)
    assert not np.array_equal(first, second) and a.eval()(x) is x and a.state_dict() == {}
    t = Tensor(x, requires_grad=True)
    y = nn.Dropout(0.5, rng=4)(t)
    y.sum().backward()
    np.testing.assert_array_equal(t.grad, y.detach())
    with pytest.raises(ValueError, match="p is 2"):
        nn.Dropout(2)


def test_embedding_and_one_hot():
    weight = np.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(F.embedding([[0, 3], [3, 3]], weight)[1, 0], weight[3])
    dw = F.embedding_backward(np.ones((2, 2, 3)), [[0, 3], [3, 3]], weight).weight
    np.testing.assert_array_equal(dw, np.outer([1, 0, 0, 3], [1, 1, 1]))
    assert F.one_hot([0, 2], 3).tolist() == [[1, 0, 0], [0, 0, 1]] and F.one_hot(np.zeros((0,), int), 3).shape == (0, 3)
    for call, error, text in [
        (lambda: F.embedding([4], weight), ValueError, "embedding: indices holds 4 at position 0, expected 0 to 3"),
        (lambda: F.embedding([-1], weight), ValueError, "holds -1"),
        (lambda: F.embedding([0.5], weight), TypeError, "embedding: indices"),
        (lambda: F.embedding([0], weight[0]), ValueError, "embedding: weight has shape"),
        (lambda: F.one_hot([3], 3), ValueError, "one_hot: indices holds 3 at position 0"),
        (lambda: F.one_hot([0.5], 3), TypeError, "one_hot: indices has dtype float64"),
    ]:
        with pytest.raises(error, match=text):
            call()
    layer = nn.Embedding(5, 2, rng=0)
    layer(np.array([1, 1])).sum().backward()
    assert layer.weight.grad.tolist() == [[0, 0], [2, 2], [0, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "kl_div"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_have_the_same_bits_in_every_memory_order(name, reduction, isa, rng):
    """Real numbers, so that another order of the sum would show."""
    x, t = rng.normal(size=(5, 7, 9, 11)), rng.uniform(0.1, 0.9, (5, 7, 9, 11))
    loss = getattr(F, name)
    wanted = loss(x, t, reduction=reduction).tobytes()
    for a, b in ((F.channels_last(x), t), (x, F.channels_last(t)), (F.channels_last(x), F.channels_last(t)), (np.asfortranarray(x), t)):
        assert np.ascontiguousarray(loss(a, b, reduction=reduction)).tobytes() == wanted
