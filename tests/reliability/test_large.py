"""Arrays of more than 2^31 elements: the right answer on both sides of the boundary. They take 12 GB: the long tier alone."""

import os
from pathlib import Path

import numpy as np
import pytest

import cnnpy
from cnnpy import functional as F

ROWS, COLUMNS = 1 << 16, (1 << 15) + 8  # 2^31 + 2^19 elements
BEYOND = (1 << 31) // COLUMNS + 1  # rows whose elements lie beyond


@pytest.fixture(scope="module")
def large():
    if os.environ.get("CNNPY_TIER") != "long":
        pytest.skip("arrays of 9 GB; CNNPY_TIER=long runs it")
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) << 10
    if available < 14 << 30:
        pytest.skip(f"{available >> 30} GB of memory are free, 14 are needed")
    x = np.zeros((1, 1, ROWS, COLUMNS), np.float32)
    x[..., 0] = np.arange(ROWS)
    x[..., -1] = -np.arange(ROWS)
    return x


def test_pool(large):
    y = F.max_pool2d(large, 2)
    assert y.shape == (1, 1, ROWS // 2, COLUMNS // 2)
    np.testing.assert_array_equal(y[0, 0, :, 0], np.arange(1, ROWS, 2))
    assert y[0, 0, BEYOND // 2 :, -1].max() == 0 and y[0, 0, :, 1:-1].max() == 0


def test_convolution(large, capsys):
    w = np.array([[1, 2], [3, 4]], np.float32).reshape(1, 1, 2, 2)
    y = F.conv2d(large, w, stride=2)
    i = np.arange(0, ROWS, 2)
    np.testing.assert_array_equal(y[0, 0, :, 0], i + 3 * (i + 1))
    np.testing.assert_array_equal(y[0, 0, :, -1], -(2 * i + 4 * (i + 1)))
    with capsys.disabled():
        print(f"large: {large.size} elements", flush=True)


def test_sum_and_loss(large):
    flat = large.reshape(ROWS, COLUMNS)
    total = cnnpy.Tensor(flat).sum(axis=1).numpy()
    np.testing.assert_array_equal(total, 0)
    losses = F.cross_entropy(flat[:, :], np.zeros(ROWS, np.int64), reduction="none")
    assert losses[0] == pytest.approx(np.log(COLUMNS), rel=1e-6) and losses[100:].max() == 0


def test_a_table(large):
    table = large.reshape(ROWS, COLUMNS)
    rows = np.array([0, 5, BEYOND, ROWS - 1])
    y = F.embedding(rows, table)
    np.testing.assert_array_equal(y[:, 0], rows)
    np.testing.assert_array_equal(y[:, -1], -rows)


def test_in_place(large):
    F.relu(large, out=large)
    np.testing.assert_array_equal(large[0, 0, :, 0], np.arange(ROWS))
    assert large[0, 0, :, -1].max() == 0 and large[0, 0, BEYOND:, -1].min() == 0


def test_products_of_sizes_are_refused_before_anything_is_allocated():
    x = np.broadcast_to(np.float32(0), (1 << 20, 1 << 20, 3, 3))
    with pytest.raises((MemoryError, ValueError)):
        F.conv2d(x, np.broadcast_to(np.float32(0), (1 << 20, 1 << 20, 1, 1)))
    with pytest.raises((MemoryError, ValueError)):
        F.pad(np.zeros((1, 1, 3, 3), np.float32), [(1 << 31, 1 << 31), (1 << 31, 1 << 31)])
