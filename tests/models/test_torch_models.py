"""Every network against the same one in PyTorch: results and all gradients, for the same weights, training and evaluating (the bench extra)."""

import copy
import importlib.util

import numpy as np
import pytest

from cnnpy import functional as F
from cnnpy import io, models
from tests.conftest import SHARED

torch = pytest.importorskip("torch", reason="PyTorch is not installed: it comes with the bench extra")

PATH = SHARED / "peers" / "torch_models.py"
if not PATH.is_file():
    pytest.skip("the reference networks are not beside this checkout", allow_module_level=True)
specification = importlib.util.spec_from_file_location("torch_models", PATH)
theirs = importlib.util.module_from_spec(specification)
specification.loader.exec_module(theirs)


def resnet152():
    """Of the reference's own blocks."""
    c, blocks = 64, []
    for middle, depth, stride in ((64, 3, 1), (128, 8, 2), (256, 36, 2), (512, 3, 2)):
        for i in range(depth):
            blocks.append(theirs.Bottleneck(c, middle, stride if i == 0 else 1))
            c = 4 * middle
    stem = list(theirs.resnet50())[:4]
    return torch.nn.Sequential(*stem, *blocks, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(2048, 1000))


# ours, theirs, shape of the input, batch
SMALL = {
    "lenet5": (models.lenet5, theirs.lenet, (1, 28, 28), 4),
    "resnet20": (lambda **o: models.resnet20(shortcut="B", **o), theirs.resnet20, (3, 32, 32), 4),
    "resnet18": (models.resnet18, theirs.resnet18, (3, 64, 64), 4),
}
LARGE = {
    "resnet50": (models.resnet50, theirs.resnet50, (3, 96, 96), 4),
    "resnet152": (models.resnet152, resnet152, (3, 224, 224), 2),
    "alexnet": (lambda **o: models.alexnet(dropout=0.0, **o), theirs.alexnet, (3, 224, 224), 2),
    "vgg11": (lambda **o: models.vgg11(dropout=0.0, **o), lambda: theirs.vgg("vgg11"), (3, 64, 64), 2),
    "vgg16": (lambda **o: models.vgg16(dropout=0.0, **o), lambda: theirs.vgg("vgg16"), (3, 32, 32), 2),
}


def pair(name, dtype):
    """Both networks with the same weights: PyTorch's in order of definition, which is ours but for the shortcuts of residual blocks."""
    ours, make, shape, batch = {**SMALL, **LARGE}[name]
    own, other = ours(rng=0, dtype=dtype), make().to(getattr(torch, dtype))
    for module in other.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    rng = np.random.default_rng(1)
    for module in own.modules():  # statistics and scales that are not those of a new network
        if "running_mean" in module._buffers:
            module.running_mean[...] = rng.normal(0, 0.1, module.running_mean.shape)
            module.running_var[...] = rng.uniform(0.5, 1.5, module.running_var.shape)
            module.weight.data[...] = rng.uniform(0.5, 1.0, module.weight.shape)
    state = own.state_dict()
    names = dict(zip(state, other.state_dict(), strict=True))
    other.load_state_dict({names[n]: torch.from_numpy(np.array(a)) for n, a in state.items()})
    x = rng.normal(size=(batch, *shape)).astype(dtype)
    return own, other, names, x, np.arange(batch) % 10


def outcome(network, dtype, x, y):
    """Result, gradients and statistics of PyTorch's network, as float64."""
    result = network(torch.from_numpy(x.astype(dtype)))
    torch.nn.functional.cross_entropy(result, torch.from_numpy(y)).backward()
    statistics = {k: v.numpy() for k, v in network.state_dict().items() if "running" in k}
    return result.detach().numpy(), {n: p.grad.numpy() for n, p in network.named_parameters()}, statistics


def relative(found, wanted):
    return float(np.abs(np.asarray(found, np.float64) - wanted).max() / max(np.abs(wanted).max(), 1e-30))


def compare(name, dtype, training):
    """Against PyTorch in float64.

    In float32 a rectifier whose input is rounded across zero changes gradients by far more than rounding, in any library: where PyTorch's own
    float32 gradients are further than 1e-4 from its float64 ones, ours may be twice as far. In the large networks some of the millions of
    rectifiers always jump (PyTorch's own gradients of ResNet-50 are 2 % off), so of these only the float64 gradients are compared. The same holds
    for results: those of ResNet-152 in training mode, normalised over two images, lie 3e-4 apart.
    """
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    own, other, names, x, y = pair(name, dtype)
    own.train(training)
    other.train(training)
    own_result, rounded, _ = outcome(copy.deepcopy(other), "float32", x, y) if dtype == "float32" else (None, {}, {})
    reference, gradients, statistics = outcome(other.double(), "float64", x, y)
    statistics_before = {n: a.copy() for n, a in own.named_buffers()}
    result = own(x)
    F.cross_entropy(result, y).backward()
    assert len(gradients) == len(list(own.parameters())) and all(p.grad is not None for p in own.parameters())
    assert relative(result.detach(), reference) <= max(tolerance, 0 if own_result is None else 2 * relative(own_result, reference))
    tolerance = max([tolerance, *(2 * relative(g, gradients[n]) for n, g in rounded.items())])
    for n, p in own.named_parameters() if dtype == "float64" or name in SMALL else ():
        assert relative(p.grad, gradients[names[n]]) <= tolerance, n
    for n, a in own.named_buffers():
        if names[n] in statistics:
            assert relative(a, statistics[names[n]]) <= min(tolerance, 1e-4), n
            assert training != np.array_equal(a, statistics_before[n])


@pytest.mark.parametrize("name", SMALL)
def test_results_with_fast_algorithms(name):
    """Winograd's rounding in the forward pass stays far below the bound; its gradients are tested one by one elsewhere, where no rectifier jumps."""
    own, other, _, x, _ = pair(name, "float32")
    for training in (True, False):
        own.train(training)
        other.train(training)
        assert relative(own(x).detach(), other.double()(torch.from_numpy(x.astype("float64"))).detach().numpy()) <= 1e-4


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", SMALL)
def test_small(name, dtype, training, strict):
    compare(name, dtype, training)


def test_large(budget, strict):
    """One network in the suite; all, both dtypes and both modes in the full tier."""
    names, ways = budget(
        (["resnet50"], [("float64", True)]), (list(LARGE), [(d, t) for d in ("float64", "float32") for t in (True, False)])
    )
    for name in names:
        for dtype, training in ways:
            compare(name, dtype, training)
            print(f"{name} {dtype} {'training' if training else 'evaluation'}: agrees with PyTorch")


def test_checkpoints_of_pytorch_load_unchanged(tmp_path):
    """torchvision's names are those of our modules; its files are what torch.save makes of such a dict."""
    for build in (models.resnet18, models.resnet50, models.alexnet, models.vgg11):
        state = build(rng=1, num_classes=10).state_dict()
        for form in (True, False):
            torch.save(
                {n: torch.from_numpy(np.array(a)) for n, a in state.items()}, tmp_path / "w.pth", _use_new_zipfile_serialization=form
            )
            model = build(rng=2, num_classes=10)
            assert io.load_torchvision(model, tmp_path / "w.pth") == []
            assert all(np.array_equal(a, model.state_dict()[n]) for n, a in state.items())
