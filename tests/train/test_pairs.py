"""Sequences turned into others from the command line, small."""

import pytest

from cnnpy import cli, data, train
from cnnpy.train import tasks

pytest.importorskip("safetensors", reason="it comes with the train extra")


@pytest.mark.parametrize("kind", ["dates", "reversals"])
def test_an_epoch_of_pairs(kind, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tasks.Pairs, "COUNTS", (96, 16, 24))
    assert cli.main(["train", "seq2seq_attention", "--data", kind, "--epochs", "1", "--quiet", "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(printed) if "of the test sequences are right as a whole" in line)
    assert 0 <= float(printed[at].split()[0]) <= 1 and all(" -> " in line for line in printed[at + 1 : at + 4])
    assert any("(24 samples)" in line for line in printed)
    make = data.dates if kind == "dates" else data.reversals
    x, y, characters = make(136, rng=train.Run.open(tmp_path / "run").config["seed"])
    task = tasks.Pairs({"data": kind, "seed": train.Run.open(tmp_path / "run").config["seed"]})
    learn, validate = task.parts()
    assert task.config["classes"] == characters and (len(learn), len(validate), len(task.test())) == (96, 16, 24)
    assert (learn.x[:, : x.shape[1]] == x[:96]).all() and (learn.y == y[:96]).all() and (task.test().x == x[112:]).all()


def test_other_data_for_pairs(capsys):
    assert cli.main(["train", "seq2seq_attention", "--data", "digits", "--quiet"]) == 1
    assert "'digits' is neither 'dates' nor 'reversals'" in capsys.readouterr().err
