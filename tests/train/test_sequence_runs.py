"""Sequences from the command line: train, resume, validate, test, sample."""

import numpy as np
import pytest

from cnnpy import cli, train


def write_series(path):
    steps = np.arange(240)
    values = 50 + 10 * np.sin(2 * np.pi * steps / 12) + 0.05 * steps
    path.write_text("month,value\n" + "".join(f"{t},{v:.6f}\n" for t, v in zip(steps, values, strict=True)))


def test_a_text(tmp_path, capsys):
    pytest.importorskip("safetensors", reason="it comes with the train extra")
    source = tmp_path / "text.txt"
    source.write_text("the cat sat on the mat. " * 200)
    command = ["train", "char_lstm", "--data", str(source), "--window", "20", "--quiet", "--out", str(tmp_path / "run")]
    assert cli.main([*command, "--epochs", "1"]) == 0
    assert cli.main([*command, "--epochs", "3", "--resume"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("nats a character, accuracy") == 2
    config = train.Run.open(tmp_path / "run").config
    assert config["window"] == 20 and config["classes"] == sorted(set("the cat sat on the mat. "))
    history = train.Run.open(tmp_path / "run").history()
    assert len(history) == 3 and history[-1]["val_loss"] < history[0]["val_loss"] < 3
    assert cli.main(["validate", str(tmp_path / "run")]) == 0 and cli.main(["test", str(tmp_path / "run")]) == 0
    assert f"{min(history['val_loss']):.4f} nats a character" in capsys.readouterr().out
    assert cli.main(["sample", str(tmp_path / "run"), "--prompt", "the c", "--length", "40", "--temperature", "0.1"]) == 0
    written = capsys.readouterr().out
    assert written.startswith("the c") and len(written) == 46 and set(written) <= set("the cat sat on the mat. \n")
    for wrong, why in (
        (["sample", str(tmp_path / "run"), "--prompt", "THE"], "'E' is not a character of the text"),
        (["predict", str(tmp_path / "run"), "a.png"], "expected a network for images"),
        (["report", str(tmp_path / "run")], "expected a network for images"),
        ([*command, "--epochs", "4", "--resume", "--window", "10"], "another window"),
        ([*command[:-1], str(tmp_path / "other"), "--augment", "shift"], "--augment shift is for images"),
        (["train", "char_lstm", "--data", str(tmp_path / "none"), "--quiet"], "is not a file"),
        (["train", "char_lstm", "--data", str(source), "--window", "500", "--quiet"], "too few for windows of 500"),
    ):
        assert cli.main(wrong) == 1
        assert why in capsys.readouterr().err


def test_a_series(tmp_path, capsys):
    pytest.importorskip("safetensors", reason="it comes with the train extra")
    source = tmp_path / "series.csv"
    write_series(source)
    command = [
        "train",
        "forecaster",
        "--data",
        str(source),
        "--window",
        "12",
        "--season",
        "12",
        "--epochs",
        "300",
        "--lr",
        "0.01",
        "--quiet",
    ]
    assert cli.main([*command, "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "the value 12 steps ago would have 0.6000" in printed
    assert float(printed.split("test mean absolute error ")[1].split()[0]) < 0.6
    assert cli.main(["train", "forecaster", "--data", str(source), "--window", "100", "--quiet"]) == 1
    assert "too few for windows of 100" in capsys.readouterr().err


def test_dates_with_attention(tmp_path, capsys, budget):
    pytest.importorskip("safetensors", reason="it comes with the train extra")
    epochs = budget(quick=0, full=8)
    if not epochs:
        pytest.skip("takes minutes: full tier")
    assert (
        cli.main(["train", "seq2seq_attention", "--data", "dates", "--epochs", str(epochs), "--quiet", "--out", str(tmp_path / "run")]) == 0
    )
    printed = capsys.readouterr().out
    assert float(printed.split(" of the test sequences")[0].splitlines()[-1]) >= 0.99
    assert cli.main(["train", "seq2seq_attention", "--data", "digits", "--quiet"]) == 1
    assert "neither 'dates' nor 'reversals'" in capsys.readouterr().err
