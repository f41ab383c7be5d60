"""The same bits for any number of threads, on every run, from any Python thread; and after fork."""

import gc
import multiprocessing
import os
import random
import threading
import time

import numpy as np
import pytest

import cnnpy
from cnnpy import _core, data, models, optim
from cnnpy import functional as F
from tests.reliability.cases import CASES
from tests.reliability.flat import FLAT as OPERATIONS

LARGE = {
    "many channels": ((4, 70, 20, 20), (65, 70, 3, 3), {"padding": 1}),
    "more channels than a chunk": ((2, 300, 9, 9), (40, 300, 3, 3), {"padding": 1}),
    "few filters": ((40, 3, 40, 40), (6, 3, 5, 5), {"stride": 2}),
    "few channels": ((2, 3, 90, 90), (20, 3, 5, 5), {"padding": 2}),
    "grouped": ((3, 32, 24, 24), (64, 8, 3, 3), {"groups": 4}),
    "strided": ((3, 48, 31, 31), (48, 48, 3, 3), {"stride": 2, "padding": 1}),
    "pointwise": ((8, 128, 14, 14), (96, 128, 1, 1), {}),
    "weights packed in passes": ((1, 300, 18, 18), (500, 300, 3, 3), {"padding": 1, "algorithm": "direct"}),
    "winograd, all weights at once": ((2, 40, 57, 58), (70, 40, 3, 3), {"padding": 1, "algorithm": "winograd"}),
    "winograd, weights in slices": ((3, 300, 14, 14), (100, 300, 3, 3), {"padding": 1, "algorithm": "winograd"}),
    "winograd, gaps": ((2, 48, 40, 41), (40, 48, 3, 3), {"padding": 2, "dilation": 2}),
    "winograd, groups": ((2, 96, 30, 30), (64, 48, 3, 3), {"padding": 1, "groups": 2}),
    "winograd, one row": ((2, 48, 9, 200), (40, 48, 1, 3), {"padding": (0, 1)}),
    "winograd, stride": ((3, 48, 41, 60), (40, 48, 3, 3), {"stride": 2, "padding": 1, "algorithm": "winograd"}),
    "winograd, stride, weights in slices": ((2, 270, 29, 31), (100, 270, 4, 4), {"stride": 2, "padding": 1, "algorithm": "winograd"}),
    "winograd, 2 x 2": ((2, 48, 40, 41), (40, 48, 2, 2), {"algorithm": "winograd"}),
    "winograd, small tiles": ((1, 33, 7, 7), (35, 33, 3, 3), {"padding": 1, "algorithm": "winograd"}),
    "strided, few series of parts": ((9, 16, 61, 61), (24, 16, 3, 3), {"stride": 2}),
    "strided, long series of parts": ((60, 48, 48, 48), (33, 48, 3, 3), {"stride": 2, "padding": 1}),
    "pointwise, series": ((40, 27, 30, 30), (40, 27, 1, 1), {}),
    "winograd, long series": ((20, 16, 60, 60), (17, 16, 3, 3), {"padding": 1, "algorithm": "winograd"}),
    "winograd, 5 x 5": ((3, 40, 30, 31), (36, 40, 5, 5), {"padding": 2, "algorithm": "winograd"}),
    "winograd, 5 x 5, weights in slices": ((1, 300, 14, 14), (100, 300, 5, 5), {"padding": 2, "algorithm": "winograd"}),
    "depthwise": ((4, 70, 40, 40), (70, 1, 3, 3), {"padding": 1, "groups": 70}),
    "one box, one panel": ((32, 64, 7, 7), (32, 64, 3, 3), {"stride": 2, "padding": 1}),
    "three boxes, one panel": ((6, 48, 14, 14), (32, 48, 3, 3), {"padding": 1, "algorithm": "direct"}),
    "one image, one panel": ((1, 64, 28, 28), (32, 64, 3, 3), {"stride": 2, "padding": 1}),
    "winograd, one image, one panel": ((1, 64, 28, 28), (32, 64, 3, 3), {"padding": 1, "algorithm": "winograd"}),
    "winograd, an odd number of blocks": ((8, 48, 28, 28), (64, 48, 3, 3), {"padding": 1, "algorithm": "winograd"}),
    "depthwise, one part": ((32, 64, 7, 7), (64, 1, 3, 3), {"padding": 1, "groups": 64}),
}


@pytest.fixture
def restore_threads():
    before = cnnpy.num_threads()
    yield
    cnnpy.set_num_threads(before)


def digest(results):
    return [None if r is None else np.ascontiguousarray(r).tobytes() for r in results]


@pytest.mark.parametrize("name", LARGE)
def test_convolution_bits(name, isa, rng, restore_threads):
    xs, ws, options = LARGE[name]
    x, w = rng.normal(size=xs).astype(np.float32), rng.normal(size=ws).astype(np.float32)
    b = rng.normal(size=ws[0]).astype(np.float32)
    seen = set()
    for threads in (1, 2, 3, 4, 7, 16):
        for x_order in (x, F.channels_last(x)):
            cnnpy.set_num_threads(threads)
            y = F.conv2d(x_order, w, b, **options)
            dy = np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape)
            seen.add(tuple(digest([y, *F.conv2d_backward(dy, x_order, w, b, **options)])))
    assert len(seen) == 1


@pytest.mark.parametrize("name", sorted(set(CASES) - {"concatenate", "stack"}))
def test_operation_bits(name, rng, restore_threads, budget):
    op = OPERATIONS[name]
    arrays, options = CASES[name](rng, np.float32, integers=False)
    seen = set()
    for threads in (1, 2, 3, 16) * budget(1, 5, 25):
        cnnpy.set_num_threads(threads)
        y = op.forward(*arrays, **options)
        seen.add(tuple(digest([y, *op.backward(np.ones_like(y), *arrays, **options)])))
    assert len(seen) == 1


def epoch(threads):
    cnnpy.set_num_threads(threads)
    model = models.lenet5(rng=1)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loader = data.DataLoader(data.shapes(320, rng=2), 32, shuffle=True, rng=3)
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x.astype(np.float32) / 255), y)
        loss.backward()
        optimizer.step()
    return digest(model.state_dict().values())


def test_a_training_epoch_has_the_same_bits(restore_threads):
    """Shows 4 of the foundation: 1, 2, 3 and 8 threads, a whole epoch."""
    first = epoch(1)
    for threads in (2, 3, 8):
        assert epoch(threads) == first


def test_python_threads(rng, restore_threads):
    """Eight threads call at once: whoever finds the pool taken computes alone, with the same bits."""
    cnnpy.set_num_threads(4)
    x, w = rng.normal(size=(4, 32, 30, 30)).astype(np.float32), rng.normal(size=(32, 32, 3, 3)).astype(np.float32)
    wanted = F.conv2d(x, w).tobytes()
    wrong = []

    def work():
        for _ in range(10):
            if F.conv2d(x, w).tobytes() != wanted:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not wrong and not any(t.is_alive() for t in threads)


def test_a_soak_of_python_threads(rng, budget, restore_threads):
    """Eight threads call whatever they draw, for a while: each result has the bits that it had alone, and memory stays."""
    cnnpy.set_num_threads(4)
    calls = []
    for name in sorted(set(CASES) - {"concatenate", "stack"}):
        op, (arrays, options) = OPERATIONS[name], CASES[name](rng, np.float32, integers=False)

        def call(op=op, arrays=arrays, options=options):
            y = op.forward(*arrays, **options)
            return digest([y, *op.backward(np.ones_like(y), *arrays, **options)])

        calls.append((name, call, call()))
    end, wrong, done = time.monotonic() + budget(2, 60, 1800), [], [0] * 8

    def work(number):
        draw = random.Random(number)
        while time.monotonic() < end and not wrong:
            name, call, wanted = draw.choice(calls)
            try:
                same = call() == wanted
            except Exception as error:  # a thread would swallow it
                same, name = False, f"{name}: {error}"
            done[number] += 1
            if not same:
                wrong.append(name)

    def kept():
        gc.collect()  # results of earlier tests that only cycles hold
        _core.trim_memory()
        return _core.configuration()["memory_used"]

    used = kept()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == [] and min(done) > 0
    assert kept() == used
    print(f"soak: {sum(done)} calls of {len(calls)} operations, 0 wrong")


def _child(queue):
    x = np.ones((2, 16, 20, 20), np.float32)
    queue.put(float(F.conv2d(x, np.ones((16, 16, 3, 3), np.float32), padding=1).sum()))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_hundred_forked_children_finish(restore_threads, budget):
    """Shows 4 of the foundation: children forked after use start a pool of their own and leave."""
    cnnpy.set_num_threads(4)
    x, w = np.ones((4, 32, 30, 30), np.float32), np.ones((32, 32, 3, 3), np.float32)
    wanted = F.conv2d(x, w).tobytes()
    for _ in range(budget(100, 200, 1000)):
        F.conv2d(x, w)
        pid = os.fork()
        if pid == 0:
            ok = F.conv2d(x, w).tobytes() == wanted
            os._exit(0 if ok else 1)
        _, status = os.waitpid(pid, 0)
        assert status == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method):
    F.relu(np.ones(10))
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == float(
        F.conv2d(np.ones((2, 16, 20, 20), np.float32), np.ones((16, 16, 3, 3), np.float32), padding=1).sum()
    )
    child.join(30)
    assert child.exitcode == 0
