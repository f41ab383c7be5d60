import numpy as np
import pytest

from cnnpy import data, io, nn, optim, train
from cnnpy.transforms import Normalize


def tiny():
    return nn.Sequential(nn.Conv2d(1, 4, 3, rng=0), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 7 * 7, 4, rng=0))


@pytest.fixture(scope="module")
def pictures():
    return data.split(data.shapes(400, size=16, rng=0), [0.8, 0.2], rng=0)


def fit(pictures, epochs, folder=None, model=None, **options):
    model = model or tiny()
    optimizer = optim.Adam(model.parameters(), lr=0.005)
    callbacks = [*options.pop("callbacks", []), *([train.Checkpoint(folder, keep=2)] if folder else [])]
    history = train.fit(
        model, *pictures, optimizer=optimizer, epochs=epochs, callbacks=callbacks, progress=False, transform=Normalize(60, 80), **options
    )
    return model, history


def test_fit_learns(pictures):
    model, history = fit(pictures, 12)
    assert len(history) == 12 and history["loss"][-1] < history["loss"][0]
    assert history["val_accuracy"][-1] > 0.5  # chance is 0.25
    assert set(history.columns()) == {"epoch", "step", "lr", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
    result = train.evaluate(model, pictures[1], transform=Normalize(60, 80))
    assert result["accuracy"] == history["val_accuracy"][-1]
    assert train.predict(model, pictures[1].x, transform=Normalize(60, 80)).shape == (80, 4)


def test_resume_equals_an_unbroken_run(pictures, tmp_path):
    whole, history = fit(pictures, 5, tmp_path / "a")
    fit(pictures, 2, tmp_path / "b")
    resumed, again = fit(pictures, 5, tmp_path / "b", resume=tmp_path / "b")
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert a.tobytes() == b.tobytes()
    assert history["loss"] == again["loss"] and history["val_loss"] == again["val_loss"]
    same, _ = fit(pictures, 5, tmp_path / "b", resume=True)
    assert all(np.array_equal(a, b) for a, b in zip(whole.state_dict().values(), same.state_dict().values(), strict=True))


def test_checkpoints_kept_and_best(pictures, tmp_path):
    _, history = fit(pictures, 5, tmp_path)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["best.safetensors", "step-00000020.safetensors", "step-00000025.safetensors"]
    weights, optimizer, state = train.load_checkpoint(tmp_path / "best.safetensors")
    assert set(weights) == set(tiny().state_dict()) and set(optimizer["state"]) == {0, 1, 2, 3}
    best = max(history["val_accuracy"])
    assert state["history"][-1]["val_accuracy"] == best
    assert set(io.load(tmp_path / "best.safetensors")) > set(weights)


def test_resume_passes_over_a_damaged_checkpoint(pictures, tmp_path, capsys):
    fit(pictures, 3, tmp_path)
    newest = tmp_path / "step-00000015.safetensors"
    newest.write_bytes(newest.read_bytes()[:-5])
    _, history = fit(pictures, 3, tmp_path, resume=tmp_path)
    assert len(history) == 3 and "step-00000015" in capsys.readouterr().out
    for path in tmp_path.glob("step-*"):
        path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no usable checkpoint; damaged: step-"):
        fit(pictures, 3, tmp_path, resume=tmp_path)


def test_a_file_that_is_no_checkpoint(tmp_path):
    io.save({"a": np.ones(1)}, tmp_path / "x")
    with pytest.raises(ValueError, match="is not a checkpoint of a training run"):
        train.load_checkpoint(tmp_path / "x")


def test_callbacks_and_errors(pictures):
    seen = []

    class Watch:
        def on_epoch_begin(self, epoch):
            seen.append(("begin", epoch))

        def on_batch_end(self, step, logs):
            if step == 7:
                raise RuntimeError("enough")

        def on_epoch_end(self, epoch, logs):
            seen.append(("end", epoch))

    model = tiny()
    with pytest.raises(RuntimeError, match="enough"):
        train.fit(model, *pictures, optimizer=optim.SGD(model.parameters(), 0.1), epochs=3, callbacks=[Watch()], progress=False)
    assert seen == [("begin", 0), ("end", 1), ("begin", 1)]
    for options, text in (
        ({"epochs": -1}, "epochs is -1"),
        ({"epochs": 1, "metrics": ("f1",)}, "metrics holds 'f1'"),
        ({"epochs": 1, "resume": True}, "resume is True"),
    ):
        with pytest.raises(ValueError, match=text):
            train.fit(model, *pictures, optimizer=optim.SGD(model.parameters(), 0.1), progress=False, **options)


def test_progress_bar(pictures, capsys):
    model = tiny()
    train.fit(model, *pictures, optimizer=optim.SGD(model.parameters(), 0.1), epochs=1)
    assert "epoch 1/1" in capsys.readouterr().err


def test_history_csv(tmp_path):
    history = train.History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val_loss": 1.0}])
    history.save_csv(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text() == "epoch,loss,val_loss\n1,0.5,\n2,0.25,1.0\n"
    assert "0.25" in repr(history) and "<table>" in history._repr_html_() and history[-1]["epoch"] == 2


def test_schedule_and_dropout_resume_exactly(pictures, tmp_path):
    """Two epochs, a stop, three more: bit for bit the five epochs of an unbroken run, dropout masks and rates included."""

    def run(epochs, folder, **options):
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, rng=0), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.2, rng=3), nn.MaxPool2d(2), nn.Flatten()
        )
        model = nn.Sequential(model, nn.Dropout(0.3, rng=4), nn.Linear(4 * 7 * 7, 4, rng=0))
        optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        schedule = optim.CosineLR(optimizer, 5)
        callbacks = [train.Checkpoint(folder)]
        history = train.fit(
            model,
            *pictures,
            optimizer=optimizer,
            schedule=schedule,
            epochs=epochs,
            callbacks=callbacks,
            progress=False,
            transform=Normalize(60, 80),
            **options,
        )
        return model, history

    whole, history = run(5, tmp_path / "a")
    run(2, tmp_path / "b")
    resumed, again = run(5, tmp_path / "b", resume=True)
    for name, a in whole.state_dict().items():
        assert a.tobytes() == resumed.state_dict()[name].tobytes(), name
    assert history["lr"] == again["lr"] and history["loss"] == again["loss"] and history["lr"][0] == 0.05


def test_a_loss_that_is_not_finite_is_traced(pictures):
    model = tiny()
    optimizer = optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(FloatingPointError, match=r"fit: the loss is (nan|inf) at step \d+: .* not finite"), np.errstate(all="ignore"):
        train.fit(model, *pictures, optimizer=optimizer, epochs=2, progress=False, transform=Normalize(60, 80))


def test_early_stopping_and_logger(pictures, tmp_path):
    stop = train.EarlyStopping("val_accuracy", patience=1)
    model = tiny()
    for p in model.parameters():
        p.data[...] = 0  # nothing is learnt at a rate of 0: the first epoch stays the best
    history = train.fit(
        model,
        *pictures,
        optimizer=optim.SGD(model.parameters(), lr=0.0),
        epochs=20,
        callbacks=[train.CSVLogger(tmp_path / "h.csv"), stop],
        progress=False,
        transform=Normalize(60, 80),
        metrics=("accuracy", "top5"),
    )
    assert len(history) == 3 == stop.stopped_epoch and history["top5"] == [1.0] * 3
    lines = (tmp_path / "h.csv").read_text().splitlines()
    assert len(lines) == 4 and lines[0].startswith("epoch,step,lr,loss,accuracy,top5")
    with pytest.raises(ValueError, match="EarlyStopping: monitor is 'nothing', expected one of epoch"):
        fit(pictures, 1, callbacks=[train.EarlyStopping("nothing")])
    with pytest.raises(ValueError, match="patience is -1"):
        train.EarlyStopping(patience=-1)


def test_confusion_matrix_and_mean_absolute_error(pictures):
    model, _ = fit(pictures, 3)
    matrix = train.confusion_matrix(model, pictures[1], transform=Normalize(60, 80))
    right = train.evaluate(model, pictures[1], transform=Normalize(60, 80))["accuracy"]
    assert matrix.sum() == 80 and np.trace(matrix) / 80 == right
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(pictures[1].y, minlength=4))
    line = nn.Linear(1, 1, rng=0)
    x = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    from cnnpy import functional as F

    options = {"loss": F.mse_loss, "metrics": ("mae",)}
    history = train.fit(
        line, (x, 2 * x), (x, 2 * x), optimizer=optim.SGD(line.parameters(), lr=0.3), epochs=30, batch_size=10, progress=False, **options
    )
    assert history["val_mae"][-1] < 0.05 < history["val_mae"][0]


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
@pytest.mark.parametrize(("edge", "others"), [(255, 88), (0, 160)], ids=["white", "black"])
def test_ink_is_told_from_paper_by_all_four_edges(side, edge, others, tmp_path):
    """White paper is inverted. One edge alone decides here, and no pixel within does."""
    image = pytest.importorskip("PIL.Image")
    from cnnpy.train.run import read_image

    pixels = np.full((28, 28), others, np.uint8)
    pixels[4:24, 4:24] = 255 - edge
    pixels[{"top": (0, slice(None)), "bottom": (-1, slice(None)), "left": (slice(None), 0), "right": (slice(None), -1)}[side]] = edge
    dark = 255 - pixels if edge == 255 else pixels
    for drawn in (pixels, 255 - pixels):
        image.fromarray(drawn).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png", (1, 28, 28))[0, 0], dark)
    for level in (127, 128):
        image.fromarray(np.full((28, 28), level, np.uint8)).save(tmp_path / "a.png")
        assert (read_image(tmp_path / "a.png", (1, 28, 28)) == 127).all()
