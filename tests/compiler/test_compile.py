"""Compiled programs do what eager calls do: for every network of the library, for random ones, for every optimiser, whatever changes in between."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cnnpy
from cnnpy import functional as F
from cnnpy import models, nn, optim

RNG = np.random.default_rng


def run_eager(model, loss, optimizer, batches):
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        result = loss(model(x), y)
        result.backward()
        optimizer.step()
        losses.append(result.item())
    return losses


def run_compiled(model, loss, optimizer, batches):
    step = cnnpy.compile_step(model, loss, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = [step(x, y) for x, y in batches]
    return losses, step


def arrays_of(model, optimizer):
    """Everything that training changes: parameters, statistics, gradients, the optimiser's state, the counters of masks."""
    state = {k: np.array(v) for k, v in model.state_dict().items()}
    state |= {f"grad {n}": np.array(p.grad) for n, p in model.named_parameters() if p.grad is not None}
    for i, values in optimizer.state_dict()["state"].items():
        state |= {f"{i} {k}": np.array(v) for k, v in values.items()}
    return state | {f"mask {n}": np.array(m._rng) for n, m in model.named_modules() if hasattr(m, "_rng")}


def assert_same(build, make_optimizer, loss, batches, tolerance=0.0):
    a, b = build(), build()
    oa, ob = make_optimizer(a.parameters()), make_optimizer(b.parameters())
    expected = run_eager(a, loss, oa, batches)
    losses, step = run_compiled(b, loss, ob, batches)
    assert step.program is not None
    np.testing.assert_allclose(losses, expected, rtol=tolerance, atol=tolerance)
    mine, theirs = arrays_of(b, ob), arrays_of(a, oa)
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(
            mine[name], value, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(value).max(initial=0))), err_msg=name
        )
    return b, step


def images(n, channels, size, classes=10, dtype=np.float32, seed=0):
    rng = RNG(seed)
    return rng.standard_normal((n, channels, size, size)).astype(dtype), rng.integers(0, classes, n)


def sgd(parameters):
    return optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=1e-4)


NETWORKS = {
    "lenet5": (lambda: models.lenet5(rng=0, dtype="float64"), (1, 28)),
    "alexnet": (lambda: models.alexnet(num_classes=10, rng=0, dtype="float64"), (3, 67)),
    "vgg11_bn": (lambda: models.vgg11(num_classes=10, batch_norm=True, rng=0, dtype="float64"), (3, 32)),
    "resnet20": (lambda: models.resnet20(rng=0, dtype="float64"), (3, 16)),
    "resnet18": (lambda: models.resnet18(num_classes=10, small_input=True, rng=0, dtype="float64"), (3, 16)),
    "resnet50": (lambda: models.resnet50(num_classes=10, rng=0, dtype="float64"), (3, 64)),
}


LARGE = ("alexnet", "vgg11_bn", "resnet50")  # minutes, most of them in dense layers


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_as_eagerly(name, budget):
    if name in LARGE and not budget(False, True):
        pytest.skip("a large network; CNNPY_TIER=full runs it")
    build, (channels, size) = NETWORKS[name]
    x, y = images(3, channels, size, dtype=np.float64)
    model, _ = assert_same(build, sgd, F.cross_entropy, [(x, y)] * 5, 1e-12)
    predict = cnnpy.compile(model)
    model.eval()
    expected = model(cnnpy.Tensor(x)).detach().numpy()
    np.testing.assert_allclose(predict(x), expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())  # recorded
    np.testing.assert_allclose(predict(x), expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())  # compiled
    assert predict.program is not None


def test_segmentation_network():
    rng = RNG(0)
    x = rng.standard_normal((2, 3, 32, 32))
    classes = models.unet_small(rng=0)(x.astype(np.float32)).shape[1]
    batches = [(x, rng.integers(0, classes, (2, 32, 32)))] * 5
    assert_same(lambda: models.unet_small(rng=0, dtype="float64"), sgd, F.cross_entropy, batches, 1e-12)


SEQUENCES = {
    "char_lstm": (lambda: models.char_lstm(num_classes=11, hidden=12, rng=0, dtype="float64"), (4, 9), True, (4, 9)),
    "seq2seq_attention": (
        lambda: models.seq2seq_attention(num_classes=11, source_length=5, target_length=4, embedding=6, hidden=8, rng=0, dtype="float64"), (4, 9), True,
        (4, 4),
    ),
    "sequence_classifier": (lambda: models.sequence_classifier(11, input_size=3, hidden=6, num_layers=2, dropout=0.3, rng=0, dtype="float64"), (4, 7, 3), False, (4,)),
}  # fmt: skip


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequence_networks_train_as_eagerly(name):
    build, shape, whole, target = SEQUENCES[name]
    rng = RNG(1)
    batches = [(rng.integers(0, 11, shape) if whole else rng.standard_normal(shape), rng.integers(0, 11, target)) for _ in range(5)]
    assert_same(build, lambda p: optim.Adam(p, lr=1e-2), F.cross_entropy, batches, 1e-12)


def test_forecaster_trains_as_eagerly():
    rng = RNG(1)
    batches = [(rng.standard_normal((4, 12, 1)), rng.standard_normal((4, 1))) for _ in range(5)]
    assert_same(
        lambda: models.forecaster(12, hidden=5, rng=0, dtype="float64"), lambda p: optim.AdamW(p, lr=1e-2), F.mse_loss, batches, 1e-12
    )


OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.05),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "Adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=1e-3),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.01, lr_decay=0.1),
    "Adadelta": lambda p: optim.Adadelta(p),
}


def small_network(dtype="float32"):
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, rng=0, dtype=dtype), nn.BatchNorm2d(4, dtype=dtype), nn.ReLU(), nn.Dropout(0.3, rng=3), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(4 * 9, 5, rng=1, dtype=dtype),
    )  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_make_the_same_steps_to_the_bit(name):
    batches = [images(4, 2, 6, 5, seed=s) for s in range(6)]
    assert_same(small_network, OPTIMIZERS[name], F.cross_entropy, batches)


def test_rates_groups_and_late_state():
    """The learning rate changes, groups have options of their own, a parameter joins later with a step count of its own."""
    results = []
    for compiled in (False, True):
        model = small_network()
        body, head = [p for n, p in model.named_parameters() if not n.startswith("6")], list(model[6].parameters())
        optimizer = optim.Adam([{"params": body, "lr": 0.02}, {"params": head, "weight_decay": 0.1}], lr=0.01)
        step = cnnpy.compile_step(model, F.cross_entropy, optimizer)
        losses = []
        for i in range(12):
            model[0].weight.requires_grad = i >= 4
            if i == 8:
                optimizer.param_groups[0]["lr"] = 0.001
            batch = images(4, 2, 6, 5, seed=i)
            losses += [step(*batch)] if compiled else run_eager(model, F.cross_entropy, optimizer, [batch])
        results.append((losses, arrays_of(model, optimizer)))
    assert results[0][0] == results[1][0]
    for name, value in results[0][1].items():
        np.testing.assert_array_equal(results[1][1][name], value, err_msg=name)


def test_shapes_modes_and_frozen_layers_take_turns():
    results = []
    for compiled in (False, True):
        model = small_network()
        optimizer = sgd(model.parameters())
        step = cnnpy.compile_step(model, F.cross_entropy, optimizer)
        losses = []
        for i in range(24):
            x, y = images(3 if i % 3 == 2 else 4, 2, 6, 5, seed=i)
            model.train(i % 8 != 5)
            if i == 12:
                model[1].freeze()
            losses += [step(x, y)] if compiled else run_eager(model, F.cross_entropy, optimizer, [(x, y)])
        results.append((losses, arrays_of(model, optimizer)))
    assert results[0][0] == results[1][0]
    for name, value in results[0][1].items():
        np.testing.assert_array_equal(results[1][1][name], value, err_msg=name)


def test_a_layer_used_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 3, 3, padding=1, rng=0), nn.BatchNorm2d(3), nn.Linear(3, 5, rng=1)

        def forward(self, x):
            x = F.relu(self.norm(self.conv(x)))
            x = F.relu(self.norm(self.conv(x))) + x
            return self.head(x.mean(axis=(2, 3)))

    assert_same(Twice, sgd, F.cross_entropy, [images(4, 3, 6, 5, seed=s) for s in range(5)])


ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.Softplus]


@st.composite
def networks(draw):
    """A recipe of layers on (N, C, 8, 8) in float64."""
    seed = draw(st.integers(0, 1000))
    recipe, channels, size = [], draw(st.sampled_from([1, 2, 3])), 8
    start = channels
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["conv", "norm", "activation", "pool", "residual", "dropout", "upsample", "concat", "depthwise"]))
        if kind == "pool" and size < 4:
            continue
        recipe.append((kind, draw(st.integers(0, 7))))
        if kind == "pool":
            size //= 2
    return seed, start, recipe


def build_network(seed, channels, recipe):
    rng, layers, c = RNG(seed), [], channels
    o = {"rng": rng, "dtype": "float64"}
    for kind, choice in recipe:
        if kind == "conv":
            k = 2 + choice % 3
            layers.append(nn.Conv2d(c, k, 1 + 2 * (choice % 2), padding=choice % 2, bias=choice < 4, **o))
            c = k
        elif kind == "norm":
            layers.append(
                [nn.BatchNorm2d(c, dtype="float64"), nn.GroupNorm(1, c, dtype="float64"), nn.InstanceNorm2d(c, dtype="float64")][choice % 3]
            )
        elif kind == "activation":
            layers.append(ACTIVATIONS[choice]())
        elif kind == "pool":
            layers.append([nn.MaxPool2d(2), nn.AvgPool2d(2)][choice % 2])
        elif kind == "dropout":
            layers.append([nn.Dropout(0.4, rng=choice), nn.Dropout2d(0.4, rng=choice)][choice % 2])
        elif kind == "upsample":
            layers.append(nn.Sequential(nn.Upsample(scale_factor=2, mode=["nearest", "bilinear"][choice % 2]), nn.AvgPool2d(2)))
        elif kind == "depthwise":
            layers.append(nn.Sequential(nn.Conv2d(c, c, 3, padding=1, groups=c, **o), nn.ReLU()))
        elif kind == "concat":
            layers.append(nn.Concat(nn.Conv2d(c, 2, 1, **o), nn.Conv2d(c, 1, 3, padding=1, **o)))
            c = 3
        else:
            layers.append(nn.Residual(nn.Conv2d(c, c, 3, padding=1, **o), activation=nn.ReLU() if choice % 2 else None))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 4, **o))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_random_networks(drawn):
    seed, channels, recipe = drawn
    batches = [images(3, channels, 8, 4, np.float64, seed=s) for s in range(5)]
    model, _ = assert_same(lambda: build_network(seed, channels, recipe), sgd, F.cross_entropy, batches, 1e-12)
    x = batches[0][0]
    predict = cnnpy.compile(model)
    model.eval()
    expected = model(cnnpy.Tensor(x)).detach().numpy()
    for _ in range(2):
        np.testing.assert_allclose(predict(x), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_do_not_depend_on_threads_or_runs(threads):
    batches = [images(16, 2, 6, 5, seed=s) for s in range(6)]
    with cnnpy.threads(1):
        model = small_network()
        expected, _ = run_compiled(model, F.cross_entropy, sgd(model.parameters()), batches)
    with cnnpy.threads(threads):
        other = small_network()
        assert run_compiled(other, F.cross_entropy, sgd(other.parameters()), batches)[0] == expected
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p._data, q._data)


def make_step():
    model = small_network()
    step = cnnpy.compile_step(model, F.cross_entropy, sgd(model.parameters()))
    x, y = images(4, 2, 6, 5)
    for _ in range(3):
        step(x, y)
    return model, step, x, y


def test_bad_labels_and_inputs_change_nothing():
    model, step, x, y = make_step()
    before = arrays_of(model, step.optimizer)
    bad = y.copy()
    bad[1] = 5
    with pytest.raises(ValueError, match="target holds 5 at position 1, expected 0 to 4"):
        step(x, bad)
    with pytest.raises(TypeError, match="compile_step: x has dtype complex128"):
        step(x.astype(complex), y)
    with pytest.raises(RuntimeError, match="update has no gradients"):
        step.update()
    after = arrays_of(model, step.optimizer)
    for name, value in before.items():
        if not name.startswith(("grad", "mask", "1.")):  # an eager call counts its masks and statistics before it looks at labels
            np.testing.assert_array_equal(after[name], value, err_msg=name)
    with pytest.raises(TypeError, match="compile: model is int, expected a Module"):
        cnnpy.compile(3)
    with pytest.raises(TypeError, match="compile_step: optimizer is str, expected an Optimizer"):
        cnnpy.compile_step(model, F.cross_entropy, "sgd")
    with pytest.raises(TypeError, match="compile_step: loss is int"):
        cnnpy.compile_step(model, 3, step.optimizer)


def test_gradients_may_be_changed_between_the_halves():
    results = []
    for compiled in (False, True):
        model = small_network()
        optimizer = sgd(model.parameters())
        step = cnnpy.compile_step(model, F.cross_entropy, optimizer)
        for i in range(6):
            x, y = images(4, 2, 6, 5, seed=i)
            if compiled:
                step.gradients(x, y)
            else:
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
            optim.clip_grad_norm(model.parameters(), 0.1)
            model[6].bias.grad = np.full(5, 0.25, np.float32)
            step.update() if compiled else optimizer.step()
        results.append(arrays_of(model, optimizer))
    for name, value in results[0].items():
        np.testing.assert_array_equal(results[1][name], value, err_msg=name)


def test_loaded_weights_and_optimizer_state_are_used():
    model, step, x, y = make_step()
    weights, state = {k: np.array(v) for k, v in model.state_dict().items()}, step.optimizer.state_dict()
    first = [step(x, y) for _ in range(3)]
    model.load_state_dict(weights)
    step.optimizer.load_state_dict(state)
    model[3]._rng[1] -= 3
    assert [step(x, y) for _ in range(3)] == first
    model[0].weight.data = np.zeros_like(model[0].weight._data)  # another array in the same place
    step(x, y)
    reference = small_network()
    assert model[0].weight._data.shape == reference[0].weight._data.shape
    assert np.isfinite(model[0].weight._data).all()
    assert step.program is not None


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda x: np.where(x > 0, x, 0), "no recorded operation made"),
        (lambda x: cnnpy.Tensor(x) * float(np.asarray(x).mean()), "change from call to call"),
        (lambda x: F.relu(x) if np.asarray(x).mean() > 0 else F.tanh(x), "the second"),
    ],
)  # fmt: skip
def test_what_depends_on_data_runs_eagerly_with_one_warning(change, cause):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3, rng=0)

        def forward(self, x):
            return self.linear(change(x))

    rng = RNG(0)
    batches = [(rng.standard_normal((2, 4)).astype(np.float32) + (1 if i % 2 else -1), rng.integers(0, 3, 2)) for i in range(4)]
    model, other = Odd(), Odd()
    expected = run_eager(other, F.cross_entropy, sgd(other.parameters()), batches)
    step = cnnpy.compile_step(model, F.cross_entropy, sgd(model.parameters()))
    with pytest.warns(RuntimeWarning, match=f"compile_step: the model runs eagerly, because .*{cause}") as seen:
        losses = [step(x, y) for x, y in batches]
    assert losses == expected
    assert len(seen) == 1
    predict = cnnpy.compile(model)
    with pytest.warns(RuntimeWarning, match="compile: the model runs eagerly"):
        first = predict(batches[0][0])
    model.eval()
    np.testing.assert_array_equal(predict(batches[0][0]), first)


def test_hooks_keep_a_model_eager():
    model, seen = small_network(), []
    model[2].register_forward_hook(lambda *_: seen.append(1))
    step = cnnpy.compile_step(model, F.cross_entropy, sgd(model.parameters()))
    x, y = images(4, 2, 6, 5)
    with pytest.warns(RuntimeWarning, match="2 has a forward hook"):
        for _ in range(4):
            step(x, y)
    assert len(seen) == 4


def test_text_profile_and_memory():
    model, step, x, y = make_step()
    text = str(step)
    assert "conv_forward(" in text
    assert "0.weight" in text
    assert "MFLOP" in text
    profile = step.profile(x, y, 2)
    assert len(profile.rows) == len(step.program.lines)
    assert profile.total > 0
    assert "of the bound" in str(profile)
    assert sum(profile.by_entry().values()) == pytest.approx(profile.total)
    used = step.memory()
    assert 0 < used["arena"] <= used["unshared"]
    predict = cnnpy.compile(model)
    assert "no program yet" in str(predict)
    with pytest.raises(RuntimeError, match="there is no program yet"):
        predict.memory()
    predict(x)
    assert predict.profile(x, 2).total > 0
    assert str(predict.program) in predict._repr_html_().replace("&gt;", ">").replace("&lt;", "<")


def test_a_training_run_has_the_same_curve_with_and_without():
    from cnnpy import train

    x, y = images(70, 2, 6, 5)
    curves = []
    for compile in (False, True):
        model = small_network()
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        history = train.fit(model, (x, y), (x[:20], y[:20]), optimizer=optimizer, epochs=4, batch_size=16, progress=False, compile=compile)
        curves.append(history.rows)
    for a, b in zip(*curves, strict=True):
        assert (a["loss"], a["accuracy"]) == (b["loss"], b["accuracy"])
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-5)  # there a batch norm is part of its convolution


def test_whole_numbers_that_steer_the_calls_are_noticed():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 3, rng=0)

        def forward(self, ids):
            y = self.table(ids)
            return F.relu(y) if np.asarray(ids)[0, 0] > 2 else F.tanh(y)

    predict, ids = cnnpy.compile(Odd()), np.array([[4, 1]])
    with pytest.warns(RuntimeWarning, match="the model called relu_forward the first time and tanh_forward the second"):
        first = predict(ids)
    assert first.min() >= 0
    np.testing.assert_allclose(predict(ids[:, ::-1]), np.tanh(predict.model.table.weight._data[[1, 4]])[None], rtol=1e-6)


def test_a_model_that_refuses_other_numbers_runs_eagerly():
    class Roots(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2, rng=0)

        def forward(self, x):
            if np.asarray(x).min() < 0:
                raise ValueError("x must not be negative")
            return self.linear(x)

    x = np.ones((1, 2), np.float32)
    predict = cnnpy.compile(Roots())
    with pytest.warns(RuntimeWarning, match="it refuses other numbers"):
        first = predict(x)
    np.testing.assert_array_equal(predict(x), first)
    with pytest.raises(ValueError, match="x must not be negative"):
        predict(-x)


def test_several_results_run_eagerly():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 3, rng=0)

        def forward(self, x):
            y = self.linear(x)
            return y, F.tanh(y)

    model, x, y = Two(), np.ones((2, 2), np.float32), np.array([0, 2])
    step = cnnpy.compile_step(model, lambda result, target: F.cross_entropy(result[1], target), sgd(model.parameters()))
    with pytest.warns(RuntimeWarning, match="the model's result is not one Tensor"):
        losses = [step(x, y) for _ in range(3)]
    assert losses[2] < losses[0]
    assert len(step.output) == 2


def test_weights_in_another_memory_order_are_not_folded():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, rng=0), nn.BatchNorm2d(4))
    wide = np.random.default_rng(0).standard_normal((4, 2, 3, 6)).astype(np.float32)
    model[0].weight.data = wide[..., ::2]
    assert not model[0].weight._data.flags.c_contiguous
    x = np.random.default_rng(1).standard_normal((2, 2, 7, 7)).astype(np.float32)
    predict = cnnpy.compile(model)
    model.eval()
    for _ in range(2):
        np.testing.assert_allclose(predict(x), model(x)._data, rtol=1e-5, atol=1e-6)
    assert predict.program.folds == []


def entries(program):
    return [line.entry.name for line in program.lines]


CONVOLUTIONS = {
    "wide": lambda: nn.Conv2d(40, 70, 3, padding=1, rng=0),
    "pointwise": lambda: nn.Conv2d(40, 70, 1, rng=0),
    "grouped": lambda: nn.Conv2d(40, 60, 3, groups=4, stride=2, rng=0),
    "many channels": lambda: nn.Sequential(nn.Conv2d(40, 520, 1, rng=0), nn.Conv2d(520, 33, 3, padding=1, rng=1)),
    "depthwise": lambda: nn.Conv2d(40, 40, 3, groups=40, rng=0),
    "few filters": lambda: nn.Conv2d(40, 2, 3, rng=0),
    "gaps": lambda: nn.Conv2d(40, 70, 3, padding=2, dilation=2, rng=0),
    "wide groups": lambda: nn.Conv2d(40, 60, 3, padding=1, groups=2, rng=0),
    "one row": lambda: nn.Conv2d(40, 70, (1, 3), padding=(0, 1), rng=0),
    "windows of five": lambda: nn.Conv2d(40, 70, 5, padding=2, rng=0),
}


@pytest.mark.parametrize("order", ["C", "channels-last"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_packed_weights(name, order, isa):
    """Packed weights give the bits that weights as they are give, and follow a refresh."""
    model = CONVOLUTIONS[name]()
    predict = cnnpy.compile(model)
    for n, size in ((1, 9), (3, 30)):
        x = RNG(n).standard_normal((n, 40, size, size)).astype(np.float32)
        with cnnpy.no_grad():
            right = model(F.channels_last(x) if order == "channels-last" else x)._data
        for _ in range(3):
            np.testing.assert_array_equal(predict(x), right)
    taken = [line.array("w")[0] in predict.program._packed for line in predict.program.lines if line.entry.name == "conv_forward"]
    assert all(taken) == (name not in ("depthwise", "few filters")) and (predict.memory()["packed"] > 0) == any(taken)
    for p in model.parameters():
        p.data = p.data * 2
    predict.refresh()
    with cnnpy.no_grad():
        np.testing.assert_array_equal(predict(x), model(x)._data)


@pytest.mark.parametrize("channels, size", [(32, 20), (256, 6)])
def test_packed_weights_of_planes(channels, size, isa):
    """Small weights are transformed once, large ones a slice at a time."""
    model = nn.Conv3d(channels, channels, 3, padding=1, rng=0)
    predict, x = cnnpy.compile(model), RNG(0).standard_normal((1, channels, 3, size, size)).astype(np.float32)
    with cnnpy.no_grad():
        right = model(x)._data
    for _ in range(3):
        np.testing.assert_array_equal(predict(x), right)
    assert predict.memory()["packed"] > 0


def test_weights_packed_for_another_instruction_set_are_refused():
    from cnnpy.functional.runtime import config, instruction_set

    others = [name for name in config()["supported"] if name != config()["isa"]]
    if not others:
        pytest.skip("this machine has one instruction set")
    predict, x = cnnpy.compile(nn.Conv2d(16, 16, 3, rng=0)), np.ones((1, 16, 8, 8), np.float32)
    right = predict(x)
    with instruction_set(others[0]):
        with pytest.raises(RuntimeError, match=r"not packed for this instruction set; refresh\(\) packs them anew"):
            predict(x)
        predict.refresh()
        np.testing.assert_allclose(predict(x), right, rtol=1e-5, atol=1e-5)
    with pytest.raises(RuntimeError, match="not packed for this instruction set"):
        predict(x)


def test_convolutions_add_to_residuals_and_gradients():
    """In float32, where 3x3 convolutions are Winograd's."""
    x, y = images(4, 3, 32)
    model = models.resnet18(num_classes=10, small_input=True, rng=0).eval()
    predict = cnnpy.compile(model)
    with cnnpy.no_grad():
        right = model(x)._data
    for _ in range(3):
        np.testing.assert_allclose(predict(x), right, rtol=1e-3, atol=1e-3 * np.abs(right).max())
    assert "binary" not in entries(predict.program)
    assert sum(line.onto is not None for line in predict.program.lines) == 8  # a sum a block
    _, step = assert_same(lambda: models.resnet20(rng=0), sgd, F.cross_entropy, [(x, y)] * 4, 1e-3)
    added = [line for line in step.program.lines if line.onto is not None]
    assert len(added) >= 6 and {line.entry.name for line in added} == {"conv_backward_input"}


def test_a_refresh_that_fails_leaves_no_stale_weights(monkeypatch):
    model, x = nn.Conv2d(16, 16, 3, rng=0), np.ones((1, 16, 8, 8), np.float32)
    predict = cnnpy.compile(model)
    predict(x)
    model.weight.data = model.weight.data * 2

    def fails(*given):
        raise MemoryError("no memory for scratch")

    with monkeypatch.context() as m:
        m.setattr(cnnpy._core, "program_prepare", fails)
        with pytest.raises(MemoryError):
            predict.refresh()
    with cnnpy.no_grad():
        np.testing.assert_array_equal(predict(x), model(x)._data)


def test_a_convolution_that_reads_what_it_would_add_to():
    """y = conv(x) + x: the convolution may not overwrite the array that it still reads."""
    model = nn.Sequential(nn.Conv2d(4, 16, 1, rng=0), nn.ReLU(), nn.Residual(nn.Conv2d(16, 16, 3, padding=1, rng=1)), nn.ReLU())
    x = RNG(0).standard_normal((2, 4, 9, 9)).astype(np.float32)
    predict = cnnpy.compile(model)
    with cnnpy.no_grad():
        right = model(x)._data
    for _ in range(3):
        np.testing.assert_allclose(predict(x), right, rtol=1e-5, atol=1e-5)
    assert all(line.onto is None for line in predict.program.lines)


def test_a_residual_that_is_read_later_stays():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(16, 16, 3, padding=1, rng=i) for i in range(3))

        def forward(self, x):
            u = F.relu(self.a(x))
            return self.c(F.relu(self.b(u) + u)) + u

    model, x = Twice(), RNG(0).standard_normal((2, 16, 9, 9)).astype(np.float32)
    predict = cnnpy.compile(model)
    with cnnpy.no_grad():
        right = model(x)._data
    for _ in range(3):
        np.testing.assert_allclose(predict(x), right, rtol=1e-5, atol=1e-5)
