import numpy as np
import pytest

from cnnpy import optim
from cnnpy.nn import Parameter


def steps(make, gradients=(1, 0.5, -1), dtype=np.float64, size=1):
    p = Parameter(np.ones(size, dtype))
    optimizer = make([p])
    values = []
    for g in gradients:
        p.grad = np.full(size, g, dtype)
        optimizer.step()
        values.append(p.data.copy())
    return np.array(values)


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda p: optim.SGD(p, 0.1, momentum=0.9), [0.9, 0.76, 0.734]),
        (lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True), [0.81, 0.634, 0.7106]),
        (lambda p: optim.Adam(p, 0.1), [0.900000001, 0.806782038, 0.795703731]),
        (lambda p: optim.AdamW(p, 0.1), [0.899000001, 0.804883038, 0.792999848]),
        (lambda p: optim.RMSprop(p, 0.1), [0.000000100, -0.449013115, 0.220997011]),
        (lambda p: optim.Adagrad(p, 0.1), [0.9, 0.855278640, 0.921945307]),
        (lambda p: optim.Adadelta(p), [0.996837738, 0.994752608, 0.998139791]),
    ],
)
def test_golden_values(make, wanted, isa):
    for size in (1, 7, 40):
        np.testing.assert_allclose(steps(make, size=size), np.repeat(np.array(wanted)[:, None], size, 1), atol=1e-9)


def reference(kind, gradients, lr, decay):
    w, v, m, s = 1.0, 0.0, 0.0, 0.0
    result = []
    for t, g in enumerate(gradients, 1):
        if kind == "sgd":
            g = g + decay * w
            v = g if t == 1 else 0.8 * v + g
            w -= lr * v
        else:
            if kind == "adamw":
                w -= lr * decay * w
            else:
                g = g + decay * w
            m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
            w -= lr / (1 - 0.9**t) * m / (np.sqrt(s) / np.sqrt(1 - 0.999**t) + 1e-8)
        result.append(w)
    return np.array(result)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_against_reference(kind, rng):
    gradients = rng.normal(size=20)
    make = {
        "sgd": lambda p: optim.SGD(p, 0.05, momentum=0.8, weight_decay=0.1),
        "adam": lambda p: optim.Adam(p, 0.05, weight_decay=0.1),
        "adamw": lambda p: optim.AdamW(p, 0.05, weight_decay=0.1),
    }[kind]
    np.testing.assert_allclose(steps(make, gradients)[:, 0], reference(kind, gradients, 0.05, 0.1), rtol=1e-12)
    np.testing.assert_allclose(steps(make, gradients, np.float32)[:, 0], reference(kind, gradients, 0.05, 0.1), rtol=2e-5)


def test_rmsprop_with_everything(rng):
    """By hand: centered, momentum, weight decay; and Adagrad's falling rate."""
    gradients = rng.normal(size=12)
    w, v, z, b = 1.0, 0.0, 0.0, 0.0
    wanted = []
    for g in gradients:
        g = g + 0.1 * w
        v, z = 0.9 * v + 0.1 * g * g, 0.9 * z + 0.1 * g
        b = 0.5 * b + g / (np.sqrt(v - z * z) + 1e-3)
        w -= 0.05 * b
        wanted.append(w)
    make = lambda p: optim.RMSprop(p, 0.05, alpha=0.9, eps=1e-3, weight_decay=0.1, momentum=0.5, centered=True)  # noqa: E731
    np.testing.assert_allclose(steps(make, gradients)[:, 0], wanted, rtol=1e-9)
    w, total, wanted = 1.0, 0.0, []
    for t, g in enumerate(gradients, 1):
        total += g * g
        w -= 0.1 / (1 + (t - 1) * 0.3) * g / (np.sqrt(total) + 1e-10)
        wanted.append(w)
    np.testing.assert_allclose(steps(lambda p: optim.Adagrad(p, 0.1, lr_decay=0.3), gradients)[:, 0], wanted, rtol=1e-12)


def test_clip_grad_norm():
    a, b = Parameter(np.zeros(2)), Parameter(np.zeros((2, 1), np.float32))
    a.grad, b.grad = np.array([3.0, 0.0]), np.array([[0.0], [4.0]], np.float32)
    assert optim.clip_grad_norm([a, b, Parameter(np.zeros(1))], 10.0) == 5.0 and a.grad[0] == 3
    assert optim.clip_grad_norm([a, b], 1.0) == 5.0
    np.testing.assert_allclose([a.grad[0], b.grad[1, 0]], [0.6, 0.8], rtol=1e-6)
    a.grad = np.array([np.inf, 1.0])
    assert optim.clip_grad_norm([a, b], 1.0) == np.inf and np.isnan(a.grad[0]) and a.grad[1] == 0 and not b.grad.any()
    a.grad = np.array([np.nan, 1.0])
    assert np.isnan(optim.clip_grad_norm([a], 1.0)) and np.isnan(a.grad).all()
    with pytest.raises(ValueError, match="clip_grad_norm: max_norm is 0"):
        optim.clip_grad_norm([a], 0)


def test_state_dict_continues_exactly():
    gradients = np.linspace(-1, 1, 6)
    for make in (
        lambda p: optim.SGD(p, 0.1, momentum=0.9),
        lambda p: optim.Adam(p, 0.1),
        lambda p: optim.RMSprop(p, 0.1, momentum=0.5, centered=True),
        lambda p: optim.Adagrad(p, 0.1, lr_decay=0.1),
        lambda p: optim.Adadelta(p, 0.1),
    ):
        whole = steps(make, gradients)
        p = Parameter(np.ones(1))
        first = make([p])
        for g in gradients[:3]:
            p.grad = np.full(1, g)
            first.step()
        q = Parameter(p.data.copy())
        second = make([q])
        second.lr = 7.0
        second.load_state_dict(first.state_dict())
        for g in gradients[3:]:
            q.grad = np.full(1, g)
            second.step()
        assert q.data == whole[-1] and second.lr == 0.1


def test_groups_and_missing_gradients():
    a, b = Parameter(np.ones(1)), Parameter(np.ones(1))
    optimizer = optim.SGD([{"params": [a]}, {"params": [b], "lr": 1.0}], lr=0.5)
    a.grad = b.grad = np.ones(1)
    optimizer.step()
    assert a.data == 0.5 and b.data == 0
    optimizer.zero_grad()
    optimizer.step()
    assert a.data == 0.5 and a.grad is None
    optimizer.lr = 0.25
    assert [g["lr"] for g in optimizer.param_groups] == [0.25, 0.25]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda p: optim.SGD([p], -1), ValueError, "SGD: lr is -1"),
        (lambda p: optim.SGD([p], "a"), TypeError, "SGD: lr is str"),
        (lambda p: optim.SGD([p], float("nan")), ValueError, "SGD: lr is nan"),
        (lambda p: optim.SGD([p], 0.1, momentum=2), ValueError, "SGD: momentum is 2"),
        (lambda p: optim.SGD([p], 0.1, nesterov=True), ValueError, "nesterov"),
        (lambda p: optim.SGD([], 0.1), ValueError, "params is empty"),
        (lambda p: optim.SGD([p, p], 0.1), ValueError, "twice"),
        (lambda p: optim.SGD([np.ones(1)], 0.1), TypeError, "expected Parameters"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.5)), ValueError, "betas"),
    ],
)
def test_bad_options(call, error, text):
    with pytest.raises(error, match=text):
        call(Parameter(np.ones(1)))
