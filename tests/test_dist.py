"""Training in several processes: the same weights as one with the larger batch, and no rank that hangs when another fails."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from cnnpy import cli, data, dist, io, nn, optim, train
from cnnpy.data import DataLoader

pytest.importorskip("mpi4py", reason="it comes with the mpi extra")

MPIEXEC = next((p for p in (Path(sys.executable).parent / "mpiexec", shutil.which("mpiexec")) if p and Path(p).exists()), None)
needs_mpiexec = pytest.mark.skipif(MPIEXEC is None, reason="no mpiexec beside the interpreter or on the path")

SET_UP = """
import hashlib, json, os, signal, sys, time
import numpy as np
import cnnpy
from cnnpy import data, dist, io, nn, optim, train
from cnnpy.transforms import Normalize
cnnpy.set_num_threads(1)

def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3, rng=0), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4 * 49, 4, rng=0))

def fit(reducer, batch_size, epochs=2, samples=150, model=None, **options):
    model = model or network()
    parts = data.split(data.shapes(samples, size=16, rng=0), [0.8, 0.2], rng=0)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    history = train.fit(model, *parts, optimizer=optimizer, epochs=epochs, batch_size=batch_size, progress=False,
                        transform=Normalize(60, 80), reducer=reducer, **options)
    return model, history
"""


def mpirun(ranks, code, *arguments, timeout=100, env=None):
    """Runs a program in so many processes; returns (exit status, output, errors, seconds)."""
    begin = time.monotonic()
    done = subprocess.run(
        [str(MPIEXEC), "-n", str(ranks), sys.executable, "-P", "-c", SET_UP + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
    )
    return done.returncode, done.stdout, done.stderr, time.monotonic() - begin


TRAIN = """
reducer = dist.MPIReducer(ordered=sys.argv[2] == "ordered")
model, history = fit(reducer, int(sys.argv[3]), callbacks=[train.Checkpoint(sys.argv[1] + "/run"), train.CSVLogger(sys.argv[1] + "/history.csv")])
reducer.agree_on_weights(model)
if reducer.rank == 0:
    io.save(model.state_dict(), sys.argv[1] + "/weights")
    print(json.dumps(history.rows))
"""


def one_process(batch_size):
    scope: dict = {}
    exec(SET_UP.replace("cnnpy.set_num_threads(1)", ""), scope)
    return scope["fit"](None, batch_size)


@needs_mpiexec
@pytest.mark.parametrize("ranks", [2, 4])
def test_equals_one_process_with_the_larger_batch(ranks, tmp_path):
    """120 samples in steps of 32: the last step has 24, so its shares are smaller too. Rounding: a few units in the last place of sums of 32 terms."""
    status, out, errors, _ = mpirun(ranks, TRAIN, tmp_path, "any", 32 // ranks)
    assert status == 0, errors
    rows = json.loads(out)
    model, history = one_process(32)
    for name, array in io.load(tmp_path / "weights").items():
        np.testing.assert_allclose(array, model.state_dict()[name], rtol=2e-5, atol=2e-6, err_msg=name)
    for column in ("loss", "accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_allclose([r[column] for r in rows], history[column], rtol=1e-5)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "best.safetensors",
        "step-00000004.safetensors",
        "step-00000008.safetensors",
    ]
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 3


@needs_mpiexec
def test_ordered_sums_repeat_to_the_bit(tmp_path):
    found = []
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        status, _, errors, _ = mpirun(3, TRAIN, tmp_path / str(i), "ordered", 10)
        assert status == 0, errors
        found.append(b"".join(a.tobytes() for a in io.load(tmp_path / str(i) / "weights").values()))
    assert found[0] == found[1]


@needs_mpiexec
def test_fewer_samples_than_ranks_in_the_last_step(tmp_path):
    """3 ranks, 121 of 120 + 1: the last step of an epoch has one sample, two ranks have none."""
    code = """
    reducer = dist.MPIReducer(ordered=True)
    model = network()
    x = np.random.default_rng(0).normal(size=(13, 1, 16, 16)).astype(np.float32)
    history = train.fit(model, (x, np.arange(13) % 4), optimizer=optim.SGD(model.parameters(), lr=0.1), epochs=2, batch_size=2, progress=False, reducer=reducer)
    reducer.agree_on_weights(model)
    if reducer.rank == 0:
        io.save(model.state_dict(), sys.argv[1])
    """
    status, _, errors, _ = mpirun(3, code, tmp_path / "w")
    assert status == 0, errors
    scope: dict = {}
    exec(SET_UP.replace("cnnpy.set_num_threads(1)", ""), scope)
    model = scope["network"]()
    x = np.random.default_rng(0).normal(size=(13, 1, 16, 16)).astype(np.float32)
    train.fit(model, (x, np.arange(13) % 4), optimizer=optim.SGD(model.parameters(), lr=0.1), epochs=2, batch_size=6, progress=False)
    for name, array in io.load(tmp_path / "w").items():
        np.testing.assert_allclose(array, model.state_dict()[name], rtol=2e-5, atol=2e-6)


FAILING = """
class Fault:
    def on_batch_end(self, step, logs):
        if reducer.rank == 1 and step == 5:
            if sys.argv[1] == "raise":
                raise RuntimeError("the disk of rank 1 is gone")
            os.kill(os.getpid(), signal.SIGKILL if sys.argv[1] == "kill" else signal.SIGSTOP)

reducer = dist.MPIReducer(timeout=3)
fit(reducer, 16, callbacks=[train.Checkpoint(sys.argv[2]), Fault()])
print("the end")
"""


@needs_mpiexec
@pytest.mark.parametrize(
    ("fault", "reason"), [("raise", "RuntimeError: the disk of rank 1 is gone"), ("kill", ""), ("stop", "did not come to")]
)
def test_one_failing_rank_ends_all(fault, reason, tmp_path):
    status, out, errors, seconds = mpirun(2, FAILING, fault, tmp_path / "run")
    assert status != 0 and "the end" not in out and seconds < 60
    assert reason in errors and ("rank 1 of 2, step 5" in errors or fault != "raise")
    weights, _, state = train.load_checkpoint(train.checkpoint.newest(tmp_path / "run")[0])
    assert state["step"] == 4 and set(weights) == {"0.weight", "0.bias", "4.weight", "4.bias"}


@needs_mpiexec
def test_ranks_with_different_models_are_refused(tmp_path):
    code = """
    reducer = dist.MPIReducer(timeout=20)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 4 + reducer.rank, rng=0))
    fit(reducer, 16, model=model)
    """
    status, _, errors, _ = mpirun(2, code)
    assert status != 0 and "ValueError: fit: the model or the number of steps of rank 1 is not that of rank 0" in errors


@needs_mpiexec
def test_distributed_from_the_command_line(tmp_path):
    common = ["train", "lenet5", "--data", "shapes", "--quiet"]

    def distributed(*more):
        command = [
            str(MPIEXEC),
            "-n",
            "2",
            sys.executable,
            "-P",
            "-m",
            "cnnpy",
            *common,
            "--batch-size",
            "32",
            "--out",
            str(tmp_path / "two"),
            *more,
        ]
        return subprocess.run([*command, "--distributed"], capture_output=True, text=True, timeout=100)

    done = distributed("--epochs", "1")
    assert done.returncode == 0 and done.stdout.count("test accuracy") == 1, done.stderr
    assert cli.main([*common, "--epochs", "1", "--batch-size", "64", "--out", str(tmp_path / "one")]) == 0
    one, two = (io.load(tmp_path / n / "checkpoints" / "best.safetensors") for n in ("one", "two"))
    for name in one:  # Adam divides by the root of tiny squares, so rounding grows more than in SGD
        np.testing.assert_allclose(two[name], one[name], rtol=2e-3, atol=2e-4, err_msg=name)
    done = distributed("--epochs", "2", "--resume")
    assert done.returncode == 0 and len((tmp_path / "two" / "history.csv").read_text().splitlines()) == 3, done.stderr
    assert cli.main([*common, "--epochs", "3", "--batch-size", "32", "--out", str(tmp_path / "two"), "--resume"]) == 1
    done = distributed("--epochs", "1")  # the folder is taken
    assert done.returncode != 0 and "holds a run already" in done.stderr


@needs_mpiexec
def test_dropout_differs_between_ranks_and_resumes(tmp_path):
    code = """
    reducer = dist.MPIReducer(ordered=True)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5, rng=7), nn.Linear(256, 4, rng=0))
    seen = {}
    class Look:
        def on_train_begin(self, trainer):
            seen["rng"] = list(model[1]._rng)
    fit(reducer, 16, epochs=int(sys.argv[2]), model=model, callbacks=[Look(), train.Checkpoint(sys.argv[1], every=3)],
        resume=True if sys.argv[3:] else None)
    seeds = reducer.gather(np.array(seen["rng"]))[:, 0]
    if reducer.rank == 0:
        assert len(set(seeds.tolist())) == 2
        print(hashlib.sha256(b"".join(a.tobytes() for a in model.state_dict().values())).hexdigest())
    """
    outputs = []
    for arguments in (("a", 3), ("b", 1), ("b", 3, "resume")):
        status, out, errors, _ = mpirun(2, code, tmp_path / arguments[0], *arguments[1:])
        assert status == 0, errors
        outputs.append(out)
    assert outputs[0] == outputs[2] != outputs[1]


def test_shards_are_parts_of_the_same_batches():
    whole = DataLoader(data.ArrayDataset(np.arange(23), np.arange(23)), 6, shuffle=True, rng=4)
    shards = [DataLoader(whole.dataset, 2, shuffle=True, rng=4, shard=(r, 3)) for r in range(3)]
    assert len(whole) == len(shards[0]) == 4
    for batch, *parts in zip(whole, *shards, strict=True):
        np.testing.assert_array_equal(batch[0], np.concatenate([p[0] for p in parts]))
        assert max(len(p[0]) for p in parts) <= 2
    with pytest.raises(ValueError, match=r"DataLoader: shard is \(2, 2\)"):
        DataLoader(whole.dataset, 2, shard=(2, 2))


def test_one_process_alone():
    """A reducer of one rank changes nothing, to the bit."""
    reducer = dist.MPIReducer(ordered=True)
    parts = data.shapes(60, size=16, rng=0)
    models = []
    for r in (None, reducer):
        model = nn.Sequential(nn.Flatten(), nn.Linear(256, 4, rng=0))
        train.fit(model, parts, optimizer=optim.SGD(model.parameters(), lr=1e-5), epochs=1, progress=False, reducer=r)
        models.append(model)
    assert all(np.array_equal(a._data, b._data) for a, b in zip(*(m.parameters() for m in models), strict=True))
    with pytest.raises(ValueError, match="MPIReducer: timeout is 0"):
        dist.MPIReducer(timeout=0)
    with pytest.raises(TypeError, match="MPIReducer: ordered is int"):
        dist.MPIReducer(ordered=1)
