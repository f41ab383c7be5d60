import numpy as np
import pytest

from cnnpy import optim
from cnnpy.nn import Parameter


def rates(make, count, lr=1.0):
    optimizer = optim.SGD([Parameter(np.ones(1))], lr)
    schedule = make(optimizer)
    values = [optimizer.lr]
    for _ in range(count - 1):
        schedule.step()
        values.append(optimizer.lr)
    return values


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda o: optim.CosineLR(o, 4), [1, 0.853553391, 0.5, 0.146446609, 0]),
        (lambda o: optim.StepLR(o, 2, 0.5), [1, 1, 0.5, 0.5, 0.25]),
        (lambda o: optim.MultiStepLR(o, [1, 3], 0.1), [1, 0.1, 0.1, 0.01, 0.01]),
        (lambda o: optim.ExponentialLR(o, 0.5), [1, 0.5, 0.25, 0.125, 0.0625]),
        (lambda o: optim.WarmupLR(o, 4), [0.25, 0.5, 0.75, 1, 1]),
        (lambda o: optim.WarmupLR(o, 4, 0.5), [0.5, 0.625, 0.75, 0.875, 1]),
    ],
)
def test_rates(make, wanted):
    np.testing.assert_allclose(rates(make, 5), wanted, atol=1e-9)


def test_one_cycle():
    values = rates(lambda o: optim.OneCycleLR(o, 1.0, 10), 10)
    np.testing.assert_allclose(values[:4], [0.04, 0.52, 1, 0.950484632], atol=1e-9)
    np.testing.assert_allclose(values[-2:], [0.049519368, 0.000004], atol=1e-6)
    with pytest.raises(ValueError, match="OneCycleLR: step 10 of 10"):
        rates(lambda o: optim.OneCycleLR(o, 1.0, 10), 11)


def test_plateau():
    optimizer = optim.SGD([Parameter(np.ones(1))], 1.0)
    schedule = optim.ReduceLROnPlateau(optimizer, patience=2)
    seen = []
    for value in (5, 4, 4, 4, 4, 3, 3, 3, 3):
        schedule.step(value)
        seen.append(optimizer.lr)
    np.testing.assert_allclose(seen, [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01], rtol=1e-12)
    with pytest.raises(TypeError, match="got no value"):
        schedule.step()


@pytest.mark.parametrize("make", [lambda o: optim.CosineLR(o, 9), lambda o: optim.StepLR(o, 2), lambda o: optim.OneCycleLR(o, 0.5, 20)])
def test_state_continues(make):
    whole = rates(make, 8, lr=0.3)
    first = make(optim.SGD([Parameter(np.ones(1))], 0.3))
    for _ in range(4):
        first.step()
    optimizer = optim.SGD([Parameter(np.ones(1))], 0.3)
    second = make(optimizer)
    second.load_state_dict(first.state_dict())
    values = [optimizer.lr]
    for _ in range(3):
        second.step()
        values.append(optimizer.lr)
    assert values == whole[4:]


def test_groups_and_bad_options():
    a, b = Parameter(np.ones(1)), Parameter(np.ones(1))
    optimizer = optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.1}], lr=1.0)
    schedule = optim.StepLR(optimizer, 1, 0.5)
    schedule.step()
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.05]
    for call, error, text in [
        (lambda: optim.StepLR([a], 1), TypeError, "StepLR: optimizer is list"),
        (lambda: optim.StepLR(optimizer, 0), ValueError, "step_size is 0"),
        (lambda: optim.StepLR(optimizer, 1.5), TypeError, "step_size is float"),
        (lambda: optim.ReduceLROnPlateau(optimizer, mode="low"), ValueError, "mode is 'low'"),
    ]:
        with pytest.raises(error, match=text):
            call()
