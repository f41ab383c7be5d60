"""Layers in the forms that are easily mistaken: which axes they take, what a counter counts, where the batch stands."""

import numpy as np
import pytest

from cnnpy import functional as F
from cnnpy import nn


@pytest.mark.parametrize(
    ("layer", "axes"),
    [(nn.BatchNorm1d(3), (2, 3)), (nn.BatchNorm2d(3), (4,)), (nn.BatchNorm3d(3), (5,)), (nn.InstanceNorm2d(3), (4,))],
    ids=lambda v: type(v).__name__,
)
def test_axes_of_norms(layer, axes, rng):
    for count in range(1, 7):
        x = rng.standard_normal((4, 3, 3, 2, 2, 2)[:count]).astype(np.float32)
        if count in axes:
            assert layer(x).shape == x.shape
        else:
            with pytest.raises(ValueError, match=f"x has {count} axes, expected {axes[0]}"):
                layer(x)


def test_batch_norm_without_momentum_averages_all_batches(rng):
    layer, batches = nn.BatchNorm1d(3, momentum=None), rng.standard_normal((4, 8, 3)).astype(np.float32)
    for x in batches:
        layer(x)
    np.testing.assert_allclose(layer.running_mean, batches.mean((0, 1)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.running_var, batches.var(1, ddof=1).mean(0), rtol=1e-5)
    layer.eval()
    before = layer.running_mean.copy(), int(layer.num_batches_tracked)
    y = layer(batches[0])
    assert np.array_equal(layer.running_mean, before[0]) and int(layer.num_batches_tracked) == before[1] == 4
    np.testing.assert_allclose(
        np.asarray(y.detach()), (batches[0] - layer.running_mean) / np.sqrt(layer.running_var + layer.eps), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_cells_take_one_step_of_a_batch(cell, rng):
    layer = cell(3, 4, rng=0)
    for shape in ((3,), (2, 5, 3)):
        with pytest.raises(ValueError, match=r"expected \(N, 3\)"):
            layer(np.zeros(shape, np.float32))
    result = layer(rng.standard_normal((2, 3)).astype(np.float32))
    assert (result[0] if isinstance(result, tuple) else result).shape == (2, 4)


def test_windows_of_convlstm():
    for size in (1, 3, 5):
        assert nn.ConvLSTM2d(2, 3, size, rng=0)(np.zeros((1, 2, 2, 4, 4), np.float32))[0].shape == (1, 2, 3, 4, 4)
    for size in (0, 2, -1, True, 3.0):
        with pytest.raises(ValueError, match="ConvLSTM2d: kernel_size is"):
            nn.ConvLSTM2d(2, 3, size, rng=0)


def test_attention_with_the_batch_in_the_middle(rng):
    q, k, v = (rng.standard_normal((2, n, 8)).astype(np.float32) for n in (5, 7, 7))
    first, middle = (nn.MultiheadAttention(8, 2, batch_first=b, rng=0) for b in (True, False))
    turned = [a.transpose(1, 0, 2) for a in (q, k, v)]
    np.testing.assert_array_equal(np.asarray(middle(*turned).detach()), np.asarray(first(q, k, v).detach()).transpose(1, 0, 2))
    (y, w), (z, u) = first(q, k, v, return_weights=True), middle(*turned, return_weights=True)
    np.testing.assert_array_equal(np.asarray(z.detach()), np.asarray(y.detach()).transpose(1, 0, 2))
    np.testing.assert_array_equal(
        np.asarray(w.detach() if hasattr(w, "detach") else w), np.asarray(u.detach() if hasattr(u, "detach") else u)
    )


def test_dropout_of_one_seed_draws_other_masks_call_by_call():
    x = np.ones((4, 50), np.float32)
    one, other = nn.Dropout(0.5, rng=3), nn.Dropout(0.5, rng=3)
    masks = [np.asarray(one(x)) for _ in range(3)]
    assert all(np.array_equal(m, np.asarray(other(x))) for m in masks)
    assert not np.array_equal(masks[0], masks[1]) and not np.array_equal(masks[1], masks[2])
    np.testing.assert_array_equal(F.dropout(x, 0.5, training=False), x)
