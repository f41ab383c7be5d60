"""Checkpoints: everything that training needs to go on as if it had never stopped, in one safetensors file."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np

from cnnpy import io
from cnnpy.io.atomic import sweep

__all__ = ["Checkpoint", "load_checkpoint", "newest"]

_PREFIX = "optimizer."


def save_checkpoint(path, trainer):
    """Weights under their own names, optimiser arrays under ``optimizer.``, the rest as JSON in the metadata."""
    tensors = dict(trainer.model.state_dict())
    optimizer = trainer.optimizer.state_dict()
    scalars: dict = {}
    for number, state in optimizer["state"].items():
        for key, value in state.items():
            if hasattr(value, "shape"):
                tensors[f"{_PREFIX}{number}.{key}"] = value
            else:
                scalars.setdefault(str(number), {})[key] = value
    state = {
        "epoch": trainer.epoch,
        "step": trainer.step,
        "history": trainer.history.rows,
        "loader": trainer.loader.state_dict(),
        "schedule": trainer.schedule.state_dict() if hasattr(trainer.schedule, "state_dict") else None,
        "means": trainer.means,
        "random": {name: module._rng for name, module in trainer.model.named_modules() if hasattr(module, "_rng")},
        "optimizer": {"name": type(trainer.optimizer).__name__, "groups": optimizer["groups"], "state": scalars},
    }
    io.save(tensors, path, {"training": json.dumps(state)})


def load_checkpoint(path):
    """Weights, optimiser state and training state of a checkpoint file.

    Returns
    -------
    weights : dict of str to ndarray
    optimizer : dict
        What ``Optimizer.load_state_dict`` takes.
    state : dict
        epoch, step, history, loader, schedule, means (sums of an epoch under way, else None), random (the counters of dropout layers).
    """
    tensors, metadata = io.load(path), io.load_metadata(path)
    try:
        state = json.loads(metadata["training"])
        saved = state.pop("optimizer")
        states: dict = {int(n): dict(values) for n, values in saved["state"].items()}
        for name, array in tensors.items():
            if name.startswith(_PREFIX):
                number, key = name[len(_PREFIX) :].split(".", 1)
                states.setdefault(int(number), {})[key] = array
        weights = {n: a for n, a in tensors.items() if not n.startswith(_PREFIX)}
        return (
            weights,
            {"groups": saved["groups"], "state": states},
            {
                **{k: state[k] for k in ("epoch", "step", "history", "loader")},
                "schedule": state.get("schedule"),
                "means": state.get("means"),
                "random": dict(state.get("random") or {}),
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"load_checkpoint: {path} is not a checkpoint of a training run: {error}") from None


def newest(folder):
    """The newest checkpoint of a folder that passes its checks, and the names of those passed over.

    Raises
    ------
    ValueError
        There is none.
    """
    folder = Path(folder)
    inner = folder / "checkpoints"
    folder = inner if inner.is_dir() else folder
    damaged: list = []
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            load_checkpoint(path)
            return path, damaged
        except (ValueError, OSError):
            damaged.append(path.name)
    text = f"; damaged: {', '.join(damaged)}" if damaged else ""
    raise ValueError(f"resume: {folder} holds no usable checkpoint{text}")


class Checkpoint:
    """Callback: saves at the end of every epoch and every so many steps, keeps the last few and the best.

    Parameters
    ----------
    folder : path
        Made if missing. Files are named ``step-00001234.safetensors``; ``best.safetensors`` is a hard link to the best one.
    keep : int
        How many of the newest to keep.
    best : str or None
        The column of the history that tells the best: highest, or lowest if it ends in 'loss' or 'mae'.
    every : int, optional
        Save also after every so many steps, within epochs.

    Notes
    -----
    In a run of several processes all compare their weights first, then rank 0 alone saves and the others wait for it.
    """

    def __init__(self, folder, keep=3, best="val_accuracy", every=None):
        for name, value in (("keep", keep), ("every", every)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise TypeError(f"Checkpoint: {name} is {type(value).__name__}, expected an integer")
            if value is not None and value < 1:
                raise ValueError(f"Checkpoint: {name} is {value}, expected at least 1")
        self.folder, self.keep, self.best, self.every = Path(folder), keep, best, every

    def on_train_begin(self, trainer):
        self.trainer = trainer
        if trainer.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep(self.folder)

    def on_batch_end(self, step, logs):
        if self.every and step % self.every == 0 and self.trainer.loader.position < len(self.trainer.loader):
            self._save(None)

    def on_epoch_end(self, epoch, logs):
        self._save(logs)

    def _save(self, logs):
        reducer, means = self.trainer.reducer, self.trainer.means
        if reducer is not None:
            reducer.agree_on_weights(self.trainer.model)
            if means is not None:  # on resume every rank begins with its share: all of it is given to rank 0
                total = reducer.sum(np.array(means, np.float64), "a checkpoint").tolist()
                self.trainer.means = total
        try:
            if self.trainer.first:
                self._write(logs)
        finally:
            self.trainer.means = means
        if reducer is not None:
            reducer.agree("the step of a checkpoint", self.trainer.step)

    def _write(self, logs):
        path = self.folder / f"step-{self.trainer.step:08d}.safetensors"
        save_checkpoint(path, self.trainer)
        if self.best and logs and self.best in logs and self._is_best(logs[self.best]):
            self._link_best(path)
        for old in sorted(self.folder.glob("step-*.safetensors"))[: -self.keep]:
            with contextlib.suppress(FileNotFoundError):
                old.unlink()

    def _is_best(self, value):
        column = [v for v in self.trainer.history[self.best] if v is not None]
        return value == (min(column) if self.best.endswith(("loss", "mae")) else max(column))

    def _link_best(self, path):
        target, temporary = self.folder / "best.safetensors", self.folder / f".best.{os.getpid()}.tmp"
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        os.link(path, temporary)
        os.rename(temporary, target)
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
