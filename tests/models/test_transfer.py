"""A trunk that was trained on some classes, frozen, against training from scratch on few pictures of others."""

import warnings

import numpy as np
import pytest

from cnnpy import data, io, models, optim, train
from cnnpy.transforms import Normalize


def classes(dataset, wanted, each=None):
    """Samples of some classes, renumbered from 0; the first `each` of every class."""
    chosen = [np.flatnonzero(dataset.y == c)[:each] for c in wanted]
    y = np.repeat(np.arange(len(wanted)), [len(c) for c in chosen])
    return data.ArrayDataset(dataset.x[np.concatenate(chosen)], y)


def fit(model, dataset, epochs, lr, batch_size):
    parameters = [p for p in model.parameters() if p.requires_grad]
    normalize = Normalize.of(dataset)
    options = {"epochs": epochs, "batch_size": batch_size, "progress": False, "transform": normalize}
    train.fit(model, dataset, optimizer=optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=5e-4), **options)
    return normalize


@pytest.mark.shared
def test_a_frozen_trunk_beats_training_from_scratch(shared, tmp_path, budget):
    """ResNet-20 on 6 classes of CIFAR-10 at half size, then 500 pictures of the other 4."""
    if not budget(quick=False, full=True):
        pytest.skip("a minute of training: full tier only")
    whole = data.cifar10(shared / "cifar10-jpg.zip", "train")
    test = data.cifar10(shared / "cifar10-jpg.zip", "test")
    for part in (whole, test):
        part.x = part.x.reshape(-1, 3, 16, 2, 16, 2).mean(axis=(3, 5)).astype(np.uint8)
    many, few = (0, 1, 2, 4, 7, 8), (3, 5, 6, 9)
    trunk = models.resnet20(num_classes=6, rng=0)
    fit(trunk, classes(whole, many, each=1500), 4, 0.1, 64)
    io.save(trunk.state_dict(), tmp_path / "trunk.safetensors")
    lesson, judge = classes(whole, few, each=125), classes(test, few)
    with pytest.warns(UserWarning, match="does not set fc.bias, fc.weight"):
        frozen = models.resnet20(num_classes=4, weights=tmp_path / "trunk.safetensors", rng=1)
    before = {n: a.copy() for n, a in frozen.state_dict().items()}
    frozen.freeze()
    frozen.fc.freeze(False)
    scratch = models.resnet20(num_classes=4, rng=1)
    found = {}
    for name, model, lr in (("frozen trunk", frozen, 0.05), ("from scratch", scratch, 0.05)):
        normalize = fit(model, lesson, 25, lr, 32)
        found[name] = train.evaluate(model, judge, transform=normalize)["accuracy"]
    changed = {n for n, a in frozen.state_dict().items() if not np.array_equal(a, before[n])}
    print(", ".join(f"{name} {accuracy:.3f}" for name, accuracy in found.items()))
    assert changed == {"fc.weight", "fc.bias"}
    assert found["frozen trunk"] > found["from scratch"]


def test_another_head_keeps_the_trunk(tmp_path):
    io.save(models.resnet20(rng=1).state_dict(), tmp_path / "w.safetensors")
    with pytest.warns(UserWarning, match=r"does not set fc.bias, fc.weight"):
        model = models.resnet20(num_classes=3, weights=tmp_path / "w.safetensors", rng=2)
    model.freeze()
    model.fc.freeze(False)
    model.train()
    assert model.fc.training and not model.bn1.training and not model.layer1[0].bn1.training
    statistics = model.bn1.running_mean.copy()
    x = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    model(x).sum().backward()
    assert model.fc.weight.grad is not None and model.conv1.weight.grad is None and np.array_equal(model.bn1.running_mean, statistics)
    model.freeze(False)
    assert model.bn1.training and model.conv1.weight.requires_grad


def test_no_warning_where_all_is_set(tmp_path):
    io.save(models.resnet20(rng=1).state_dict(), tmp_path / "w.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        models.resnet20(weights=tmp_path / "w.safetensors", rng=2)
