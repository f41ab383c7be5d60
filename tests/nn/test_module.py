import numpy as np
import pytest

import cnnpy
from cnnpy import functional as F
from cnnpy import nn
from cnnpy.models import lenet5


def test_lenet():
    model = lenet5(rng=0)
    assert sum(p.size for p in model.parameters()) == 61_706
    assert model(np.zeros((2, 1, 28, 28), np.float32)).shape == (2, 10)
    assert lenet5(3, in_channels=3, activation="relu", pooling="max", rng=0)(np.zeros((1, 3, 28, 28), np.float32)).shape == (1, 3)
    with pytest.raises(ValueError, match="lenet5: activation is 'x'"):
        lenet5(activation="x")
    same = [p.data.tobytes() for p in lenet5(rng=5).parameters()]
    assert same == [p.data.tobytes() for p in lenet5(rng=5).parameters()]


def test_names_and_state():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, rng=0), nn.ReLU(), nn.Sequential(nn.Linear(4, 3, rng=0)))
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.0.weight", "2.0.bias"]
    other = nn.Sequential(nn.Conv2d(1, 2, 3, rng=1), nn.ReLU(), nn.Sequential(nn.Linear(4, 3, rng=1)))
    other.load_state_dict(model.state_dict())
    assert all(np.array_equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    assert other[0].weight.data is not model[0].weight.data
    state = {k: v for k, v in model.state_dict().items() if k != "0.bias"} | {"extra": np.ones(1), "2.0.bias": np.ones(5)}
    before = [p.data.copy() for p in other.parameters()]
    with pytest.raises(ValueError) as e:
        other.load_state_dict(state)
    for part in ("missing: 0.bias", "unexpected: extra", "2.0.bias has shape (5,), expected (3,)"):
        assert part in str(e.value)
    assert all(np.array_equal(a, b.data) for a, b in zip(before, other.parameters(), strict=True))


def test_modes_freeze_buffers_hooks():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.Tanh())
    assert model.training and not model.eval()[0].training and model.train()[1].training
    model.register_buffer("count", np.zeros(()))
    assert "count" in model.state_dict() and dict(model.named_buffers())["count"] == 0
    model.freeze()
    assert not any(p.requires_grad for p in model.parameters())
    seen = []
    remove = model[1].register_forward_hook(lambda m, a, r: seen.append(r.shape))
    model(np.zeros((1, 1, 5, 5), np.float32))
    remove()
    model(np.zeros((1, 1, 5, 5), np.float32))
    assert seen == [(1, 2, 3, 3)]
    assert model.to("float64")[0].weight.dtype == np.float64
    with pytest.raises(TypeError, match="expected float32 or float64"):
        model.to("int32")


def test_shared_layer_counts_once():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, layer)
    assert len(list(model.parameters())) == 2
    y = model(np.ones((1, 3), np.float32)).sum()
    y.backward()
    assert layer.weight.grad.shape == (3, 3)


def test_activations_stay_channels_last():
    y = nn.Conv2d(3, 9, 3, rng=0)(np.zeros((2, 3, 9, 9), np.float32))
    assert y.data.strides == (7 * 7 * 9 * 4, 4, 7 * 9 * 4, 9 * 4)


def test_few_channels_stay_as_they_are():
    """Rows fill vectors where eight channels would not; the gradient of a change of order comes back in the order from which it changed."""
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 9), np.float32)
    first, second = nn.Conv2d(3, 8, 3, rng=0), nn.Conv2d(8, 16, 3, rng=1)
    y = first(x)
    assert y.data.flags.c_contiguous and first(cnnpy.channels_last(x)).data.strides == (7 * 7 * 8 * 4, 4, 7 * 8 * 4, 8 * 4)
    np.testing.assert_array_equal(y.data, first(cnnpy.channels_last(x)).data)
    z = second(y)
    assert z.data.strides == (5 * 5 * 16 * 4, 4, 5 * 16 * 4, 16 * 4)
    dz = cnnpy.channels_last(np.random.default_rng(1).standard_normal(z.shape, np.float32))
    d = F.channels_last_backward(F.conv2d_backward(dz, cnnpy.channels_last(y.data), second.weight.data).x, y.data).x
    assert d.flags.c_contiguous
    z.backward(dz)
    np.testing.assert_array_equal(first.weight.grad, F.conv2d_backward(d, x, first.weight.data).weight)
    many = cnnpy.channels_last(np.zeros((2, 9, 3, 3), np.float32))
    assert F.channels_last_backward(many, np.zeros((2, 9, 3, 3), np.float32)).x is many


def test_flatten_is_in_c_order():
    x = np.arange(24.0, dtype=np.float32).reshape(2, 3, 2, 2)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert np.array_equal(nn.Flatten()(last), x.reshape(2, 12)) and nn.Flatten()(x[:0]).shape == (0, 12)


def test_repr_and_errors():
    text = repr(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2)))
    assert "Conv2d(1, 2, kernel_size=(3, 3), stride=1, padding=1)" in text and "MaxPool2d(kernel_size=2" in text
    with pytest.raises(TypeError, match=r"wrap a function in nn\.Lambda"):
        nn.Sequential(np.tanh)
    with pytest.raises(ValueError, match="groups is 2"):
        nn.Conv2d(3, 4, 3, groups=2)

    class Half(nn.Module):
        def __init__(self):
            self.layer = nn.ReLU()

    with pytest.raises(AttributeError, match="super"):
        Half()


@pytest.mark.parametrize("layer", [nn.Conv2d(16, 32, 3, rng=0), nn.Linear(144, 7, rng=0)])
def test_initial_values_are_uniform_in_the_fan_in(layer):
    for p in layer.parameters():
        assert np.abs(p.data).max() <= 1 / 12 and np.abs(p.data).max() > 0.6 / 12


def test_init_functions():
    w = np.zeros((300, 20, 3, 3))
    assert nn.init.kaiming_normal_(w, rng=0).std() == pytest.approx(np.sqrt(2 / 180), rel=0.02)
    assert np.abs(nn.init.kaiming_uniform_(w, rng=0)).max() <= np.sqrt(6 / 180)
    assert nn.init.xavier_normal_(w, rng=0).std() == pytest.approx(np.sqrt(2 / (180 + 2700)), rel=0.02)
    assert nn.init.lecun_normal_(w, rng=0).std() == pytest.approx(1 / np.sqrt(180), rel=0.02)
    q = nn.init.orthogonal_(np.zeros((6, 10)), rng=0)
    np.testing.assert_allclose(q @ q.T, np.eye(6), atol=1e-12)
    with pytest.raises(ValueError, match="at least two axes"):
        nn.init.lecun_normal_(np.zeros(3))


def test_residual_adds_and_checks_shapes(rng):
    x = rng.normal(size=(2, 3, 5, 5)).astype(np.float32)
    body = nn.Conv2d(3, 3, 3, padding=1, rng=0)
    np.testing.assert_array_equal(nn.Residual(body)(x).detach(), body(x).detach() + x)
    zero = nn.Conv2d(3, 3, 3, padding=1, rng=0)
    for p in zero.parameters():
        p.data[...] = 0
    identity = nn.Residual(zero, activation=nn.ReLU())
    np.testing.assert_array_equal(identity(np.abs(x)).detach(), np.abs(x))
    np.testing.assert_array_equal(identity(x).detach(), np.maximum(x, 0))
    wider = nn.Residual(nn.Conv2d(3, 6, 3, stride=2, padding=1, rng=0), nn.Conv2d(3, 6, 1, stride=2, rng=1))
    assert wider(x).shape == (2, 6, 3, 3) and len(wider.state_dict()) == 4
    with pytest.raises(ValueError, match=r"Residual: body gives shape \(2, 6, 5, 5\) and the shortcut \(2, 3, 5, 5\)"):
        nn.Residual(nn.Conv2d(3, 6, 1))(x)
    with pytest.raises(TypeError, match="Residual: body is function, expected a Module"):
        nn.Residual(lambda v: v)


def test_concat_joins_channels(rng):
    x = rng.normal(size=(2, 3, 5, 5)).astype(np.float32)
    a, b = nn.Conv2d(3, 4, 1, rng=0), nn.Conv2d(3, 2, 3, padding=1, rng=1)
    y = nn.Concat(a, b)(x)
    np.testing.assert_array_equal(y.detach(), np.concatenate([a(x).detach(), b(x).detach()], axis=1))
    with pytest.raises(ValueError, match="Concat: no modules given"):
        nn.Concat()


def test_html_for_jupyter():
    import cnnpy

    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    text = model._repr_html_()
    assert "Conv2d(1, 2" in text and "weight 2x1x3x3, bias 2" in text and "Sequential: 20 parameters" in text and "ReLU()" in text
    assert "Tensor (2,), float32 requires gradient" in cnnpy.Tensor(np.zeros(2, np.float32), True)._repr_html_()


def test_an_array_assigned_to_a_buffer_is_saved():
    """It was dropped from the state without a word; a parameter too."""
    layer = nn.BatchNorm2d(3)
    layer.running_mean = np.full(3, 7.0, np.float32)
    layer.num_batches_tracked = layer.num_batches_tracked + 1
    state = layer.state_dict()
    assert (state["running_mean"] == 7).all() and state["num_batches_tracked"] == 1
    assert state["running_mean"] is layer.running_mean and isinstance(state["num_batches_tracked"], np.ndarray)
    weight = layer.weight
    with pytest.raises(TypeError, match=r"BatchNorm2d: weight is a parameter, and ndarray was assigned to it, expected a Parameter"):
        layer.weight = np.ones(3, np.float32)
    assert layer.weight is weight and "weight" in layer.state_dict()
    layer.weight = None
    assert "weight" not in layer.state_dict()
    with pytest.raises(TypeError, match=r"BatchNorm2d: running_var is a buffer, and list was assigned to it, expected an array or None"):
        layer.running_var = [1.0, 1.0, 1.0]
    assert "running_var" in layer.state_dict()
    layer.running_var = None
    assert "running_var" not in layer.state_dict()
