"""What is rarely done with the package, and what it then does: forms of arguments, damaged runs, arrays that lie oddly, models that change between calls."""

import argparse
import contextlib
import json
import re
import signal
import sys

import numpy as np
import pytest

import cnnpy
from cnnpy import cli, data, models, nn, optim, plot, tools, train
from cnnpy import functional as F
from cnnpy import io as cio
from cnnpy.data.fetch import FETCHED
from cnnpy.io.atomic import atomic_write, sweep
from cnnpy.train.run import load_data

with contextlib.suppress(ImportError):
    import matplotlib.pyplot  # noqa: F401  (whole before a test says that it is missing)

X = np.arange(72, dtype=np.float32).reshape(1, 2, 6, 6)


def test_maxima_of_integers_and_of_axes_apart(rng):
    assert F.array.max(np.array([[3, 9], [7, 1]]), axis=1).tolist() == [9, 7]
    y, cache = F.array.max(np.array([3, 9]), return_cache=True)
    assert y == 9 and cache is None
    x = rng.permutation(24).reshape(2, 3, 4).astype(np.float32)
    y = F.array.max(x, axis=(0, 2))
    dx = F.array.max_backward(np.array([1, 2, 3], np.float32), x, axis=(0, 2)).x
    np.testing.assert_array_equal(y, x.max((0, 2)))
    np.testing.assert_array_equal(dx, (x == y[:, None]) * np.array([1, 2, 3])[:, None])


def test_gradients_of_integers_where_they_were_read():
    dx = F.array.getitem_backward(np.array([[5, 6]]), np.zeros((3, 2), int), index=(slice(1, 2),)).x
    assert dx.tolist() == [[0, 0], [5, 6], [0, 0]] and dx.dtype.kind == "i"


def test_operands_that_do_not_fit_are_named_by_numpy():
    with pytest.raises(ValueError, match="could not be broadcast"):
        F.array.add(np.ones((2, 3), np.float32), np.ones((2, 4), np.float32))


def test_running_statistics_of_another_dtype(rng):
    x = rng.standard_normal((4, 3, 5, 5)).astype(np.float32)
    kept = [(np.zeros(3, t), np.ones(3, t)) for t in (np.float32, np.float64)]
    for mean, var in kept:
        F.batch_norm(x, mean, var, training=True, momentum=0.3)
    np.testing.assert_allclose(kept[0][0], kept[1][0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(kept[0][1], kept[1][1], rtol=1e-6)
    mean = np.zeros(3)
    F.batch_norm(x, mean, None, training=True, momentum=0.3)
    np.testing.assert_array_equal(mean, kept[1][0])


def test_tensors_from_tensors_and_without_a_record():
    t = cnnpy.Tensor(cnnpy.Tensor([1.0, 2.0]), requires_grad=True)
    assert t.data.tolist() == [1, 2] and t.backward_program() == "(nothing recorded)"
    t.backward(np.array([3.0, 4.0]))
    t.backward(cnnpy.Tensor([1.0, 1.0]))
    assert t.grad.tolist() == [4, 5]
    y = F.relu(x=t)  # the only tensor is given by name
    y.backward(np.ones(2))
    assert t.grad.tolist() == [5, 6]


def test_running_statistics_in_every_other_place(rng):
    x = rng.standard_normal((4, 3, 5)).astype(np.float32)
    dense, apart = [np.zeros(3, np.float32), np.ones(3, np.float32)], [np.zeros(6, np.float32)[::2], np.ones(6, np.float32)[::2]]
    for kept in (dense, apart):
        F.batch_norm(x, *kept, training=True, momentum=0.25)
    for one, other in zip(dense, apart, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_gradients_with_their_indices_unused(rng):
    x = rng.standard_normal((1, 2, 6, 6)).astype(np.float32)
    dy = np.ones((1, 2, 2, 2), np.float32)
    alone = F.adaptive_max_pool2d_backward(dy, x, 2).x
    np.testing.assert_array_equal(alone, F.adaptive_max_pool2d_backward((dy, None), x, 2, return_indices=True).x)
    assert alone.sum() == 8


def test_parameters_and_gradients_that_lie_oddly():
    layer = nn.Linear(3, 2, rng=0)
    want = layer.weight.data - 0.5
    layer.weight.data = np.asfortranarray(layer.weight.data)
    layer.weight._data = np.asfortranarray(layer.weight.data)
    layer.weight.grad = np.ones((2, 3), np.float32)
    optim.SGD([layer.weight], lr=0.5).step()
    np.testing.assert_array_equal(layer.weight.data, want)
    layer.weight.grad = np.asfortranarray(np.full((2, 3), 2, np.float32))
    assert optim.clip_grad_norm([layer.weight], 1.0) == pytest.approx(np.sqrt(24))
    np.testing.assert_allclose(np.linalg.norm(layer.weight.grad), 1, rtol=1e-4)
    given = np.full((2, 3), 2, np.float32)
    given.flags.writeable = False
    layer.weight.grad = given
    assert optim.clip_grad_norm([layer.weight], 1.0) == pytest.approx(np.sqrt(24))
    assert (given == 2).all() and np.linalg.norm(layer.weight.grad) == pytest.approx(1, rel=1e-4)


def test_base_classes_say_that_they_are_bases():
    base = optim.Optimizer.__new__(optim.Optimizer)
    with pytest.raises(NotImplementedError):
        base._update(None, {}, {})
    with pytest.raises(NotImplementedError):
        base.numbers({}, {})
    with pytest.raises(NotImplementedError):
        optim.schedules.Schedule(optim.SGD(nn.Linear(2, 2, rng=0).parameters(), lr=0.1))


def test_descriptions():
    assert "stride=2, front=1, behind=1" in repr(nn.Subsample(2, 4, 2))
    assert "3, 4, " in repr(nn.ConvLSTM2d(3, 4, 3, rng=0)) and repr(nn.MaxUnpool2d(2)) == "MaxUnpool2d(kernel_size=2)"
    assert "2 samples of shape (3,) float32" in repr(data.ArrayDataset(np.zeros((2, 3), np.float32), np.zeros(2, int)))
    assert "conv2d" in repr(F.conv2d.operation) and {"nn", "compile", "data"} <= set(dir(cnnpy))
    assert "right: cross-correlation without padding" in repr(tools.check_example([1, 2, 3], [1, 1], [3, 5]))
    layers = nn.Sequential(nn.ReLU(), nn.Tanh())
    assert [type(m) for m in layers.children()] == [nn.ReLU, nn.Tanh]
    assert repr(nn.AdditiveAttention(3, 4, 5, rng=0)) == "AdditiveAttention(3, 4, 5)"
    small = nn.Subsample(2, 2, 2)(X)
    np.testing.assert_array_equal(small, X[:, :, ::2, ::2])


def test_steps_of_planes_with_axes_of_length_one():
    for padding in ("full", "same"):
        steps = tools.slide_steps(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), padding=padding)
        want = F.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), padding=padding)[0, 0]
        np.testing.assert_array_equal(steps.output, want)
    with pytest.raises(ValueError, match=r"expected \(H, W\)"):
        tools.slide_steps(np.ones((2, 3, 4)), np.ones((3, 3)))


class Moody(nn.Module):
    """Another computation at each call."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls, self.kind = nn.Linear(3, 3, rng=0), 0, ""
        self.register_buffer("seen", np.zeros(1, np.float32))

    def forward(self, x):
        self.calls += 1
        y = self.layer(x)
        if self.kind == "more":
            for _ in range(self.calls):
                y = F.relu(y)
        elif self.kind == "other":
            y = F.relu(y) if self.calls % 2 else F.tanh(y)
        elif self.kind == "numbers":
            y = F.leaky_relu(y, negative_slope=0.1 * self.calls)
        elif self.kind == "buffer":
            self.seen[...] = self.calls
        elif self.kind == "pair":
            return y, y
        return y


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("more", "calls of kernels the first time"),
        ("other", "the first time and"),
        ("numbers", "the numbers of leaky_relu_forward change from call to call"),
        ("buffer", "seen is changed outside the recorded operations"),
    ],
)
def test_models_that_change_between_calls(kind, cause):
    """One warning that names the cause; results are those of the eager model."""
    made, eager = Moody(), Moody()
    made.kind = eager.kind = kind
    step = cnnpy.compile_step(made, F.mse_loss, optim.SGD(made.parameters(), lr=0.1))
    other = optim.SGD(eager.parameters(), lr=0.1)
    x, y = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    with pytest.warns(RuntimeWarning, match=cause):
        for _ in range(4):
            other.zero_grad()
            loss = F.mse_loss(eager(x), y)
            loss.backward()
            other.step()
            assert step(x, y) == pytest.approx(loss.item(), rel=1e-6)
    np.testing.assert_allclose(made.layer.weight.data, eager.layer.weight.data, rtol=1e-6)
    with pytest.raises(RuntimeError, match="there is no program to time"):
        step.profile(x, y)


def test_a_program_takes_arrays_of_its_shape_only():
    model = cnnpy.compile(nn.Sequential(nn.Linear(3, 2, rng=0), nn.ReLU()).eval())
    x = np.ones((4, 3), np.float32)
    for _ in range(3):
        y = model(x)
    (made,) = (p for p in model._programs.values() if p)
    with pytest.raises(ValueError, match=r"compiled program: .* is float32 \(5, 3\), expected float32 \(4, 3\)"):
        made.program.bind(0, np.ones((5, 3), np.float32))
    np.testing.assert_array_equal(model(x), y)
    first = model.model[0]
    first.weight._data = np.asfortranarray(first.weight.data)  # it lies otherwise: the program is made anew
    np.testing.assert_allclose(model(x), y, rtol=1e-6)


def test_a_profile_adds_up():
    """Microseconds of the lines, their shares, and the sums by kind say the same as the total."""
    model = cnnpy.compile(nn.Sequential(nn.Conv2d(3, 8, 3, rng=0), nn.ReLU(), nn.Conv2d(8, 8, 3, rng=0), nn.Tanh()).eval())
    x = np.ones((2, 3, 16, 16), np.float32)
    model(x)
    text = str(model.profile(x)).splitlines()
    whole = next(i for i, line in enumerate(text) if line.endswith(" ms in all"))
    total = float(text[whole].split()[0]) * 1e3
    lines = [re.search(r"([\d.]+) us +([\d.]+) %", line) for line in text[:whole]]
    kinds = [re.search(r"([\d.]+) ms +([\d.]+) %", line) for line in text[whole + 1 :]]
    rounded = 0.05  # microseconds at most that a printed time is off, lines and sums alike, and percent that a share is
    assert len(lines) >= 2 and sum(float(m[1]) for m in lines) == pytest.approx(total, abs=rounded * (len(lines) + 1.1))
    assert sum(float(m[1]) for m in kinds) * 1e3 == pytest.approx(total, abs=rounded * (len(kinds) + 1.1))
    for found in (lines, kinds):
        assert sum(float(m[2]) for m in found) == pytest.approx(100, abs=rounded * (len(found) + 0.1))
    for m in lines:
        assert float(m[2]) == pytest.approx(100 * float(m[1]) / total, abs=1.1 * rounded + 2.1 * rounded * 100 / total)


def test_interrupts_stay_what_others_made_of_them():
    """Where Python does not handle SIGINT a step changes nothing about it."""
    model = nn.Linear(3, 1, rng=0)
    step = cnnpy.compile_step(model, F.mse_loss, optim.SGD(model.parameters(), lr=0.1))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for _ in range(3):
            assert np.isfinite(step(np.ones((2, 3), np.float32), np.zeros((2, 1), np.float32)))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_early_stopping_goes_on_where_it_stopped():
    from cnnpy.train.callbacks import EarlyStopping

    class Trainer:
        history = train.History([{"epoch": 1, "val_loss": 1.0}, {"epoch": 2, "val_loss": 2.0}, {"epoch": 3}])

    stop = EarlyStopping(patience=2)
    stop.on_train_begin(Trainer)
    assert stop.best == 1.0 and stop.waited == 1


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rare") / "shapes"
    options = ["--optimizer", "sgd", "--threads", "1", "--epochs", "1", "--quiet", "--out", str(folder)]
    threads = cnnpy.num_threads()
    assert cli.main(["train", "lenet5", "--data", "shapes", *options]) == 0
    cnnpy.set_num_threads(threads)
    return folder


def test_a_run_with_the_other_optimizer(run):
    recipe = json.loads((run / "config.json").read_text())
    assert "sgd" in json.dumps(recipe) and "0.05" in json.dumps(recipe)


def test_commands_on_the_wrong_run(run, capsys, monkeypatch):
    assert cli.main(["sample", str(run), "--prompt", "a"]) == 1
    assert "holds a lenet5, expected a char_lstm" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["report", str(run)]) == 1
    assert "needs matplotlib" in capsys.readouterr().err


def test_damaged_runs(run, tmp_path, capsys):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "history.csv").unlink()
    with pytest.raises(ValueError, match="no epoch of this run is over"):
        train.Run.open(copy).history()
    best = copy / "checkpoints" / "best.safetensors"
    if best.exists():
        best.unlink()
    assert cli.main(["test", str(copy)]) == 0  # the newest checkpoint serves
    config = json.loads((copy / "config.json").read_text())
    config["model"] = "lenet6"
    (copy / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert cli.main(["test", str(copy)]) == 1
    assert "lenet6" in capsys.readouterr().err


def test_the_command_line_passes_on_and_stops(monkeypatch, capsys):
    from cnnpy import bench

    given = []
    monkeypatch.setattr(bench, "run", lambda name, against, thread_counts: given.append((name, against, thread_counts)))
    assert cli.main(["bench", "conv", "--against", "torch,openvino", "--threads", "1", "2"]) == 0
    assert given == [("conv", ["torch", "openvino"], [1, 2])]

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "run", interrupted)
    assert cli.main(["bench"]) == 1 and "stopped" in capsys.readouterr().err
    for text in ("61", "-1", "soon"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a number of seconds from 0 to 60"):
            cli._seconds(text)
    assert cli._seconds("0.5") == 0.5


def test_where_downloads_are_kept(monkeypatch, tmp_path):
    from cnnpy.data.fetch import _cache

    monkeypatch.delenv("CNNPY_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _cache() == tmp_path / "cnnpy"
    monkeypatch.setenv("CNNPY_DATA", str(tmp_path / "own"))
    assert _cache() == tmp_path / "own"


def test_summaries_for_a_given_input(capsys):
    assert cli.main(["summary", "resnet20", "--input", "3,64,48"]) == 0
    given = capsys.readouterr().out
    assert cli.main(["summary", "resnet20"]) == 0
    assert "64, 48" in given or "64x48" in given
    assert given != capsys.readouterr().out


def test_data_by_name(monkeypatch, tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn comes with the digits extra")
    assert len(load_data("digits", "test")) > 100
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "fetch", lambda name: asked.append(name) or tmp_path)
    for name in ("mnist", "cifar10"):
        if name in FETCHED:
            with pytest.raises(ValueError, match=str(tmp_path)):
                load_data(name, "train")
    assert asked == ["mnist", "cifar10"]


def test_missing_libraries_are_named(monkeypatch, tmp_path):
    from cnnpy.train.run import read_image

    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"predict: needs pillow; install it with: pip install 'cnnpy\[train\]'"):
        read_image(tmp_path / "a.png", (1, 8, 8))
    with pytest.raises(ImportError, match=r"needs (pillow|matplotlib)"):
        plot.kernel_slide(X[0, 0], np.ones((3, 3))).save(tmp_path / "a.gif")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    cio.save({"x": X}, tmp_path / "x.safetensors")
    with pytest.raises(ImportError, match="load: needs safetensors"):
        cio.load(tmp_path / "x.safetensors")
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    model = nn.Linear(3, 2, rng=0)
    with pytest.raises(ImportError, match="the progress bar needs tqdm"):
        train.fit(
            model,
            (np.zeros((4, 3), np.float32), np.zeros(4, int)),
            optimizer=optim.SGD(model.parameters(), lr=0.1),
            epochs=1,
            progress=True,
        )


def test_pictures_in_other_forms(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib comes with the plot extra")
    slide = plot.kernel_slide(X[0, 0], np.ones((3, 3)))
    assert "Slide(" in repr(slide)
    assert slide.save(tmp_path / "a.png").stat().st_size > 1000
    from matplotlib.animation import writers

    monkeypatch.setattr(writers, "is_available", lambda name: False)
    with pytest.raises(RuntimeError, match="needs the program ffmpeg"):
        slide.save(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=r"path ends in '\.bmp'"):
        slide.save(tmp_path / "a.bmp")
    with pytest.raises(ValueError, match=r"weights has shape \(3,\), expected \(L, S\)"):
        plot.attention(np.zeros(3))
    plot.lstm_gates(nn.LSTM(3, 4, rng=0), np.zeros((5, 3), np.float32))
    plot.gradient_flow(np.array([1.0, 0.5, 0.25]))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(72, 3, rng=0))
    assert len(plot.saliency(linear, X).images) == len(plot.saliency(linear, X[0]).images) > 0
    with pytest.raises(ValueError, match=r"source has shape \(2, 2\), expected norms along one axis"):
        plot.gradient_flow(np.ones((2, 2)))
    model = cnnpy.compile(nn.Sequential(*(nn.Linear(3, 3, rng=0) if i % 2 else nn.Tanh() for i in range(9))))
    for _ in range(3):
        model(np.ones((2, 3), np.float32))
    assert len(plot.computation(model, most=4).texts) < len(plot.computation(model).texts)


def test_temporary_files_of_killed_writers(tmp_path):
    (tmp_path / ".a.1-0.tmp").write_bytes(b"x")
    (tmp_path / "a.tmp").write_bytes(b"kept")
    (tmp_path / ".b.1-0.tmp").symlink_to(tmp_path / "nowhere")
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.1-0.tmp", "a.tmp"]
    atomic_write(tmp_path / "c", [b"12", b"3"])
    assert (tmp_path / "c").read_bytes() == b"123"


def test_weights_files_that_are_something_else(tmp_path):
    path = tmp_path / "w.safetensors"

    def write(header, body=b""):
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + body)

    write({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, bytes(4))
    with pytest.raises(ValueError, match=r"holds bfloat16 arrays \(a, ...\), which NumPy lacks"):
        cio.load(path)


@pytest.mark.parametrize(
    ("build", "options"),
    [
        ("lenet5", {}),
        ("alexnet", {"small_input": True}),
        ("vgg16", {"small_input": True}),
        ("resnet20", {}),
        ("char_lstm", {"num_classes": 5}),
        ("unet_small", {}),
    ],
)
def test_models_with_weights_of_something_else(build, options, tmp_path):
    cio.save({"other": X}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"no tensor of .* has a name and shape of this model"):
        getattr(models, build)(**options, weights=tmp_path / "w.safetensors", rng=0)


def test_weights_of_a_scalar_and_of_other_numbers():
    from cnnpy.functional._new import duplicate
    from cnnpy.nn import init

    scalar = np.zeros(())
    assert init.uniform_(scalar, 2.0, 3.0, rng=0) is scalar and 2 <= scalar <= 3
    whole = np.arange(3)
    copy = duplicate(whole)
    assert copy is not whole and copy.dtype == whole.dtype and (copy == whole).all()


def test_directions_of_different_sizes():
    x, w = np.ones((4, 2, 3), np.float32), [np.ones(s, np.float32) for s in ((20, 3), (20, 5), (24, 3), (24, 6))]
    with pytest.raises(ValueError, match=r"lstm: w_ih of weights\[1\] has 24 rows, expected 20 as in weights\[0\]"):
        F.lstm(x, [(w[0], w[1]), (w[2], w[3])], bidirectional=True)


def test_a_program_with_a_table_describes_it():
    model = nn.Sequential(nn.Embedding(7, 3, rng=0), nn.Linear(3, 2, rng=0))
    program = cnnpy.compile(model)
    program(np.array([[1, 2, 6, 0]]))
    assert "4 of 7x3" in str(program)


def test_statistics_that_were_replaced_are_those_of_the_program():
    """A compiled step goes on with the arrays that the model has now."""
    results = []
    for way in (True, False):
        model = nn.Sequential(nn.Conv2d(1, 4, 3, rng=0), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 3, rng=0))
        step = cnnpy.compile_step(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1))
        x, y = np.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(np.float32), np.arange(5) % 3
        for _ in range(3):
            step(x, y)
        assert step.program is not None
        if way:
            norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
            norm.running_mean = norm.running_mean.copy()
        step(x, y)
        results.append([np.array(a) for a in model.state_dict().values()])
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_a_plateau_lowers_the_rate_in_a_run():
    model = nn.Sequential(nn.Linear(4, 3, rng=0))
    optimizer = optim.SGD(model.parameters(), lr=1e-9)
    schedule = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.1)
    train.fit(model, (np.ones((6, 4), np.float32), np.arange(6) % 3), optimizer=optimizer, schedule=schedule, epochs=4, progress=False)
    assert optimizer.param_groups[0]["lr"] < 1e-9


def test_a_moving_kernel_without_the_program_for_films(tmp_path, monkeypatch):
    animation = pytest.importorskip("matplotlib.animation", reason="it comes with the plot extra")
    monkeypatch.setattr(animation.writers, "is_available", lambda name: False)
    slide = plot.kernel_slide(np.arange(25.0).reshape(5, 5), np.ones((3, 3)))
    with pytest.raises(RuntimeError, match=r"plot\.kernel_slide: \.mp4 needs the program ffmpeg"):
        slide.save(tmp_path / "k.mp4")
    assert not list(tmp_path.iterdir())


def test_an_installation_without_lessons(tmp_path, monkeypatch):
    from cnnpy.cli import notebooks  # here: the module of notebooks

    monkeypatch.setattr(notebooks, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    with pytest.raises(FileNotFoundError, match="has no lessons; install it again"):
        notebooks.lessons()
