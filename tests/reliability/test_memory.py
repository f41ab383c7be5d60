"""Memory beside the arrays: a convolution never spells out its windows, a pool never copies its image."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnpy
from cnnpy import functional as F
from cnnpy import nn, optim
from cnnpy.bench import families
from cnnpy.bench.workloads import CONV
from cnnpy.functional.runtime import config, memory_peak

MB = 2**20
LARGE_WEIGHTS = [(1, 512, 512, 28, 3, 2, 1), (4, 512, 512, 14, 5, 1, 1), (8, 1024, 1024, 14, 3, 1, 1), (2, 1024, 1024, 14, 3, 1, 4)]


def extra(call):
    """Bytes that a call used beyond its result, and the result's bytes."""
    call()
    memory_peak()
    before = config()["memory_used"]
    result = call()
    return memory_peak() - before - result.nbytes, result.nbytes


@pytest.mark.parametrize("algorithm", ["direct", "auto"])
@pytest.mark.parametrize("shape", CONV + LARGE_WEIGHTS, ids=str)
def test_convolutions_stay_within_5_percent_and_8_megabytes(shape, algorithm):
    n, c, k, size, window, stride, groups = shape
    x, w = np.ones((n, c, size, size), np.float32), np.ones((k, c // groups, window, window), np.float32)
    options = {"stride": stride, "padding": window // 2, "groups": groups, "algorithm": algorithm}
    for order in (lambda a: a, cnnpy.channels_last):
        image = order(x)
        used, result = extra(lambda image=image: F.conv2d(image, w, **options))
        assert used <= 0.05 * (x.nbytes + w.nbytes + result) + 8 * MB, (
            f"{used / MB:.1f} MB beside {(x.nbytes + w.nbytes + result) / MB:.1f}"
        )


@pytest.mark.parametrize("row", families.ROWS, ids=lambda r: r[0])
def test_other_operations_too(row):
    for channels_last in (False, True):
        used, result = extra(families.make_ours(row, "forward", channels_last))
        arrays = 4 * (np.prod(row[2]) + (np.prod(row[3]) if row[3] else 0)) + result
        assert used <= 0.05 * arrays + 8 * MB, f"{used / MB:.1f} MB beside {arrays / MB:.1f}"


def resident():
    """Bytes of the process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_large_buffers_leave_the_process():
    arrays = [F.relu(np.ones(1 << 20, np.float32)) for _ in range(60)]
    full = resident()
    between = arrays[::2]
    del arrays
    cnnpy.trim_memory()
    assert full - resident() > 25 * 4 * MB, "what is freed between buffers that stay must go as well"
    assert all(a[-1] == 1 for a in between)


def test_a_step_records_with_less_than_its_results_together():
    """The recording calls keep nothing that backward does not read, and no buffer for later."""
    model = nn.Sequential(
        *(m for i in range(6) for m in (nn.Conv2d(16 if i else 3, 16, 3, padding=1, rng=i), nn.BatchNorm2d(16), nn.ReLU()))
    )
    step = cnnpy.compile_step(model, F.mse_loss, optim.SGD(model.parameters(), 0.1))
    x, y = np.ones((8, 3, 64, 64), np.float32), np.zeros((8, 16, 64, 64), np.float32)
    memory_peak()
    before = config()["memory_used"]
    step(x, y)
    one = 8 * 16 * 64 * 64 * 4
    assert (
        memory_peak() - before < 16.5 * one
    )  # of each of six blocks the convolution's and the ReLU's result; the loss, gradients on their way
    assert config()["memory_kept"] <= one
