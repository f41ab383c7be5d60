"""Parameters, multiply-adds and receptive fields of every network against their table; names; what training does to them."""

import numpy as np
import pytest

from cnnpy import functional as F
from cnnpy import io, models, nn, optim, tools

SMALL, LARGE = (3, 32, 32), (3, 224, 224)
# name, options, input, parameters, multiply-adds, field
TABLE = [
    ("lenet5", {}, (1, 28, 28), 61_706, 416_520, 16),
    ("alexnet", {}, LARGE, 61_100_840, 714_188_480, 195),
    ("alexnet", {"variant": "paper"}, (3, 227, 227), 60_965_224, 724_406_816, 195),
    ("resnet18", {}, LARGE, 11_689_512, 1_814_073_344, 435),
    ("resnet50", {}, LARGE, 25_557_032, 4_089_184_256, 427),
    ("resnet50", {"variant": "v1"}, LARGE, 25_557_032, 3_857_973_248, 483),
    ("resnet20", {}, SMALL, 269_722, 40_551_040, 81),
    ("resnet32", {}, SMALL, 464_154, 68_862_592, 137),
    ("resnet44", {}, SMALL, 658_586, 97_174_144, 193),
    ("resnet56", {}, SMALL, 853_018, 125_485_696, 249),
    ("resnet110", {}, SMALL, 1_727_962, 252_887_680, 501),
    ("resnet20", {"shortcut": "B"}, SMALL, 269_722 + 2_752, 40_551_040 + 262_144, 81),
]
SLOW = [
    ("vgg11", {}, LARGE, 132_863_336, 7_609_090_048, 150),
    ("vgg13", {}, LARGE, 133_047_848, 11_308_466_176, 156),
    ("vgg16", {}, LARGE, 138_357_544, 15_470_264_320, 212),
    ("vgg19", {}, LARGE, 143_667_240, 19_632_062_464, 268),
    ("vgg11", {"batch_norm": True}, LARGE, 132_863_336 + 5_504, 7_609_090_048, 150),
    ("resnet34", {}, LARGE, 21_797_672, 3_663_761_408, 899),
    ("resnet101", {}, LARGE, 44_549_160, 7_801_405_440, 971),
    ("resnet101", {"variant": "v1"}, LARGE, 44_549_160, 7_570_194_432, 1027),
    ("resnet152", {}, LARGE, 60_192_808, 11_513_626_624, 1451),
    ("resnet152", {"variant": "v1"}, LARGE, 60_192_808, 11_282_415_616, 1507),
]


def check(name, options, shape, parameters, macs, field):
    model = getattr(models, name)(rng=0, **options)
    found = tools.summary(model, shape)
    assert (found.parameters, found.macs) == (parameters, macs)
    assert tools.receptive_field(model, shape).size == (field, field)


@pytest.mark.parametrize("row", TABLE, ids=lambda r: r[0] + "".join(map(str, r[1].values())))
def test_the_table(row):
    check(*row)


def test_the_table_of_large_networks(budget):
    for row in SLOW[:: budget(quick=len(SLOW), full=1)]:
        check(*row)


def test_names_are_torchvisions():
    names = list(models.resnet50(rng=0).state_dict())
    assert names[:2] == ["conv1.weight", "bn1.weight"] and {"layer1.0.downsample.1.running_var", "layer4.2.conv3.weight", "fc.bias"} < set(
        names
    )
    assert list(models.alexnet(rng=0, num_classes=2).state_dict())[-2:] == ["classifier.6.weight", "classifier.6.bias"]
    features = [n for n in models.vgg11(rng=0, small_input=True).state_dict() if n.endswith("weight")]
    assert features[:4] == ["features.0.weight", "features.3.weight", "features.6.weight", "features.8.weight"]


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "vgg11"])
def test_a_step_lowers_the_loss(name, rng):
    options = {} if name == "resnet20" else {"small_input": True}
    model = getattr(models, name)(num_classes=4, rng=0, **options)
    optimizer = optim.SGD(model.parameters(), 0.01)
    x, y = rng.normal(size=(4, 3, 32, 32)).astype(np.float32), np.arange(4)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        assert all(p.grad is not None and np.isfinite(p.grad).all() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert model.eval()(x).shape == (4, 4)


def test_gradients_of_a_small_resnet(rng):
    model = models.resnet20(num_classes=3, rng=0, dtype="float64")
    x = rng.normal(size=(2, 3, 8, 8))
    assert tools.gradcheck(lambda t: F.cross_entropy(model(t), [0, 2]), x, entries=12) < 1e-6


def test_a_zero_block_is_the_identity_where_x_is_not_negative(rng):
    block = models.resnet20(rng=0).layer1[0]
    block.bn2.weight.data[...] = 0
    x = rng.normal(size=(2, 16, 6, 6)).astype(np.float32)
    block.eval()
    np.testing.assert_array_equal(block(np.abs(x)).detach(), np.abs(x))
    np.testing.assert_array_equal(block(x).detach(), np.maximum(x, 0))


def test_weights_from_a_file_and_another_head(tmp_path):
    trained = models.resnet20(rng=1)
    io.save(trained.state_dict(), tmp_path / "w.safetensors")
    same = models.resnet20(weights=tmp_path / "w.safetensors", rng=2)
    assert all(np.array_equal(a, b) for a, b in zip(trained.state_dict().values(), same.state_dict().values(), strict=True))
    with pytest.warns(UserWarning, match=r"does not set fc.bias, fc.weight"):
        other = models.resnet20(num_classes=3, weights=tmp_path / "w.safetensors", rng=2)
    np.testing.assert_array_equal(other.conv1.weight.data, trained.conv1.weight.data)
    io.save({"nothing": np.zeros(3, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="load_weights: no tensor of"):
        models.resnet20(weights=tmp_path / "x.safetensors")


def test_weights_of_a_network_for_photographs(tmp_path):
    trained = models.resnet18(num_classes=2, rng=1)
    io.save(trained.state_dict(), tmp_path / "w.safetensors")
    same = models.resnet18(num_classes=2, weights=tmp_path / "w.safetensors", rng=2)
    assert all(np.array_equal(a, b) for a, b in zip(trained.state_dict().values(), same.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: models.alexnet(variant="two"), "alexnet: variant is 'two'"),
        (lambda: models.resnet50(variant="v2"), "resnet50: variant is 'v2'"),
        (lambda: models.resnet20(shortcut="C"), "resnet20: shortcut is 'C'"),
    ],
)
def test_bad_options(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_every_model_has_a_place_in_the_command_line():
    from cnnpy.cli.networks import MODELS, SEQUENCES

    assert {*MODELS, *SEQUENCES} == set(models.__all__) - {"unet_small", "sequence_classifier"} and isinstance(models.lenet5(), nn.Module)


def test_unet_learns_where_a_square_is(rng):
    model = models.unet_small(in_channels=1, width=4, rng=0)
    optimizer = optim.Adam(model.parameters(), 0.01)
    x, y = rng.normal(size=(8, 1, 16, 16)).astype(np.float32) * np.float32(0.3), np.zeros((8, 16, 16), int)
    for i, (top, left) in enumerate(rng.integers(0, 10, (8, 2))):
        x[i, 0, top : top + 6, left : left + 6] += 1
        y[i, top : top + 6, left : left + 6] = 1
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert np.mean(np.argmax(model(x).detach().numpy(), axis=1) == y) > 0.97
    with pytest.raises(ValueError, match="unet_small: x has shape"):
        model(x[:, :, :15])
