import json
import re
import subprocess
import sys

import numpy as np
import pytest

from cnnpy import cli, data, train
from cnnpy.train import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run on generated shapes."""
    folder = tmp_path_factory.mktemp("runs") / "shapes"
    assert cli.main(["train", "lenet5", "--data", "shapes", "--epochs", "2", "--quiet", "--out", str(folder)]) == 0
    return folder


def test_train_validate_test_predict(run, capsys, tmp_path):
    from PIL import Image

    assert {p.name for p in run.iterdir()} - {"report.html"} == {"checkpoints", "config.json", "history.csv"}
    assert len((run / "history.csv").read_text().splitlines()) == 3
    for command in ("validate", "test"):
        assert cli.main([command, str(run)]) == 0
        out = capsys.readouterr().out
        assert "accuracy" in out and float(out.split("accuracy ")[1].split()[0]) > 0.5  # chance is 0.25
    sample = data.shapes(20, rng=9)
    paths = []
    for i in range(20):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(sample.x[i, 0]).save(paths[-1])
    assert cli.main(["predict", str(run), *paths]) == 0
    lines = capsys.readouterr().out.splitlines()
    right = [sample.classes[y] in line.split(":")[1].split("(")[0] for line, y in zip(lines, sample.y, strict=True)]
    assert np.mean(right) >= 0.5


def test_resume_goes_on(run, capsys):
    assert cli.main(["train", "lenet5", "--data", "shapes", "--epochs", "3", "--quiet", "--out", str(run), "--resume"]) == 0
    assert "test accuracy" in capsys.readouterr().out
    assert len((run / "history.csv").read_text().splitlines()) == 4
    assert cli.main(["train", "lenet5", "--data", "shapes", "--epochs", "3", "--quiet", "--out", str(run), "--resume", "--seed", "5"]) == 1
    assert "another seed" in capsys.readouterr().err


def test_a_run_is_never_overwritten(run, capsys, tmp_path, monkeypatch):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    command = ["train", "lenet5", "--data", "shapes", "--epochs", "1", "--quiet"]
    assert cli.main([*command, "--out", str(run)]) == 1 and "holds a run already; give --resume" in capsys.readouterr().err
    other = Run.open(run)
    other.create()  # a process that is training in it
    again = [*command[:4], "--epochs", "3", "--quiet", "--out", str(run), "--resume"]
    assert cli.main(again) == 1 and "is in use by another process" in capsys.readouterr().err
    other.close()
    assert all(p.read_bytes() == content for p, content in before.items())
    monkeypatch.chdir(tmp_path)
    for name in ("lenet5-shapes", "lenet5-shapes-2", "lenet5-shapes-3"):
        assert cli.main(command) == 0 and f"run folder runs/{name}\n" in capsys.readouterr().out
    assert cli.main([*command[:4], "--epochs", "2", "--quiet", "--resume"]) == 0
    assert "run folder runs/lenet5-shapes-3\n" in capsys.readouterr().out and len(Run.open("runs/lenet5-shapes").history()) == 1


def test_report(run, capsys):
    pytest.importorskip("matplotlib", reason="it comes with the plot extra")
    assert cli.main(["report", str(run)]) == 0 and "report.html" in capsys.readouterr().out
    page = (run / "report.html").read_text()
    for heading in ("Training", "Confusion matrix", "Worst mistakes", "First filters", "History", "Settings"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("data:image/png;base64,") > 4 and "taken for" in page and not re.search("https?:", page)
    history = (run / "history.csv").read_text()
    (run / "history.csv").write_text("epoch,loss\n1,nothing\n")
    assert cli.main(["report", str(run)]) == 1 and "history.csv is damaged" in capsys.readouterr().err
    (run / "history.csv").write_text(history)


def test_info_and_summary(capsys):
    assert cli.main(["info"]) == 0 and "instruction sets" in capsys.readouterr().out
    assert cli.main(["summary", "lenet5"]) == 0
    out = capsys.readouterr().out
    assert "61,706" in out and "416,520" in out


@pytest.mark.parametrize(
    "make",
    [
        lambda p: None,
        lambda p: p.mkdir(),
        lambda p: (p.mkdir(), (p / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08broken")),
        lambda p: (p.mkdir(), (p / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + b"\xff" * 12)),
    ],
    ids=["missing", "empty", "damaged gzip", "lying header"],
)
def test_bad_data_folder(make, tmp_path, capsys):
    """One sentence, status 1, nothing half-written."""
    folder, out = tmp_path / "data", tmp_path / "run"
    make(folder)
    assert cli.main(["train", "lenet5", "--data", str(folder), "--out", str(out), "--quiet"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("cnnpy train: ")
    assert not out.exists()


def test_bad_run_and_image(run, tmp_path, capsys):
    assert cli.main(["test", str(tmp_path)]) == 1 and "is not a run folder" in capsys.readouterr().err
    (tmp_path / "config.json").write_text('{"model": 3}')
    assert cli.main(["test", str(tmp_path)]) == 1 and "is damaged" in capsys.readouterr().err
    (tmp_path / "x.png").write_text("no picture")
    assert cli.main(["predict", str(run), str(tmp_path / "x.png")]) == 1 and "is not a readable image" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["train"],
        ["train", "x"],
        ["train", "lenet5", "--epochs", "0"],
        ["train", "lenet5", "--lr", "nan"],
        ["summary", "lenet5", "--input", "3"],
    ],
)
def test_wrong_usage_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as e:
        cli.main(arguments)
    assert e.value.code == 2 and "usage: cnnpy" in capsys.readouterr().err


def test_as_a_module():
    done = subprocess.run([sys.executable, "-P", "-m", "cnnpy", "--help"], capture_output=True, text=True, check=True)
    assert "train" in done.stdout and "COMMAND" in done.stdout


@pytest.fixture(scope="module")
def dark_and_light(tmp_path_factory):
    """Class folders of small colour pictures."""
    image = pytest.importorskip("PIL.Image", reason="pillow comes with the train extra")
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("pictures") / "set"
    for part, count in (("train", 30), ("test", 6)):
        for label, name in enumerate(("dark", "light")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 90, (32, 32, 3)) + 150 * label
                image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


def test_a_cifar_resnet_with_its_recipe(dark_and_light, tmp_path, capsys):
    """Class folders of small pictures: trained with pad-and-crop, flips and the paper's rates, then tested."""
    out = tmp_path / "run"
    command = ["train", "resnet20", "--data", str(dark_and_light), "--epochs", "2", "--batch-size", "16", "--out", str(out), "--quiet"]
    assert cli.main(command) == 0 and "(12 samples)" in capsys.readouterr().out
    config = json.loads((out / "config.json").read_text())
    assert config["optimizer"] == "sgd" and config["classes"] == ["dark", "light"] and config["input"] == [3, 32, 32]
    rows = (out / "history.csv").read_text().splitlines()
    assert [float(r.split(",")[rows[0].split(",").index("lr")]) for r in rows[1:]] == pytest.approx([0.1, 0.01])
    picture = next((dark_and_light / "test" / "light").iterdir())
    assert cli.main(["test", str(out)]) == 0 and cli.main(["predict", str(out), str(picture)]) == 0


@pytest.mark.parametrize(("name", "lr", "decay"), [("vgg11", 0.05, 5e-4), ("alexnet", 0.02, 5e-4), ("resnet18", 0.1, 5e-4)])
def test_recipes_of_the_large_networks_on_small_pictures(name, lr, decay, dark_and_light, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", name, "--data", str(dark_and_light), "--epochs", "1", "--batch-size", "20", "--out", str(out), "--quiet"]
    assert cli.main(command) == 0 and "test accuracy" in capsys.readouterr().out
    config = json.loads((out / "config.json").read_text())
    assert (config["optimizer"], config["lr"], config["augment"], config["schedule"]) == ("sgd", lr, "shift-flip", "steps")
    _, optimizer, _ = train.load_checkpoint(out / "checkpoints" / "best.safetensors")
    assert optimizer["groups"][0]["weight_decay"] == decay and optimizer["groups"][0]["momentum"] == 0.9
    assert cli.main(["test", str(out)]) == 0


def test_a_schedule_and_a_batch_size_by_default(dark_and_light, tmp_path):
    command = [
        "train",
        "resnet20",
        "--data",
        str(dark_and_light),
        "--epochs",
        "2",
        "--schedule",
        "cosine",
        "--out",
        str(tmp_path / "run"),
        "--quiet",
    ]
    assert cli.main(command) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["batch_size"] == 128 and config["schedule"] == "cosine"
    assert train.Run.open(tmp_path / "run").history()["lr"] == pytest.approx([0.1, 0.05])


def test_squares_hidden_targets_smoothed_and_few_kept_to_validate(dark_and_light, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", "resnet20", "--data", str(dark_and_light), "--epochs", "1", "--batch-size", "16", "--out", str(out), "--quiet"]
    command += ["--augment", "shift-flip-cutout", "--label-smoothing", "0.2", "--validation", "0.05"]
    assert cli.main(command) == 0 and "57 training samples" in capsys.readouterr().out
    config = json.loads((out / "config.json").read_text())
    assert (config["augment"], config["label_smoothing"], config["validation"]) == ("shift-flip-cutout", 0.2, 0.05)
    assert cli.main(["validate", str(out)]) == 0 and "(3 samples)" in capsys.readouterr().out
    assert cli.main([*command, "--label-smoothing", "0.1", "--resume"]) == 1
    assert "--resume with another label_smoothing than the run" in capsys.readouterr().err
    assert cli.main(["train", "char_lstm", "--data", "x.txt", "--validation", "0.2"]) == 1
    assert "train: --validation 0.2 is for images, char_lstm has none" in capsys.readouterr().err
    for option, text in (("--validation", "1"), ("--validation", "few"), ("--label-smoothing", "-1")):
        with pytest.raises(SystemExit):
            cli.main(["train", "lenet5", option, text])
        assert f"{text!r} is not a number" in capsys.readouterr().err


def test_a_stopped_run_says_how_to_go_on(dark_and_light, tmp_path, monkeypatch, capsys):
    def stopped(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", stopped)
    monkeypatch.chdir(tmp_path)
    command = ["train", "resnet20", "--data", str(dark_and_light), "--epochs", "3", "--weight-decay", "0.001"]
    assert cli.main(command) == 1
    said = capsys.readouterr().err.strip()
    folder = "runs/resnet20-" + dark_and_light.name
    assert said == f"stopped; continue with: cnnpy {' '.join(command)} --out {folder} --resume"


def test_notebooks_are_copied_and_changed_ones_stay(tmp_path, capsys):
    from cnnpy.cli.notebooks import lessons

    folder = tmp_path / "course"
    assert cli.main(["notebooks", str(folder)]) == 0
    names = {p.name for p in folder.iterdir()}
    assert names == {p.name for p in lessons()} and {n[:2] for n in names} >= {f"{i:02d}" for i in range(1, 21)}
    changed, gone = sorted(folder.iterdir())[:2]
    changed.write_text("my own work")
    gone.unlink()
    capsys.readouterr()
    assert cli.main(["notebooks", str(folder)]) == 0
    assert changed.read_text() == "my own work" and gone.exists()
    assert f"left as they are, because they were changed: {changed.name}" in capsys.readouterr().out
