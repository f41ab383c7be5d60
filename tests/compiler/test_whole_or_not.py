"""Whatever stops a compiled step, the model is as before it or as after it."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import cnnpy
from cnnpy import functional as F
from cnnpy import nn, optim


def network(width=24):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, rng=0), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.2, rng=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, 4, rng=2),
    )  # fmt: skip


def ready(steps=3):
    model = network()
    step = cnnpy.compile_step(model, F.cross_entropy, optim.Adam(model.parameters()))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 3, 32, 32)).astype(np.float32), rng.integers(0, 4, 8)
    for _ in range(steps):
        step(x, y)
    return model, step, x, y


def state(model, optimizer):
    found = [np.array(v) for v in model.state_dict().values()]
    found += [np.array(v) for values in optimizer.state_dict()["state"].values() for v in values.values()]
    return found + [np.array(m._rng) for m in model.modules() if hasattr(m, "_rng")]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_ctrl_c():
    """Stopped at many moments, parameters, moments, statistics and counters are those of a whole number of steps."""
    code = """
    import hashlib, time, numpy as np, cnnpy
    from cnnpy import functional as F, nn, optim

    def make():
        model = nn.Sequential(nn.Conv2d(3, 48, 3, padding=1, rng=0), nn.BatchNorm2d(48), nn.ReLU(), nn.Dropout(0.2, rng=1),
                              nn.Conv2d(48, 48, 3, padding=1, rng=3), nn.BatchNorm2d(48), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 4, rng=2))
        return model, cnnpy.compile_step(model, F.cross_entropy, optim.Adam(model.parameters()))

    def digest(model, step):
        hash = hashlib.sha256()
        for v in model.state_dict().values():
            hash.update(v.tobytes())
        for values in step.optimizer.state_dict()["state"].values():
            for v in values.values():
                hash.update(np.asarray(v).tobytes())
        hash.update(repr([m._rng for m in model.modules() if hasattr(m, "_rng")]).encode())
        return hash.hexdigest()

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 3, 32, 32)).astype(np.float32), rng.integers(0, 4, 4)
    model, step = make()
    whole = [digest(model, step)] if step(x, y) is None else []
    for _ in range(90):
        whole.append(digest(model, step))
        step(x, y)
    model, step = make()
    for _ in range(3):
        step(x, y)
    print("go", flush=True)
    try:
        for _ in range(85):
            step(x, y)
        time.sleep(60)
    except KeyboardInterrupt:
        pass
    print("whole" if digest(model, step) in whole else "between", flush=True)
    """
    for after in (0.03, 0.07, 0.11, 0.17, 0.23):
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        process.stdout.readline()
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=120)[0]
        assert output.strip().endswith("whole"), output


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_fork():
    """A forked child steps on as its parent does."""
    _, step, x, y = ready()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(write, repr([step(x, y), step(x, y)]).encode())
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.read(read, 1000).decode() == repr([step(x, y), step(x, y)])
    os.close(read), os.close(write)


def test_no_memory_for_scratch():
    model, step, x, y = ready()
    before = state(model, step.optimizer)
    cnnpy.set_memory_limit(64)
    try:
        with cnnpy.threads(5), pytest.raises(MemoryError, match=r"compiled program: no memory for \d+ bytes of scratch"):
            step(x, y)
        assert same(state(model, step.optimizer), before)
    finally:
        cnnpy.set_memory_limit(None)
    other, others, *_ = ready()
    assert step(x, y) == others(x, y)
    assert same(state(model, step.optimizer), state(other, others.optimizer))


def test_no_memory_for_the_program():
    """Then the step runs eagerly: what it needs at once is less."""
    model, step, x, y = ready(1)
    cnnpy.set_memory_limit(8 * 24 * 32 * 32 * 4 + 1000)
    try:
        with pytest.warns(RuntimeWarning, match="there is no memory for its program"):
            losses = [step(x, y) for _ in range(3)]
    finally:
        cnnpy.set_memory_limit(None)
    assert step.program is None
    other, others, *_ = ready(1)
    assert losses == [others(x, y) for _ in range(3)]
    assert same(state(model, step.optimizer), state(other, others.optimizer))


def test_an_error_in_the_update_leaves_the_model_before_the_step():
    model, step, x, y = ready()
    step.gradients(x, y)
    before = state(model, step.optimizer)
    step.optimizer.param_groups[0]["lr"] = "fast"
    with pytest.raises((TypeError, ValueError)):
        step.update()
    assert same(state(model, step.optimizer), before)


def test_two_threads_take_turns():
    """Calls of one step from two Python threads are whole steps one after another."""
    import threading

    model, step, x, y = ready()
    threads = [threading.Thread(target=lambda: [step(x, y) for _ in range(5)]) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    other, others, *_ = ready()
    for _ in range(10):
        others(x, y)
    assert same(state(model, step.optimizer), state(other, others.optimizer))
