"""What a compiled model does with inputs of another kind, and when it runs eagerly: the results are those of the model, one warning names the cause."""

import threading
import warnings

import numpy as np
import pytest

import cnnpy
from cnnpy import functional as F
from cnnpy import nn, optim, train
from cnnpy.compiler.base import MOST_PROGRAMS


@pytest.fixture
def net():
    net = nn.Sequential(nn.Linear(4, 3, rng=0), nn.Tanh())
    net.eval()
    return net


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint16", "int32", "int64", "bool", ">f4"])
def test_inputs_of_other_dtypes(net, dtype, rng):
    x = rng.integers(0, 2, (5, 4)).astype(dtype)
    predict = cnnpy.compile(net)
    for _ in range(3):
        np.testing.assert_allclose(predict(x), net(x.astype(np.float32)).data, rtol=1e-6)


def test_a_tensor_is_its_array(net, rng):
    x = rng.normal(size=(2, 4)).astype(np.float32)
    np.testing.assert_array_equal(cnnpy.compile(net)(cnnpy.Tensor(x)), cnnpy.compile(net)(x))


def test_the_oldest_program_goes(net, rng):
    predict = cnnpy.compile(net)
    for n in range(1, MOST_PROGRAMS + 3):
        x = rng.normal(size=(n, 4)).astype(np.float32)
        np.testing.assert_allclose(predict(x), net(x).data, rtol=1e-6)
    assert len(predict._programs) == MOST_PROGRAMS and not any(shape == (1, 4) for shape, _ in predict._programs)


def test_an_empty_batch_runs_eagerly(net):
    predict = cnnpy.compile(net)
    with pytest.warns(RuntimeWarning, match="runs eagerly, because the batch is empty"):
        assert predict(np.zeros((0, 4), np.float32)).shape == (0, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert predict(np.zeros((0, 4), np.float32)).shape == (0, 3)
    with pytest.raises(RuntimeError, match="runs eagerly, there is no program to time"):
        predict.profile(np.zeros((0, 4), np.float32))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3, rng=0)

    def forward(self, x):
        y = self.layer(x)
        return y, F.relu(y)


def test_two_results_run_eagerly(rng):
    x = rng.normal(size=(2, 4)).astype(np.float32)
    net, predict = Two(), cnnpy.compile(Two())
    with pytest.warns(RuntimeWarning, match="its result is not one array"):
        found = predict(x)
    for a, b in zip(found, net(x), strict=True):
        np.testing.assert_array_equal(a, b.data)


def test_a_step_on_another_thread_and_with_other_weights(rng):
    """Steps outside the main thread have no Ctrl-C to wait for; weights that were replaced are used."""
    x, y = rng.normal(size=(6, 4)).astype(np.float32), rng.integers(0, 3, 6)
    losses = {"eager": [], "compiled": []}
    for way in ("eager", "compiled"):
        net = nn.Sequential(nn.Linear(4, 3, rng=0))
        optimizer = optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
        step = cnnpy.compile_step(net, F.cross_entropy, optimizer)

        def eager(x, y, net=net, optimizer=optimizer):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            return loss.item()

        call = step if way == "compiled" else eager

        def run(call=call, net=net, found=losses[way]):
            for number in range(6):
                if number == 4:
                    net[0].weight.data = np.full((3, 4), 0.25, np.float32)
                found.append(float(call(x, y)))

        worker = threading.Thread(target=run)
        worker.start()
        worker.join()
    np.testing.assert_allclose(losses["compiled"], losses["eager"], rtol=1e-6)


@pytest.mark.parametrize("where", ["the batch", "0.weight"])
def test_training_says_where_numbers_end(where, rng):
    x, y = rng.normal(size=(8, 4)).astype(np.float32), rng.integers(0, 3, 8)
    net = nn.Sequential(nn.Linear(4, 3, rng=0))
    if where == "the batch":
        x[:] = np.nan
    else:
        net[0].weight.data[:] = np.inf
    with pytest.raises(FloatingPointError, match=f"{where} holds values that are not finite"):
        train.fit(net, (x, y), optimizer=optim.SGD(net.parameters(), lr=0.1), loss=F.cross_entropy, epochs=1, progress=False)


class Joins(nn.Module):
    """Joins what it computes, along any axis, as a whole or stacked."""

    def __init__(self, function, axis):
        super().__init__()
        self.layer = nn.Linear(4, 4, rng=0)
        self.function, self.axis = function, axis

    def forward(self, x):
        parts = [self.layer(x), x, F.relu(x)]
        return getattr(F.array, self.function)(parts, axis=self.axis)


@pytest.mark.parametrize(
    ("function", "axis"), [("concatenate", 0), ("concatenate", 1), ("concatenate", -1), ("stack", 0), ("stack", 1), ("stack", -1)]
)
def test_joined_arrays(function, axis, rng):
    model = Joins(function, axis)
    model.eval()
    predict = cnnpy.compile(model)
    for _ in range(4):
        x = rng.normal(size=(3, 4)).astype(np.float32)
        np.testing.assert_allclose(predict(x), model(x).data, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("ignored", [-100, 2])
@pytest.mark.parametrize("bad", [-1, 5, -101, None])
def test_labels_out_of_range_are_refused_by_name(bad, ignored, rng):
    """As in an eager call: one that is let through is, its neighbours are not; nothing is learned from a batch that is refused."""
    model = nn.Linear(4, 5, rng=0)
    step = cnnpy.compile_step(model, lambda y, t: F.cross_entropy(y, t, ignore_index=ignored), optim.SGD(model.parameters(), lr=0.1))
    x, target = rng.normal(size=(6, 4)).astype(np.float32), np.array([0, 1, 4, 3, 1, 0])
    for _ in range(3):
        step(x, target)
    before = model.weight.data.copy()
    wrong = target.copy()
    wrong[3] = ignored if bad is None else bad
    if bad is None:
        assert np.isfinite(float(step(x, wrong))) and not np.array_equal(before, model.weight.data)
    else:
        with pytest.raises(ValueError, match=f"target .*{bad}"):
            step(x, wrong)
        np.testing.assert_array_equal(model.weight.data, before)
