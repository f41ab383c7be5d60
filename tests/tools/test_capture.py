import numpy as np
import pytest

from cnnpy import Tensor, models, nn, tools


def test_outputs_and_gradients_of_every_layer(rng):
    model = models.resnet20(num_classes=4, rng=0, dtype="float64")
    x = rng.normal(size=(2, 3, 8, 8))
    with tools.capture(model) as seen:
        model(x).sum().backward()
    leaves = [n for n, m in model.named_modules() if not m._modules]
    assert set(seen) == set(leaves) and all(c.gradient.shape == c.output.shape for c in seen.values())
    np.testing.assert_array_equal(seen["fc"].gradient, np.ones((2, 4)))
    assert not model.conv1._forward_hooks and "kept" in repr(seen["fc"])


def test_the_gradient_is_that_of_moving_the_output(rng):
    """Against a network that begins at the captured layer."""
    first, rest = nn.Linear(3, 4, rng=0, dtype="float64"), nn.Sequential(nn.Tanh(), nn.Linear(4, 2, rng=1, dtype="float64"))
    x = rng.normal(size=(5, 3))
    model = nn.Sequential(first, rest)
    with tools.capture(model, ["0"]) as seen:
        model(x).sum().backward()
    inner = Tensor(seen["0"].output, requires_grad=True)
    rest(inner).sum().backward()
    np.testing.assert_array_equal(seen["0"].gradient, inner.grad)


def test_without_backward_and_without_gradients():
    model = nn.Sequential(nn.Linear(3, 2, rng=0), nn.ReLU())
    with tools.capture(model) as seen:
        model(np.ones((1, 3)))
    assert list(seen) == ["0", "1"] and seen["0"].gradient is None and "none" in repr(seen["0"])
    model.freeze()
    with tools.capture(model) as seen:
        model(np.ones((1, 3)))
    assert seen["1"].output.shape == (1, 2) and seen["1"].gradient is None
    with pytest.raises(ValueError, match="capture: layers holds 'fc', expected names like 0, 1"), tools.capture(model, ["fc"]):
        pass


def test_retain_grad_of_a_value_used_twice():
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = (x * 3).retain_grad()
    (y * y + y).sum().backward()
    assert y.grad.tolist() == [7.0, 13.0] and x.grad.tolist() == [21.0, 39.0]
    with pytest.raises(RuntimeError, match="needs no gradient"):
        Tensor([1.0]).retain_grad()
