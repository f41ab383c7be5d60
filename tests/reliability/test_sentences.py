"""Refusals of everything that is no registered function with a row in cases.py: the class, and a sentence that says what came and what was expected."""

import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

import cnnpy
from cnnpy import data, models, nn, optim, tools
from cnnpy import functional as F
from cnnpy.nn import init
from cnnpy.optim import schedules

X = np.zeros((1, 2, 6, 6), np.float32)
LSTM = nn.LSTM(3, 4, rng=0)
LINEAR = nn.Linear(2, 2, rng=0)


def sgd():
    return optim.SGD(nn.Linear(2, 2, rng=0).parameters(), lr=0.1)


REFUSED = {
    "matmul of other lengths": (lambda: F.array.matmul(np.zeros((2, 3)), np.zeros((2, 3))), ValueError, r"matmul: a has shape \(2, 3\) and b \(2, 3\)"),
    "matmul of other batches": (lambda: F.array.matmul(np.zeros((2, 3, 4)), np.zeros((3, 4, 5))), ValueError, "matmul: the leading axes"),
    "sum over a string": (lambda: F.array.sum(X, axis="x"), TypeError, "axis is 'x', expected integers or None"),
    "sum over axis 9": (lambda: F.array.sum(X, axis=9), ValueError, r"axis 9 is out of range for shape \(1, 2, 6, 6\)"),
    "sum over an axis twice": (lambda: F.array.sum(X, axis=(1, 1)), ValueError, "expected different axes"),
    "power of a string": (lambda: F.array.power(X, exponent="2"), TypeError, "power: exponent is str"),
    "in-place change of a result": (lambda: in_place(), RuntimeError, "cannot be changed in place"),
    "area of too few axes": (lambda: F.interpolate(X[0, 0], size=2, mode="area"), ValueError, "one to three spatial axes"),
    "area with corners": (lambda: F.interpolate(X, size=2, mode="area", align_corners=True), ValueError, "align_corners is True, expected False"),
    "area without size": (lambda: F.interpolate(X, mode="area"), ValueError, "size is None and scale_factor None, expected one of them"),
    "area by three factors": (lambda: F.interpolate(X, scale_factor=(1, 2, 3), mode="area"), ValueError, "expected one number above 0 or 2"),
    "pixel_shuffle of 2 channels": (lambda: F.pixel_shuffle(X, 2), ValueError, r"x has 2 channels, expected a multiple of factor\^2 = 4"),
    "pixel_unshuffle of 6 by 4": (lambda: F.pixel_unshuffle(X, 4), ValueError, "multiples of the factor 4"),
    "batch_norm into read-only": (lambda: batch_norm_read_only(), ValueError, "running_mean is read-only"),
    "batch_norm with a string": (lambda: F.batch_norm(X, np.zeros(2), np.ones(2), training=True, momentum="a"), TypeError, "momentum is str"),
    "batch_norm with momentum 2": (lambda: F.batch_norm(X, np.zeros(2), np.ones(2), training=True, momentum=2), ValueError, "from 0 to 1"),
    "instance_norm of one cell": (lambda: F.instance_norm(X[:, :, :1, :1]), ValueError, "expected more than one cell a channel"),
    "dropout of a string": (lambda: F.dropout(X, p="a", training=False), TypeError, "p is str, expected a real number"),
    "dropout by a list": (lambda: F.dropout(X, p=0.5, training=True, rng=[1]), TypeError, "rng is list"),
    "dropout by -1": (lambda: F.dropout(X, p=0.5, training=True, rng=-1), ValueError, "rng is -1, expected at least 0"),
    "dropout training 1": (lambda: F.dropout(X, p=0.5, training=1), TypeError, "training is int, expected True or False"),
    "one_hot of floats": (lambda: F.one_hot([0.5], 3), TypeError, "indices has dtype float64"),
    "one_hot classes": (lambda: F.one_hot([0], 2.0), TypeError, "num_classes is float"),
    "one_hot of none": (lambda: F.one_hot([0], 0), ValueError, "num_classes is 0"),
    "max_pool2d indices": (lambda: F.max_pool2d(X, 2, return_indices=1), TypeError, "return_indices is int"),
    "lstm proj_size": (lambda: F.lstm(X[0], [], proj_size=0.5), TypeError, "proj_size is float"),
    "lstm proj_size -1": (lambda: F.lstm(X[0], [], proj_size=-1), ValueError, "proj_size is -1"),
    "concatenated bias": (lambda: F.lstm_weights_from_concatenated(np.zeros((8, 5)), np.zeros(3)), ValueError, r"b has shape \(3,\), expected \(8,\)"),
    "to concatenated": (lambda: F.lstm_weights_to_concatenated(np.zeros((8, 5)), np.zeros((8, 3))), ValueError, "to_concatenated: w_ih has shape"),
    "rnn_cell nonlinearity": (lambda: nn.RNN(2, 3, nonlinearity="sine"), ValueError, "nonlinearity is 'sine', expected 'tanh' or 'relu'"),
    "rnn nonlinearity": (lambda: F.rnn(X[0], [], nonlinearity=3), TypeError, "nonlinearity is int, expected a string"),
    "losses of others": (lambda: F.mse_loss(X, X, delta=1.0), TypeError, "unexpected"),
    "Conv1d groups": (lambda: nn.Conv1d(4, 6, 3, groups=0), ValueError, "groups is 0, expected a divisor of 4 and 6"),
    "ConvTranspose2d groups": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=3), ValueError, "groups is 3, expected a divisor of 4 and 6"),
    "resnet variant": (lambda: models.resnet50(variant="v2"), ValueError, "resnet50: variant is 'v2', expected 'v1.5' or 'v1'"),
    "LSTM proj_size": (lambda: nn.LSTM(2, 3, proj_size=3), ValueError, "expected an int from 0 to hidden_size - 1"),
    "LSTM sizes": (lambda: nn.LSTM(0, 3), ValueError, "LSTM: input_size is 0, expected an int of at least 1"),
    "LSTMCell input": (lambda: nn.LSTMCell(2, 3)(np.zeros(5)), ValueError, r"LSTMCell: x has shape \(5,\), expected \(N, 2\)"),
    "needs as a string": (lambda: F.relu_backward(X, X, needs="x"), TypeError, "relu_backward: needs is a str, expected a tuple of names"),
    "LSTMCell width": (lambda: nn.LSTMCell(2, 3)(np.zeros((4, 5))), ValueError, r"expected \(12, 5\) because x has shape \(4, 5\)"),
    "GroupNorm groups": (lambda: nn.GroupNorm(3, 4), ValueError, "num_groups is 3, expected a divisor of num_channels 4"),
    "BatchNorm2d of a signal": (lambda: nn.InstanceNorm2d(2)(X[0]), ValueError, "x has 3 axes, expected 4"),
    "Conv2d groups": (lambda: nn.Conv2d(4, 6, 3, groups=4), ValueError, "groups is 4, expected a divisor of 4 and 6 channels"),
    "Subsample": (lambda: nn.Subsample(4, 2, 2), ValueError, "Subsample: 4 to 2 channels with stride 2"),
    "Concat of nothing": (lambda: nn.Concat(), ValueError, "Concat: no modules given"),
    "Concat of a function": (lambda: nn.Concat(F.relu), TypeError, "Concat: module 0 is"),
    "Residual that shrinks": (lambda: nn.Residual(nn.Conv2d(2, 2, 3))(X), ValueError, r"Residual: body gives shape \(1, 2, 4, 4\)"),
    "init gain": (lambda: init.gain("sine"), ValueError, "init.gain: nonlinearity is 'sine'"),
    "init of a vector": (lambda: init.xavier_normal_(np.zeros(3)), ValueError, r"init: the array has shape \(3,\)"),
    "kaiming mode": (lambda: init.kaiming_normal_(np.zeros((3, 3)), mode="fan"), ValueError, "mode is 'fan', expected 'fan_in' or 'fan_out'"),
    "optimizer option": (lambda: optim.SGD(LINEAR.parameters(), lr=0.1, speed=1), TypeError, "speed"),
    "optimizer group option": (lambda: optim.SGD([{"params": list(LINEAR.parameters()), "speed": 1}], lr=0.1), TypeError, "unexpected option 'speed'"),
    "optimizer nesterov": (lambda: optim.SGD(LINEAR.parameters(), lr=0.1, momentum=0.9, nesterov=1), TypeError, "nesterov is int, expected True or False"),
    "optimizer state of another": (lambda: other_state(), ValueError, r"SGD.load_state_dict: the groups have other sizes than \[2\]"),
    "optimizer state of other shapes": (lambda: other_shapes(), ValueError, "of parameter 0 has shape"),
    "schedule of a number": (lambda: schedules.StepLR(3, 2), TypeError, "optimizer is int, expected an Optimizer"),
    "schedule state": (lambda: schedules.StepLR(sgd(), 2).load_state_dict({"t": 1, "base": [1, 2]}), ValueError, "the state has 2 rates, expected 1"),
    "output_shape": (lambda: tools.output_shape((5, 6), (3, 3, 3)), ValueError, "expected one value or 2, one an axis"),
    "receptive_field": (lambda: tools.receptive_field(Unknown(), (1, 8, 8)), ValueError, "has parts whose order is not known"),
    "check_example axes": (lambda: tools.check_example([[1, 2]], [1], [1]), ValueError, "expected both with one axis or both with two"),
    "check_example of nothing": (lambda: tools.check_example([], [1], [1]), ValueError, "expected at least one cell"),
    "pool_steps": (lambda: tools.pool_steps(X[0, 0], 2, kind="mean"), ValueError, "kind is 'mean', expected 'max' or 'average'"),
    "lstm_steps": (lambda: tools.lstm_steps(LSTM, np.zeros((4, 2))), ValueError, r"x has shape \(4, 2\), expected \(T, 3\)"),
    "saliency of a batch": (lambda: tools.saliency(nn.Flatten(), np.zeros((2, 1, 3, 3))), ValueError, "expected one image"),
    "saliency of a map": (lambda: tools.saliency(nn.ReLU(), np.zeros((1, 1, 3, 3))), ValueError, r"expected \(1, classes\)"),
    "alexnet": (lambda: models.alexnet(variant="paper", small_input=True), ValueError, "small_input is True with variant='paper'"),
    "lenet5": (lambda: models.lenet5(pooling="min"), ValueError, "pooling is 'min', expected 'average' or 'max'"),
    "digits": (lambda: data.digits("both"), ValueError, "part is 'both', expected 'train' or 'test'"),
    "shapes": (lambda: data.shapes(3, size=5), ValueError, "size is 5, expected at least 12"),
    "windows": (lambda: data.windows(np.arange(9), 0), ValueError, "length is 0, expected an int of at least 1"),
    "series": (lambda: data.series("/nonexistent.csv"), ValueError, "series: /nonexistent.csv is not a file"),
    "ImageFolder": (lambda: data.ImageFolder("/nonexistent"), ValueError, "ImageFolder: /nonexistent is not a folder"),
    "ImageFolder size": (lambda: data.ImageFolder("/tmp", size=0), ValueError, r"size is 0, expected an int or \(height, width\)"),
    "write_idx": (lambda: data.write_idx("/nonexistent/x", np.zeros(3, complex)), TypeError, "the array has dtype complex128"),
    "write_idx of a scalar": (lambda: data.write_idx("/nonexistent/x", np.float32(1)), ValueError, "expected 1 to 8 axes"),
    "save of a number as name": (lambda: cnnpy.io.save({1: X}, "/nonexistent/x"), TypeError, "the name 1 is not usable"),
    "save with metadata": (lambda: cnnpy.io.save({"x": X}, "/nonexistent/x", metadata={"a": 1}), TypeError, "expected str to str"),
    "checkpoint keep": (lambda: cnnpy.train.Checkpoint("/tmp", keep=1.5), TypeError, "Checkpoint: keep is float, expected an integer"),
    "checkpoint every": (lambda: cnnpy.train.Checkpoint("/tmp", every=0), ValueError, "Checkpoint: every is 0, expected at least 1"),
    "17 axes": (lambda: F.relu(np.zeros((1,) * 17)), ValueError, "x has 17 dimensions, expected at most 16"),
    "a slope beyond float64": (lambda: F.leaky_relu(X, negative_slope=10**400), ValueError, "negative_slope is out of the range of a float64"),
    "a window for no axes": (lambda: F.max_pool2d(X, {}), TypeError, "kernel_size is dict, expected an integer or one integer an axis"),
    "a pool with full padding": (lambda: F.max_pool2d(X, 2, padding="full"), ValueError, "a pool pads at most half its window"),
    "a pool of no cells": (lambda: F.adaptive_avg_pool2d(X[:, :, :0], 2), ValueError, "x has 0 cells along axis 2, expected at least one"),
    "cropping all": (lambda: F.pad(X, ((-3, -3), (0, 0))), ValueError, r"pads \(-3, -3\) crop axis 2 of x to nothing: it has 6 cells"),
    "reflections of nothing": (lambda: F.pad(X[:, :, :0], ((1, 1), (0, 0)), mode="reflect"), ValueError, "which is empty: only constant padding is possible"),
    "a transposed convolution padded by a rule": (lambda: F.conv_transpose2d(X, np.zeros((2, 1, 3, 3)), padding="same"), ValueError, "padding is a rule, expected amounts"),
    "a transposed convolution of nothing": (lambda: F.conv_transpose2d(X[:, :, :0], np.zeros((2, 1, 3, 3))), ValueError, "expected axes of at least 1"),
    "a transposed convolution cropped to nothing": (lambda: F.conv_transpose2d(X[:, :, :1], np.zeros((2, 1, 1, 1)), padding=1), ValueError, "no output along axis 2"),
    "a kernel of no rows": (lambda: F.conv2d(X, np.zeros((1, 2, 0, 3))), ValueError, r"weight has shape \(1, 2, 0, 3\), expected a kernel of at least 1"),
    "a convolution around nothing": (lambda: F.conv2d(X[:, :, :0], np.zeros((1, 2, 1, 1)), padding=1, padding_mode="reflect"), ValueError, "cannot pad axis 2 of x, which is empty"),
    "interpolation of no image": (lambda: F.interpolate(np.zeros((2, 3)), size=4), ValueError, r"x has shape \(2, 3\), expected \(N, C, spatial\)"),
    "interpolation to nothing": (lambda: F.interpolate(X, scale_factor=0.1), ValueError, "no output along axis 2: 6 cells become 0"),
    "no classes": (lambda: F.cross_entropy(np.zeros((3, 0)), np.zeros(3, int)), ValueError, r"logits has shape \(3, 0\), expected at least one class along axis 1"),
    "a result that overlaps itself": (lambda: F.relu(X[0, 0], out=np.lib.stride_tricks.as_strided(np.zeros(6, np.float32), (6, 6), (0, 4))), ValueError, "out overlaps itself"),
    "an instruction set of another world": (lambda: cnnpy._core.choose_isa("sse9"), ValueError, "value is 'sse9', expected one of"),
    "maxima from another axis": (lambda: cnnpy._core.max_axis_backward(np.zeros((1, 1), np.float32), np.array([[7]]), 3), ValueError, "index holds 7, expected 0 to 2"),
    "a kernel of four thousand million cells": (lambda: F.unfold(np.broadcast_to(X[0, 0, 0, 0], (1, 1, 2**17, 2**17)), 2**16), ValueError, "kernel_size has more than 2147483647 cells"),
    "a window of four thousand million cells": (lambda: F.avg_pool2d(np.broadcast_to(X[0, 0, 0, 0], (1, 1, 2**17, 2**17)), 2**16), ValueError, "kernel_size has more than 2147483647 cells"),
    "an end without a beginning": (lambda: cnnpy._core.record_end(), RuntimeError, "this thread does not record"),
}  # fmt: skip


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = nn.Sequential()

    def forward(self, x):
        return x


def in_place():
    t = cnnpy.Tensor(np.ones(3), requires_grad=True)
    y = t * 2
    y[0] = 1.0


def batch_norm_read_only():
    mean = np.zeros(2)
    mean.flags.writeable = False
    F.batch_norm(X, mean, np.ones(2), training=True)


def other_state():
    sgd().load_state_dict({"groups": [{"params": [0]}], "state": {}})


def other_shapes():
    sgd().load_state_dict({"groups": [{"params": [0, 1]}], "state": {0: {"momentum": np.zeros(7)}}})


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, kind, sentence = REFUSED[name]
    with pytest.raises(kind, match=sentence) as raised:
        call()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["summary", "lenet5", "--input", "1,x"], "is not a shape like 1,28,28"),
        (["train", "lenet5", "--data", "digits", "--epochs", "none"], "is not an integer of at least 1"),
        (["train", "lenet5", "--data", "digits", "--lr", "fast"], "is not a learning rate above 0"),
    ],
    ids=lambda v: v[-1] if isinstance(v, list) else "",
)
def test_refused_by_the_command_line(arguments, sentence, capsys):
    from cnnpy.cli import main

    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2 and sentence in capsys.readouterr().err


def test_receptive_field_from_the_command_line(capsys):
    from cnnpy.cli import main

    assert main(["rf", "lenet5"]) == 0
    assert "Conv2d" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "attribute", "sentence"),
    [
        ("matplotlib", "plot.image_grid(np.zeros((1, 1, 2, 2)))", r"needs matplotlib; install it with: pip install 'cnnpy\[plot\]'"),
        ("sklearn", "data.digits()", r"needs scikit-learn; install it with: pip install 'cnnpy\[digits\]'"),
        ("mpi4py", "dist.MPIReducer()", r"install both with: pip install 'cnnpy\[mpi\]'"),
        ("pooch", "data.fetch('mnist')", r"needs pooch; install it with: pip install 'cnnpy\[data\]'"),
        ("PIL", "data.ImageFolder('.')[[0]]", r"needs pillow; install it with: pip install 'cnnpy\[data\]'"),
        ("safetensors", "io.load('x.safetensors')", r"needs safetensors; install it with: pip install 'cnnpy\[train\]'"),
        ("onnx", "io.export_onnx(nn.ReLU(), 'x.onnx', np.zeros((1, 2)))", r"needs onnx; install it with: pip install 'cnnpy\[onnx\]'"),
    ],
)
def test_an_extra_that_is_not_there(module, attribute, sentence, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "p.png").write_bytes(b"")
    (tmp_path / "x.safetensors").write_bytes(b"\0" * 8)
    code = f"""
import sys
sys.modules[{module!r}] = None
import numpy as np, cnnpy
from cnnpy import data, dist, io, nn, plot
try:
    {attribute}
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert re.search(sentence, done.stdout), done.stdout + done.stderr


def test_wrong_settings_of_the_environment(tmp_path):
    for name, value, sentence in (
        ("CNNPY_ISA", "avx1024", "avx1024"),
        ("CNNPY_NUM_THREADS", "many", "CNNPY_NUM_THREADS is 'many', expected a number of threads"),
    ):
        code = f"import os; os.environ[{name!r}] = {value!r}\ntry:\n    import cnnpy; cnnpy.get_num_threads()\nexcept ImportError as error:\n    print(error)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert sentence in done.stdout, done.stdout + done.stderr


def test_a_csv_of_bytes(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"a\n\xff\xfe\n")
    with pytest.raises(ValueError, match="is no CSV file"):
        data.series(tmp_path / "x.csv")


def test_schedules_resume():
    plateau = schedules.ReduceLROnPlateau(sgd(), patience=0)
    for loss in (1.0, 1.0, 1.0):
        plateau.step(loss)
    other = schedules.ReduceLROnPlateau(sgd(), patience=0)
    other.load_state_dict(pickle.loads(pickle.dumps(plateau.state_dict())))
    assert other.state_dict() == plateau.state_dict() and other.optimizer.lr == plateau.optimizer.lr < 0.1


def test_lecun_and_scalars():
    weight = init.lecun_uniform_(np.zeros((50, 12)), rng=0)
    assert 0.4 < np.abs(weight).max() <= 0.5
    assert init.ones_(np.zeros(())) == 1


def test_a_record_within_a_record():
    cnnpy._core.record_begin([])
    try:
        with pytest.raises(RuntimeError, match="record_begin: this thread records already"):
            cnnpy._core.record_begin([])
    finally:
        cnnpy._core.record_end()


def test_arrays_of_other_libraries():
    class Foreign:
        """Offers its numbers by the DLPack protocol alone."""

        def __init__(self, numbers):
            self.numbers = numbers

        def __dlpack__(self, **options):
            return self.numbers.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.numbers.__dlpack_device__()

    assert F.relu(Foreign(np.array([-1.0, 2.0]))).tolist() == [0, 2]


def test_the_names_of_entries():
    names = cnnpy._core.entry_names()
    assert len(set(names)) == len(names) > 80 and {"conv_forward", "array_copy"} <= set(names)


def test_batches_of_no_sequences_and_no_images():
    x = np.zeros((0, 4, 3), np.float32)
    layer = nn.LSTM(3, 5, batch_first=True, rng=0)
    y = layer(cnnpy.Tensor(x))
    (y[0] if isinstance(y, tuple) else y).sum().backward()
    assert all((p.grad == 0).all() for p in layer.parameters())
    norm = nn.BatchNorm2d(2)
    norm(cnnpy.Tensor(X[:0])).sum().backward()
    assert all((p.grad == 0).all() for p in norm.parameters())


def test_products_over_nothing_are_zeros():
    assert F.array.matmul(np.zeros((2, 0)), np.zeros((0, 3))).tolist() == [[0, 0, 0]] * 2
    assert F.linear_backward(np.zeros((2, 0)), np.ones((2, 3)), np.zeros((0, 3))).x.tolist() == [[0, 0, 0]] * 2
