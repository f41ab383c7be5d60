"""Networks out to ONNX, run by another library, and back in."""

import numpy as np
import pytest

from cnnpy import functional as F
from cnnpy import io, models, nn, optim

onnx = pytest.importorskip("onnx", reason="it comes with the onnx extra")
onnxruntime = pytest.importorskip("onnxruntime", reason="it comes with the onnx extra")

SMALL = {
    "lenet5": (models.lenet5, {}, (1, 28, 28)),
    "lenet5 relu max": (models.lenet5, {"activation": "relu", "pooling": "max"}, (1, 28, 28)),
    "alexnet small": (models.alexnet, {"small_input": True}, (3, 32, 32)),
    "vgg11 small": (models.vgg11, {"small_input": True, "batch_norm": True}, (3, 32, 32)),
    "resnet18 small": (models.resnet18, {"small_input": True}, (3, 32, 32)),
    "resnet50 small": (models.resnet50, {"small_input": True}, (3, 32, 32)),
    "resnet20": (models.resnet20, {}, (3, 32, 32)),
    "resnet20 B": (models.resnet20, {"shortcut": "B"}, (3, 32, 32)),
    "unet_small": (models.unet_small, {}, (3, 32, 32)),
}
LARGE = {
    **{
        name: (getattr(models, name), {}, (3, 224, 224))
        for name in ("alexnet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    },
    **{name: (getattr(models, name), {}, (3, 224, 224)) for name in ("vgg11", "vgg13", "vgg16", "vgg19")},
    "alexnet paper": (models.alexnet, {"variant": "paper"}, (3, 227, 227)),
    "resnet50 v1": (models.resnet50, {"variant": "v1"}, (3, 224, 224)),
}


def run(path, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})


def awaken(model, rng):
    """Running statistics and scales that are not those of a new network."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean[...] = rng.normal(0, 0.1, module.running_mean.shape)
            module.running_var[...] = rng.uniform(0.5, 1.5, module.running_var.shape)
            module.weight.data[...] = rng.uniform(0.5, 1.0, module.weight.shape)
    return model.eval()


def there_and_back(build, options, shape, path, rng):
    model = awaken(build(rng=0, **options), rng)
    io.export_onnx(model, path, (1, *shape))
    onnx.checker.check_model(str(path), full_check=True)
    x = rng.normal(size=(3, *shape)).astype(np.float32)  # the batch is free
    wanted = model(x).detach().numpy()
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(run(path, x)[0], wanted, rtol=0, atol=1e-4 * scale)
    again = io.import_onnx(path).eval()
    np.testing.assert_allclose(again(x).detach().numpy(), wanted, rtol=0, atol=1e-5 * scale)
    assert set(again.state_dict()) == {n for n in model.state_dict() if not n.endswith("num_batches_tracked")}
    return again


@pytest.mark.parametrize("name", SMALL)
def test_every_model(name, tmp_path, rng):
    there_and_back(*SMALL[name], tmp_path / "m.onnx", rng)


def test_every_large_model(tmp_path, rng, budget):
    for name in list(LARGE)[:: budget(quick=len(LARGE), full=1)]:
        there_and_back(*LARGE[name], tmp_path / "m.onnx", rng)


def test_what_is_imported_trains(tmp_path, rng):
    io.export_onnx(models.resnet20(num_classes=4, rng=0), tmp_path / "m.onnx", (2, 3, 32, 32))
    model = io.import_onnx(tmp_path / "m.onnx")
    before = {n: a.copy() for n, a in model.state_dict().items()}
    optimizer = optim.SGD(model.parameters(), 0.05)
    x, losses = rng.normal(size=(8, 3, 32, 32)).astype(np.float32), []
    for _ in range(5):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), np.arange(8) % 4)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = {n for n, a in model.state_dict().items() if not np.array_equal(a, before[n])}
    assert changed == set(before)  # parameters and running statistics alike


class Call(nn.Module):
    """A function of the library as a network."""

    def __init__(self, function, *arrays, **options):
        super().__init__()
        self.function, self.options = function, options
        for i, a in enumerate(arrays):
            setattr(self, f"p{i}", nn.Parameter(a))

    def forward(self, x):
        return self.function(x, *(self._parameters.values()), **self.options)


def normal(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


CALLS = {
    "conv1d same, even kernel, stride": (F.conv1d, [normal(4, 3, 4)], {"padding": "same", "stride": 2}, (2, 3, 11)),
    "conv2d pairs, dilation, groups": (
        F.conv2d,
        [normal(4, 2, 3, 3), normal(4)],
        {"padding": [(1, 2), (0, 3)], "dilation": 2, "groups": 2},
        (2, 4, 9, 8),
    ),
    "conv2d full, flipped": (F.conv2d, [normal(2, 3, 2, 3)], {"padding": "full", "flip": True}, (2, 3, 5, 6)),
    "conv2d reflect": (F.conv2d, [normal(2, 3, 3, 3)], {"padding": 1, "padding_mode": "reflect"}, (2, 3, 5, 6)),
    "conv2d circular": (F.conv2d, [normal(2, 3, 3, 3)], {"padding": 1, "padding_mode": "circular"}, (2, 3, 5, 6)),
    "conv3d": (F.conv3d, [normal(2, 3, 2, 3, 2)], {"padding": 1}, (1, 3, 4, 5, 6)),
    "conv_transpose2d": (
        F.conv_transpose2d,
        [normal(3, 2, 3, 3), normal(2)],
        {"stride": 2, "padding": 1, "output_padding": 1},
        (2, 3, 4, 5),
    ),
    "max_pool2d": (F.max_pool2d, [], {"kernel_size": 3, "stride": 2, "padding": 1}, (2, 3, 8, 9)),
    "avg_pool2d counted": (F.avg_pool2d, [], {"kernel_size": 3, "stride": 2, "padding": 1}, (2, 3, 8, 9)),
    "avg_pool1d not counted": (F.avg_pool1d, [], {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}, (2, 3, 8)),
    "lp_pool2d": (F.lp_pool2d, [], {"kernel_size": 2, "norm_type": 2}, (2, 3, 8, 6)),
    "adaptive_avg_pool2d": (F.adaptive_avg_pool2d, [], {"output_size": (2, 3)}, (2, 3, 8, 9)),
    "global_max_pool": (F.global_max_pool, [], {}, (2, 3, 8, 9)),
    "leaky_relu": (F.leaky_relu, [], {"negative_slope": 0.2}, (2, 5)),
    "elu": (F.elu, [], {"alpha": 0.7}, (2, 5)),
    "gelu": (F.gelu, [], {}, (2, 5)),
    "gelu tanh": (F.gelu, [], {"approximate": "tanh"}, (2, 5)),
    "silu": (F.silu, [], {}, (2, 5)),
    "relu6": (lambda x: F.relu6(x * 8.0), [], {}, (2, 5)),
    "hardtanh": (F.hardtanh, [], {"min_val": -0.5, "max_val": 0.3}, (2, 5)),
    "softplus": (F.softplus, [], {}, (2, 5)),
    "softmax": (F.softmax, [], {"axis": 1}, (2, 5, 3)),
    "log_softmax": (F.log_softmax, [], {}, (2, 5)),
    "linear of three axes": (F.linear, [normal(4, 5), normal(4)], {}, (2, 3, 5)),
    "instance_norm": (F.instance_norm, [normal(3), normal(3)], {}, (2, 3, 4, 5)),
    "group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b), [normal(4), normal(4)], {}, (2, 4, 3, 5)),
    "layer_norm": (lambda x, w: F.layer_norm(x, (3, 5), w), [normal(3, 5)], {}, (2, 3, 5)),
    "rms_norm": (lambda x, w: F.rms_norm(x, (5,), w, eps=1e-3), [normal(5)], {}, (2, 3, 5)),
    "local_response_norm": (F.local_response_norm, [], {"size": 3, "alpha": 0.3, "beta": 0.6, "k": 2.0}, (2, 6, 3, 3)),
    "pad constant": (F.pad, [], {"pads": [(1, -1), (0, 2)], "value": 0.5}, (2, 3, 4, 5)),
    "pad edge": (F.pad, [], {"pads": [(1, 1), (0, 2)], "mode": "replicate"}, (2, 3, 4, 5)),
    "interpolate nearest": (F.interpolate, [], {"scale_factor": 1.7}, (2, 3, 4, 5)),
    "interpolate nearest-exact": (F.interpolate, [], {"size": (8, 10), "mode": "nearest-exact"}, (2, 3, 4, 5)),
    "interpolate bilinear": (F.interpolate, [], {"size": (7, 9), "mode": "bilinear"}, (2, 3, 4, 5)),
    "interpolate corners": (F.interpolate, [], {"size": (7, 9), "mode": "bilinear", "align_corners": True}, (2, 3, 4, 5)),
    "interpolate bicubic": (F.interpolate, [], {"scale_factor": 2.0, "mode": "bicubic"}, (2, 3, 4, 5)),
    "pixel_shuffle": (F.pixel_shuffle, [], {"factor": 2}, (2, 8, 3, 4)),
    "pixel_unshuffle": (F.pixel_unshuffle, [], {"factor": 2}, (2, 2, 6, 4)),
    "arithmetic": (
        lambda x, w: (x * w - 1.5) / (x * x + 2) + (-x) ** 3 + (x * x + 1).log() + x.exp().sqrt(),
        [normal(3, 1)],
        {},
        (2, 3, 4),
    ),
    "shapes": (lambda x: F.concatenate([x[:, 1:, ::-1], x.transpose(0, 1, 2)[:, :1]], axis=1).reshape(2, -1), [], {}, (2, 3, 4)),
    "sums": (lambda x: x.sum(axis=1, keepdims=True) + x.mean(axis=(1, 2), keepdims=True) + x.max(axis=2, keepdims=True), [], {}, (2, 3, 4)),
    "matmul, stack, flip, where": (
        lambda x: F.where(np.eye(3) > 0, F.matmul(x, F.stack([x[:, 0], x[:, 1].flip(1), x[:, 2]], axis=2)), 0.0),
        [],
        {},
        (2, 3, 3),
    ),
    "maximum": (lambda x, w: F.maximum(x, w), [normal(3, 1)], {}, (2, 3, 4)),
    "zeros around channels": (
        lambda x: F.concatenate([np.zeros((2, 1, 2), np.float32), x, np.zeros((2, 2, 2), np.float32)], axis=1),
        [],
        {},
        (2, 3, 2),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_operation(name, tmp_path, rng):
    function, arrays, options, shape = CALLS[name]
    model = Call(function, *arrays, **options)
    x = rng.normal(size=shape).astype(np.float32)
    io.export_onnx(model, tmp_path / "m.onnx", x)
    wanted = np.asarray(model(cnn_tensor(x)).detach())
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x)[0], wanted, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(np.asarray(io.import_onnx(tmp_path / "m.onnx").eval()(x).detach()), wanted, rtol=1e-5, atol=1e-5)


def cnn_tensor(x):
    from cnnpy import Tensor

    return Tensor(x)


def test_an_embedding_takes_integers(tmp_path):
    model = nn.Sequential(nn.Embedding(7, 4, rng=0), nn.Linear(4, 3, rng=0))
    ids = np.array([[1, 6, 0], [2, 2, 5]])
    io.export_onnx(model, tmp_path / "m.onnx", ids)
    wanted = np.asarray(model(ids).detach())
    np.testing.assert_allclose(run(tmp_path / "m.onnx", ids)[0], wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(io.import_onnx(tmp_path / "m.onnx")(ids).detach()), wanted)


def test_float64(tmp_path, rng):
    model = models.lenet5(rng=0, dtype="float64").eval()
    io.export_onnx(model, tmp_path / "m.onnx", (1, 1, 28, 28))
    x = rng.normal(size=(2, 1, 28, 28))
    np.testing.assert_array_equal(np.asarray(io.import_onnx(tmp_path / "m.onnx").eval()(x).detach()), np.asarray(model(x).detach()))


def test_nothing_changes_at_the_model(tmp_path):
    model = models.resnet20(rng=0)
    before = {n: a.copy() for n, a in model.state_dict().items()}
    io.export_onnx(model, tmp_path / "m.onnx", (1, 3, 32, 32))
    assert model.training and all(np.array_equal(a, before[n]) for n, a in model.state_dict().items())


@pytest.mark.parametrize(
    ("function", "options", "shape", "text"),
    [
        (
            F.conv2d,
            {"padding": 1, "padding_mode": "symmetric", "weight": normal(1, 1, 3, 3)},
            (1, 1, 4, 4),
            "mode 'symmetric', which ONNX lacks",
        ),
        (F.adaptive_avg_pool2d, {"output_size": 3}, (1, 1, 7, 7), "windows of several sizes"),
        (F.unfold, {"kernel_size": 2}, (1, 1, 4, 4), "unfold has no counterpart"),
        (lambda x: x[np.array([0, 0])], {}, (2, 3), "indexing by anything but integers and slices"),
        (F.conv2d, {"weight": normal(1, 1, 3, 3)}, (1, 4, 4), "conv2d is called on an unbatched image"),
        (
            lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(5, 5)),
            {},
            (1, 1, 5, 5),
            "expected the natural size",
        ),
        (F.lp_pool2d, {"norm_type": 1.5, "kernel_size": 2}, (1, 1, 4, 4), "norm_type 1.5, expected a whole number"),
        (lambda x: F.adaptive_max_pool2d(x, 2, return_indices=True)[0], {}, (1, 1, 4, 4), "returns indices, which ONNX lacks"),
        (lambda x: F.batch_norm(x, np.zeros(1), np.ones(1), training=True), {}, (1, 1, 4, 4), "batch_norm is in training mode"),
        (F.interpolate, {"size": 2, "mode": "area"}, (1, 1, 4, 4), "mode 'area', which ONNX lacks"),
        (F.pixel_shuffle, {"factor": 2}, (1, 4, 3), "on 1 spatial axes, expected 2"),
    ],
)
def test_what_onnx_lacks(function, options, shape, text, tmp_path):
    with pytest.raises(ValueError, match=f"export_onnx: .*{text}"):
        io.export_onnx(Call(function, **options), tmp_path / "m.onnx", shape)
    assert not (tmp_path / "m.onnx").exists()


def graph(nodes, shapes, path, initializers=(), outputs=None):
    value = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        nodes,
        "g",
        [value(n, 1, s) for n, s in shapes.items()],
        [value(n, 1, ["M", "K"]) for n in outputs or nodes[-1].output[:1]],
        [onnx.numpy_helper.from_array(a, n) for n, a in initializers],
    )
    model = onnx.helper.make_model(
        body, opset_imports=[onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("custom", 1)], ir_version=8
    )
    path.write_bytes(model.SerializeToString())
    return path


def test_unknown_nodes_are_listed(tmp_path):
    make = onnx.helper.make_node
    path = graph(
        [make("Relu", ["x"], ["a"]), make("Hardmax", ["a"], ["b"]), make("Det", ["b"], ["c"]), make("Own", ["c"], ["d"], domain="custom")],
        {"x": [2, 2]},
        tmp_path / "m.onnx",
    )
    with pytest.raises(ValueError, match=r"nodes that have no counterpart here: Det, Hardmax, custom\.Own"):
        io.import_onnx(path)


def test_nodes_of_other_writers(tmp_path, rng):
    """Forms that we read and do not write: constants, shapes computed on the way, automatic padding, dropout, old attributes."""
    make = onnx.helper.make_node
    constant = lambda name, v: make("Constant", [], [name], value=onnx.numpy_helper.from_array(np.array(v)))  # noqa: E731
    nodes = [
        make("Conv", ["x", "w"], ["a"], auto_pad="SAME_UPPER", strides=[2, 2]),
        make("Dropout", ["a"], ["b"]),
        make("Shape", ["b"], ["s"]),
        constant("zero", 0),
        make("Gather", ["s", "zero"], ["n"]),
        constant("axes", [0]),
        make("Unsqueeze", ["n", "axes"], ["n1"]),
        constant("rest", [-1]),
        make("Concat", ["n1", "rest"], ["to"], axis=0),
        make("Reshape", ["b", "to"], ["flat"]),
        make("Gemm", ["flat", "v"], ["g"], alpha=0.5),
        constant("low", np.float32(0.1)),
        make("Clip", ["g", "low"], ["y"]),
    ]
    w, v = normal(2, 3, 3, 3), normal(2 * 3 * 4, 5)
    path = graph(nodes, {"x": ["N", 3, 5, 7]}, tmp_path / "m.onnx", [("w", w), ("v", v)])
    x = rng.normal(size=(2, 3, 5, 7)).astype(np.float32)
    model = io.import_onnx(path)
    assert set(model.state_dict()) == {"w", "v"}
    np.testing.assert_allclose(np.asarray(model.eval()(x).detach()), run(path, x)[0], rtol=1e-5, atol=1e-5)
    model.train()
    dropped = np.asarray(model(x).detach())
    assert not np.array_equal(dropped, np.asarray(model(x).detach()))  # dropout drops, anew at each call
    with pytest.raises(ValueError, match="2 arrays are given, expected 1: x"):
        model(x, x)


def test_nodes_that_cannot_be(tmp_path):
    make, helper = onnx.helper.make_node, onnx.numpy_helper.from_array
    ints = lambda name, *v: make("Constant", [], [name], value=helper(np.array(v, np.int64)))  # noqa: E731
    x = np.zeros((1, 1, 4, 4), np.float32)
    pool = make("MaxPool", ["x"], ["a", "i"], kernel_shape=[2, 2], strides=[2, 2])
    for nodes, sentence in (
        ([make("AveragePool", ["x"], ["y"], kernel_shape=[2])], "gets an array of shape .1, 1, 4, 4., expected 1 spatial axes"),
        (
            [pool, ints("s", 1, 1, 3, 3), make("MaxUnpool", ["a", "i", "s"], ["y"], kernel_shape=[2, 2], strides=[2, 2])],
            "has output_shape .3, 3., expected at least .4, 4.",
        ),
        ([pool, make("MaxUnpool", ["a", "i"], ["y"], kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1])], "crops unevenly"),
        ([pool, make("MaxUnpool", ["a", "i"], ["y"], kernel_shape=[1, 1], strides=[2, 2])], "has an index outside an image of .3, 3."),
        (
            [ints("p", 1, 0, 0, 0, 0, 0, 0, 0), make("Pad", ["x", "p"], ["y"], mode="edge")],
            "pads batch or channels other than with a number",
        ),
        ([make("Constant", [], ["c"], value_string="a"), make("Add", ["x", "c"], ["y"])], "holds no number"),
    ):
        model = io.import_onnx(graph(nodes, {"x": [1, 1, 4, 4]}, tmp_path / "m.onnx"))
        with pytest.raises(ValueError, match=f"import_onnx: .*{sentence}"):
            model(x)


def test_rare_forms_of_nodes(tmp_path, rng):
    """Automatic padding of nothing, scales that are empty, one of several columns."""
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["a"], auto_pad="VALID"),
        make(
            "Resize", ["a", "", "none", "sizes"], ["b"], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        ),
        make("Gather", ["b", "one"], ["c"], axis=1),
        make("Flatten", ["c"], ["y"]),
    ]
    w = normal(2, 3, 3, 3)
    constants = [("w", w), ("none", np.zeros(0, np.float32)), ("sizes", np.array([2, 2, 6, 10])), ("one", np.array(1))]
    path = graph(nodes, {"x": [2, 3, 5, 7]}, tmp_path / "m.onnx", constants)
    x = rng.normal(size=(2, 3, 5, 7)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(io.import_onnx(path).eval()(x).detach()), run(path, x)[0], rtol=1e-5, atol=1e-5)


def test_defaults_of_nodes(tmp_path, rng):
    """An axis that is not given, rows of a table counted from its end, statistics that are asked for."""
    make = onnx.helper.make_node
    x = rng.normal(size=(4, 3)).astype(np.float32)
    path = graph([make("Split", ["x"], ["a", "b"]), make("Sub", ["b", "a"], ["y"])], {"x": [4, 3]}, tmp_path / "m.onnx")
    np.testing.assert_array_equal(np.asarray(io.import_onnx(path)(x)), run(path, x)[0])
    table, at = normal(5, 3), np.array([-1, 0, -5, 4])
    path = graph(
        [make("Gather", ["t", "at"], ["r"]), make("Add", ["r", "x"], ["y"])], {"x": [4, 3]}, tmp_path / "m.onnx", [("t", table), ("at", at)]
    )
    np.testing.assert_array_equal(np.asarray(io.import_onnx(path)(x).detach()), run(path, x)[0])
    numbers = [(n, np.ones(3, np.float32)) for n in ("s", "b", "m", "v")]
    path = graph([make("BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "u", "w"])], {"x": [4, 3]}, tmp_path / "m.onnx", numbers)
    with pytest.raises(ValueError, match="gives its statistics, which are buffers here"):
        io.import_onnx(path)(x)


def test_forms_of_arguments(tmp_path, rng):
    """Padding by its name, places between others left out."""
    x = rng.normal(size=(2, 1, 6, 5)).astype(np.float32)
    weight = normal(2, 1, 3, 3)
    for function in (lambda a: F.conv2d(a, weight, padding="valid"), lambda a: a[..., 1:3], lambda a: a[0, ..., 2]):
        io.export_onnx(Call(function), tmp_path / "m.onnx", x.shape, dynamic_batch=False)
        np.testing.assert_allclose(run(tmp_path / "m.onnx", x)[0], np.asarray(function(x)), rtol=1e-5, atol=1e-6)
    assert "nodes" in repr(io.import_onnx(tmp_path / "m.onnx"))


@pytest.mark.parametrize("name", ["pixel_shuffle", "pixel_unshuffle"])
def test_pixels_of_images_that_are_no_squares(name, tmp_path, rng):
    x = rng.normal(size=(2, 18, 6, 9)).astype(np.float32)
    function = getattr(F, name)
    io.export_onnx(Call(function, factor=3), tmp_path / "m.onnx", x.shape)
    np.testing.assert_array_equal(run(tmp_path / "m.onnx", x)[0], function(x, 3))


def test_damaged_files(tmp_path, rng, budget):
    """Cut anywhere or changed in a few bytes: a model, or one sentence."""
    io.export_onnx(models.lenet5(rng=0), tmp_path / "good.onnx", (1, 1, 28, 28))
    good = (tmp_path / "good.onnx").read_bytes()
    refused = 0
    count = budget(150, 3000, 50_000)
    for i in range(count):
        broken = bytearray(good[: rng.integers(len(good))] if i % 2 else good)
        if i % 2 == 0:
            for at in (*rng.integers(0, 400, 2), *rng.integers(0, len(good), 2)):
                broken[at] ^= 1 << rng.integers(8)
        (tmp_path / "x.onnx").write_bytes(broken)
        try:
            io.import_onnx(tmp_path / "x.onnx")
        except ValueError as error:
            refused += 1
            assert str(error).startswith("import_onnx: ") and "\n" not in str(error)
    assert refused >= count // 2
    print(f"onnx: {count} damaged files")
    with pytest.raises(ValueError, match="is not a file"):
        io.import_onnx(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match="bytes, more than the 1000 allowed"):
        io.import_onnx(tmp_path / "good.onnx", max_bytes=1000)


def test_weights_in_other_files_are_refused(tmp_path):
    proto = onnx.load_model_from_string((io.export_onnx(models.lenet5(rng=0), tmp_path / "m.onnx", (1, 1, 28, 28))).SerializeToString())
    onnx.save_model(proto, str(tmp_path / "outside.onnx"), save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ValueError, match="stand in other files"):
        io.import_onnx(tmp_path / "outside.onnx")


def test_dropout_gives_its_mask(tmp_path):
    """Evaluated nothing is dropped; in training exactly what the mask says is, and the rest grows to keep its mean."""
    x = np.ones((40, 50), np.float32)
    nodes = [onnx.helper.make_node("Dropout", ["x", "ratio"], ["y", "mask"])]
    path = graph(nodes, {"x": [40, 50]}, tmp_path / "m.onnx", [("ratio", np.float32(0.25))], outputs=("y", "mask"))
    model = io.import_onnx(path)
    y, mask = model.eval()(x)
    assert np.asarray(mask).dtype == bool and np.asarray(mask).all()
    np.testing.assert_array_equal(np.asarray(y), x)
    y, mask = (np.asarray(v.detach() if hasattr(v, "detach") else v) for v in model.train()(x))
    assert 0.65 < mask.mean() < 0.85
    np.testing.assert_allclose(y, mask / np.float32(0.75), rtol=1e-6)


@pytest.mark.parametrize(("shape", "axis"), [((5, 3), 0), ((5, 3), 1), ((5, 3, 2), 0), ((5, 3, 2), -1), ((5,), 0)])
@pytest.mark.parametrize("at", [np.array(1), np.array([-1, 0, 1]), np.array([[0, 1], [-1, -2]])], ids=["one", "row", "table"])
def test_gather_from_weights_and_from_inputs(shape, axis, at, tmp_path):
    """Any number of axes, any axis, indices counted from either end: the same from what is learned, from what is given, and as ONNX Runtime."""
    at = at if shape[axis] > 2 else np.where(at < 0, -1, at)
    table = normal(*shape)
    wanted = np.take(table, at, axis=axis)
    node = onnx.helper.make_node("Gather", ["t", "at"], ["r"], axis=axis)
    zero = np.zeros(wanted.shape, np.float32)
    learned = graph(
        [node, onnx.helper.make_node("Add", ["r", "x"], ["y"])], {"x": list(zero.shape)}, tmp_path / "a.onnx", [("t", table), ("at", at)]
    )
    np.testing.assert_array_equal(np.asarray(io.import_onnx(learned)(zero).detach()), wanted)
    np.testing.assert_array_equal(run(learned, zero)[0], wanted)
    nodes = [onnx.helper.make_node("Relu", ["x"], ["t"]), onnx.helper.make_node("Gather", ["t", "at"], ["y"], axis=axis)]
    given = graph(nodes, {"x": list(shape)}, tmp_path / "b.onnx", [("at", at)])
    np.testing.assert_array_equal(np.asarray(io.import_onnx(given)(table)), np.maximum(wanted, 0))
