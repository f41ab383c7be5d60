"""Layers are their functions with parameters: same numbers, PyTorch's argument order and shapes."""

import numpy as np
import pytest

from cnnpy import functional as F
from cnnpy import nn


@pytest.mark.parametrize("d", [1, 2, 3])
def test_convolutions(d, rng):
    x = rng.normal(size=(2, 4, *(7,) * d)).astype(np.float32)
    layer = getattr(nn, f"Conv{d}d")(4, 6, 3, stride=2, padding=1, groups=2, rng=0)
    wanted = getattr(F, f"conv{d}d")(x, layer.weight.data, layer.bias.data, stride=2, padding=1, groups=2)
    np.testing.assert_array_equal(layer(x).data, wanted)
    layer = getattr(nn, f"ConvTranspose{d}d")(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, rng=0)
    assert layer.weight.shape == (4, 3, *(3,) * d) and layer(x).shape == (2, 6, *(14,) * d)
    wanted = getattr(F, f"conv_transpose{d}d")(x, layer.weight.data, layer.bias.data, stride=2, padding=1, output_padding=1, groups=2)
    np.testing.assert_array_equal(layer(x).data, wanted)
    assert layer(x, output_size=(13,) * d).shape == (2, 6, *(13,) * d)
    assert "stride=2" in repr(layer)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("Zero", "constant"), ("Reflection", "reflect"), ("Symmetric", "symmetric"), ("Replication", "edge"), ("Circular", "wrap")],
)
def test_padding_layers(kind, mode, rng):
    x = rng.normal(size=(1, 2, 4, 5))
    layer = getattr(nn, f"{kind}Pad2d")((1, 2, 3, 0))
    np.testing.assert_array_equal(layer(x), np.pad(x, [(0, 0), (0, 0), (3, 0), (1, 2)], mode=mode))
    np.testing.assert_array_equal(getattr(nn, f"{kind}Pad1d")(2)(x[0]), np.pad(x[0], [(0, 0), (0, 0), (2, 2)], mode=mode))
    assert getattr(nn, f"{kind}Pad3d")(1)(x[None]).shape == (1, 1, 4, 6, 7)
    with pytest.raises(ValueError, match="expected one or 4"):
        getattr(nn, f"{kind}Pad2d")((1, 2))


def test_pools(rng):
    x = rng.normal(size=(1, 2, 8, 8))
    np.testing.assert_array_equal(nn.MaxPool2d(3, 2, padding=1)(x), F.max_pool2d(x, 3, stride=2, padding=1))
    np.testing.assert_array_equal(nn.AvgPool2d(2, count_include_pad=False)(x), F.avg_pool2d(x, 2, count_include_pad=False))
    y, index = nn.MaxPool2d(2, return_indices=True)(x)
    assert y.shape == index.shape == (1, 2, 4, 4)


def test_more_pools_and_resizing(rng):
    x = rng.normal(size=(1, 4, 8, 8))
    np.testing.assert_array_equal(nn.AdaptiveAvgPool2d(3)(x), F.adaptive_avg_pool2d(x, 3))
    np.testing.assert_array_equal(nn.AdaptiveMaxPool2d((2, 5))(x), F.adaptive_max_pool2d(x, (2, 5)))
    np.testing.assert_array_equal(nn.LPPool2d(3, 2)(x), F.lp_pool2d(x, 2, norm_type=3))
    y, index = nn.MaxPool2d(2, return_indices=True)(x)
    np.testing.assert_array_equal(nn.MaxUnpool2d(2)(y, index), F.max_unpool2d(y, index, 2))
    np.testing.assert_array_equal(nn.GlobalAvgPool()(x), F.global_avg_pool(x))
    np.testing.assert_array_equal(nn.GlobalMaxPool()(x), F.global_max_pool(x))
    np.testing.assert_array_equal(nn.Upsample(scale_factor=2, mode="bilinear")(x), F.interpolate(x, scale_factor=2, mode="bilinear"))
    np.testing.assert_array_equal(nn.PixelUnshuffle(2)(nn.PixelShuffle(2)(x)), x)
    columns = nn.Unfold(3, padding=1)(x)
    np.testing.assert_array_equal(nn.Fold((8, 8), 3, padding=1)(columns), F.fold(columns, (8, 8), 3, padding=1))
    assert "mode='bilinear'" in repr(nn.Upsample(scale_factor=2, mode="bilinear")) and "output_size=3" in repr(nn.AdaptiveAvgPool2d(3))
