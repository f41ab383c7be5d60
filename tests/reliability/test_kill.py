"""A process killed at any moment of saving: what it acknowledged loads, and its debris goes. And a killed run goes on as if nothing had been."""

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest

from cnnpy import nn, optim, train
from cnnpy.train.checkpoint import newest


class Trainer:
    """As much of a trainer as a checkpoint needs."""

    first, reducer, schedule, means, epoch = True, None, None, None, 0

    def __init__(self):
        self.model = nn.Linear(200, 200, rng=0)
        self.optimizer = optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.loader, self.history, self.step = self, train.History(), 0

    def state_dict(self):
        return {"seed": 0, "epoch": 0, "position": 0}

    def work(self):
        self.step += 1
        for p in self.model.parameters():
            p._data[...] = self.step


def save_for_ever(folder, pipe):
    trainer = Trainer()
    checkpoint = train.Checkpoint(folder, keep=2)
    checkpoint.on_train_begin(trainer)
    with contextlib.suppress(ValueError):
        trainer.step = train.load_checkpoint(newest(folder)[0])[2]["step"]
    while True:
        trainer.work()
        trainer.history.rows = [{"epoch": 1, "val_accuracy": float(trainer.step)}]
        checkpoint.on_epoch_end(1, trainer.history.rows[-1])
        os.write(pipe, trainer.step.to_bytes(8, "little"))


def test_killed_while_saving(tmp_path, budget, request):
    """One folder, many lives: each child saves as fast as it can until it is killed, the next one goes on from what it finds."""
    rng = random.Random(request.node.name)
    kills, saves = budget(quick=60, full=200, long=2000), 0
    for _ in range(kills):
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that this process has threads is the point
            child = os.fork()
        if child == 0:
            try:
                save_for_ever(tmp_path, writing)
            finally:
                os._exit(1)
        os.close(writing)
        first = os.read(reading, 8)  # it lives; from here on any moment is as good as another
        time.sleep(rng.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        rest = b""
        while part := os.read(reading, 1 << 16):
            rest += part
        os.close(reading)
        acknowledged = int.from_bytes((first + rest)[-8:], "little")
        saves = acknowledged
        path, damaged = newest(tmp_path)
        weights, _, state = train.load_checkpoint(path)  # checks the hash
        assert damaged == [] and state["step"] >= acknowledged and (weights["weight"] == state["step"]).all()
        best = train.load_checkpoint(tmp_path / "best.safetensors")
        assert best[2]["step"] >= acknowledged
    train.Checkpoint(tmp_path, keep=2).on_train_begin(Trainer())
    names = sorted(os.listdir(tmp_path))
    assert not [n for n in names if n.endswith(".tmp")] and "best.safetensors" in names and len(names) <= 4
    print(f"kills: {kills}, checkpoints saved: {saves}, acknowledged and lost: 0")


RUN = """
import hashlib, os, signal, sys
import numpy as np
import cnnpy
from cnnpy import data, nn, optim, train
from cnnpy.transforms import Compose, Normalize, RandomHorizontalFlip

folder, threads, kill_at, resume = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "resume"
cnnpy.set_num_threads(threads)
model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, rng=0), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.2, rng=1),
                      nn.Flatten(), nn.Linear(8 * 64, 4, rng=0))
optimizer = optim.AdamW(model.parameters(), lr=0.01)
schedule = optim.CosineLR(optimizer, 4)

class Kill:
    def on_batch_end(self, step, logs):
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

history = train.fit(model, *data.split(data.shapes(200, size=16, rng=0), [0.8, 0.2], rng=0), optimizer=optimizer, schedule=schedule, epochs=4, batch_size=20,
    callbacks=[train.Checkpoint(folder, every=3), Kill()], resume=resume or None, progress=False,
    transform=Compose(RandomHorizontalFlip(), Normalize(60, 80)), seed=5, workers=threads - 1)
digest = hashlib.sha256(b"".join(a.tobytes() for a in model.state_dict().values()))
for state in optimizer.state_dict()["state"].values():
    digest.update(b"".join(np.asarray(v).tobytes() for v in state.values()))
print(digest.hexdigest(), [[r[k] for k in sorted(r) if k != "seconds"] for r in history.rows])
"""


def run(folder, threads, kill_at=0, resume=False):
    code = textwrap.dedent(RUN)
    command = [sys.executable, "-P", "-c", code, str(folder), str(threads), str(kill_at), "resume" if resume else "begin"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_killed_and_resumed(tmp_path, budget):
    """32 steps in 4 epochs, saved after every third and at the ends of epochs; killed anywhere, resumed with other threads: the same bits, history too."""
    whole = run(tmp_path / "whole", 1)
    assert whole.returncode == 0, whole.stderr
    every = [(moment, 1, 3) for moment in range(1, 33)] + [(moment, 4, 2) for moment in range(1, 33)]  # step, threads before and after
    chosen = budget(quick=every[10:11], full=[every[m - 1] for m in (1, 4, 8, 11, 16, 17, 23, 24, 30, 32)], long=every)
    for moment, before, after in chosen:
        folder = tmp_path / f"{moment}-{before}"
        killed = run(folder, before, kill_at=moment)
        assert killed.returncode == -signal.SIGKILL
        resumed = run(folder, after, resume=bool(list(folder.glob("step-*"))))
        assert resumed.returncode == 0, resumed.stderr
        assert resumed.stdout == whole.stdout, moment
    print(f"killed and resumed at {len(chosen)} moments: the bits of an unbroken run")


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    """A limit on the size of files stands for a full disk: training ends with the path, the checkpoint before stays whole."""
    import resource

    model = nn.Linear(3000, 4, rng=0)
    x = np.zeros((40, 3000), np.float32)

    class Limit:
        def on_epoch_begin(self, epoch):
            if epoch == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError) as error:
            options = {"epochs": 3, "progress": False, "callbacks": [train.Checkpoint(tmp_path), Limit()]}
            train.fit(model, (x, np.arange(40) % 4), optimizer=optim.SGD(model.parameters(), lr=0.1), **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert "step-00000002.safetensors" in str(error.value.filename)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001.safetensors"]
    assert train.load_checkpoint(tmp_path / "step-00000001.safetensors")[2]["step"] == 1


def test_a_checkpoint_of_another_model(tmp_path):
    def fit(model, **options):
        x = np.zeros((8, 5), np.float32)
        train.fit(
            model,
            (x, np.zeros(8, int)),
            optimizer=optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
            progress=False,
            callbacks=[train.Checkpoint(tmp_path)],
            **options,
        )

    fit(nn.Sequential(nn.Linear(5, 4, rng=0)), epochs=1)
    for other in (nn.Sequential(nn.Linear(5, 3, rng=0)), nn.Sequential(nn.Linear(5, 4, rng=0), nn.Linear(4, 4, rng=0))):
        weights = hashlib.sha256(b"".join(a.tobytes() for a in other.state_dict().values())).digest()
        with pytest.raises(ValueError, match=r"load_state_dict: .*(has shape|missing)"):
            fit(other, epochs=2, resume=True)
        assert hashlib.sha256(b"".join(a.tobytes() for a in other.state_dict().values())).digest() == weights
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="holds no usable checkpoint"):
        fit(nn.Sequential(nn.Linear(5, 4, rng=0)), epochs=2, resume=True)
