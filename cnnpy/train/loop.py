"""fit, evaluate, predict."""

import contextlib
import signal
import threading
import time

import numpy as np

from cnnpy import functional as F
from cnnpy.autograd import Tensor, no_grad
from cnnpy.data.loader import DataLoader
from cnnpy.optim import ReduceLROnPlateau
from cnnpy.train.callbacks import StopTraining
from cnnpy.train.checkpoint import Checkpoint, load_checkpoint, newest
from cnnpy.train.history import History

__all__ = ["confusion_matrix", "evaluate", "fit", "predict"]


def accuracy(logits, target):
    """How many rows have their highest score at the right class, and how many rows there are."""
    return int(np.count_nonzero(np.argmax(logits, axis=1) == target)), len(target)


def top5(logits, target):
    """How many rows have the right class among their five highest scores, and how many rows there are."""
    own = np.take_along_axis(logits, np.asarray(target)[:, None], axis=1)
    return int(np.count_nonzero((logits > own).sum(axis=1) < 5)), len(target)


def mae(output, target):
    """The sum of absolute errors, and how many there are."""
    return float(np.abs(np.asarray(output, np.float64) - target).sum()), np.size(target)


METRICS = {"accuracy": accuracy, "top5": top5, "mae": mae}


def _metrics(function, names):
    for name in names:
        if name not in METRICS:
            raise ValueError(f"{function}: metrics holds {name!r}, expected some of {', '.join(METRICS)}")
    return {name: METRICS[name] for name in names}


class _Means:
    """Running means of the loss and of metrics, weighted by samples."""

    def __init__(self, metrics):
        self.metrics, self.loss, self.samples, self.counts = metrics, 0.0, 0, {m: [0, 0] for m in metrics}

    def add(self, loss, logits, target):
        self.loss += loss * len(target)
        self.samples += len(target)
        for name, metric in self.metrics.items():
            good, all_ = metric(logits, target)
            self.counts[name][0] += good
            self.counts[name][1] += all_

    def values(self, prefix=""):
        means = {f"{prefix}loss": self.loss / max(1, self.samples)}
        return means | {f"{prefix}{n}": good / max(1, all_) for n, (good, all_) in self.counts.items()}


@contextlib.contextmanager
def _uninterrupted():
    """Ctrl-C waits until the block is over: an update is made whole or not at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = []
    before = signal.getsignal(signal.SIGINT)
    if before is None or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, lambda *event: came.append(event))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            before(*came[0])


def _bar(total, epoch, epochs, wanted):
    if not wanted:
        return contextlib.nullcontext()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("fit: the progress bar needs tqdm; install it with: pip install 'cnnpy[train]', or pass progress=False") from None
    return tqdm(total=total, desc=f"epoch {epoch + 1}/{epochs}", unit=" samples", leave=True, mininterval=0.2)


class _Trainer:
    """The state of a run; callbacks get it in on_train_begin."""

    def __init__(self, model, optimizer, loader, schedule=None):
        self.model, self.optimizer, self.loader, self.schedule = model, optimizer, loader, schedule
        self.epoch = self.step = 0
        self.history = History()


def _blame(model, x, loss, step):
    """Where the first number that is not finite came from: a parameter, the batch, or a layer's result."""
    text = f"fit: the loss is {loss} at step {step}"
    for name, parameter in model.named_parameters():
        if not np.isfinite(parameter._data).all():
            return f"{text}: {name} holds values that are not finite"
    if not np.isfinite(x).all():
        return f"{text}: the batch holds values that are not finite"
    found: list = []

    def watch(name):
        def hook(module, args, result):
            results = result if isinstance(result, tuple) else (result,)
            if not found and any(isinstance(r, Tensor) and not np.isfinite(r._data).all() for r in results):
                found.append(f"{name} ({type(module).__name__})")

        return hook

    remove = [m.register_forward_hook(watch(name or "the model")) for name, m in model.named_modules() if not m._modules]
    try:
        with no_grad():
            model(x)
    finally:
        for undo in remove:
            undo()
    return f"{text}: the first result that is not finite is that of {found[0] if found else 'the loss'}; the learning rate may be too high"


def _resume(trainer, resume, callbacks):
    if resume is True:
        folders = [c.folder for c in callbacks if isinstance(c, Checkpoint)]
        if not folders:
            raise ValueError("fit: resume is True, expected a Checkpoint among the callbacks or a path")
        resume = folders[0]
    from pathlib import Path

    path = Path(resume)
    if path.is_dir():
        path, damaged = newest(path)
        if damaged:
            print(f"resume: passed over damaged {', '.join(damaged)}")
    weights, optimizer, state = load_checkpoint(path)
    trainer.model.load_state_dict(weights)
    trainer.optimizer.load_state_dict(optimizer)
    trainer.loader.load_state_dict(state["loader"])
    if state["schedule"] is not None and hasattr(trainer.schedule, "load_state_dict"):
        trainer.schedule.load_state_dict(state["schedule"])
    for name, module in trainer.model.named_modules():
        if hasattr(module, "_rng") and name in state["random"]:
            module._rng = [int(v) for v in state["random"][name]]
    trainer.epoch, trainer.step, trainer.history = state["epoch"], state["step"], History(state["history"])


def fit(
    model,
    train_data,
    val_data=None,
    *,
    optimizer,
    loss=F.cross_entropy,
    epochs,
    batch_size=64,
    schedule=None,
    metrics=("accuracy",),
    callbacks=(),
    resume=None,
    progress=True,
    transform=None,
    seed=0,
    workers=0,
):
    """Trains a model.

    Parameters
    ----------
    model : cnnpy.nn.Module
    train_data, val_data : data set or (x, y) of arrays
    optimizer : cnnpy.optim.Optimizer
    loss : callable (output, target) -> Tensor
    epochs : int
        The total, also on resume.
    batch_size : int
    schedule : object with ``step()``, optional
        Called after every epoch; :class:`cnnpy.optim.ReduceLROnPlateau` with the validation loss, or the loss without validation data.
    metrics : sequence of str
        Some of 'accuracy', 'top5', 'mae' (mean absolute error).
    callbacks : sequence of objects with any of ``on_train_begin(trainer) on_epoch_begin(epoch) on_batch_end(step, logs)
        on_epoch_end(epoch, logs) on_train_end(logs)``
    resume : path or True, optional
        A run folder (its newest checkpoint that passes its checks) or a file; True: the Checkpoint callback's folder.
    progress : bool
        Show a bar.
    transform : callable, optional
        ``transform(x, rng) -> x`` for every training batch; validation gets ``transform(x, None)``.
    seed : int
        Of the order of samples and of the transforms.
    workers : int
        Threads that prepare batches ahead.

    Returns
    -------
    History

    Notes
    -----
    Ctrl-C raises KeyboardInterrupt between steps: the model is in the state before or after a step, checkpoints are whole.
    """
    if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 0:
        raise ValueError(f"fit: epochs is {epochs!r}, expected an integer of at least 0")
    chosen = _metrics("fit", metrics)
    train_data, val_data = _dataset(train_data), _dataset(val_data)
    loader = DataLoader(train_data, batch_size, shuffle=True, rng=seed, transform=transform, workers=workers)
    trainer = _Trainer(model, optimizer, loader, schedule)
    if resume is not None and resume is not False:
        _resume(trainer, resume, callbacks)

    def call(hook, *args):
        for callback in callbacks:
            if hasattr(callback, hook):
                getattr(callback, hook)(*args)

    call("on_train_begin", trainer)
    logs: dict = {}
    while trainer.epoch < epochs:
        call("on_epoch_begin", trainer.epoch)
        begin = time.perf_counter()
        model.train()
        means = _Means(chosen)
        with _bar(len(train_data), trainer.epoch, epochs, progress) as bar:
            for x, y in loader:
                optimizer.zero_grad()
                output = model(x)
                value = loss(output, y)
                if not np.isfinite(value.item()):
                    raise FloatingPointError(_blame(model, x, value.item(), trainer.step + 1))
                value.backward()
                with _uninterrupted():
                    optimizer.step()
                    trainer.step += 1
                means.add(value.item(), output._data, np.asarray(y))
                call("on_batch_end", trainer.step, {"loss": value.item()})
                if bar is not None:
                    bar.update(len(y))
                    bar.set_postfix({k: f"{v:.4f}" for k, v in means.values().items()}, refresh=False)
            logs = {"epoch": trainer.epoch + 1, "step": trainer.step, "lr": optimizer.lr, **means.values()}
            if val_data is not None:
                logs |= {f"val_{k}": v for k, v in evaluate(model, val_data, loss=loss, metrics=metrics, transform=transform).items()}
            logs["seconds"] = round(time.perf_counter() - begin, 3)
            if bar is not None:
                bar.set_postfix({k: f"{logs[k]:.4f}" for k in logs if k.endswith(("loss", "accuracy"))})
        if schedule is not None:
            if isinstance(schedule, ReduceLROnPlateau):
                schedule.step(logs.get("val_loss", logs["loss"]))
            else:
                schedule.step()
        trainer.epoch += 1
        trainer.history.rows.append(logs)
        try:
            with _uninterrupted():
                call("on_epoch_end", trainer.epoch, logs)
        except StopTraining:
            break
    call("on_train_end", logs)
    return trainer.history


def _dataset(data):
    if isinstance(data, tuple):
        from cnnpy.data.dataset import ArrayDataset

        return ArrayDataset(*data)
    return data


def _outputs(model, data, batch_size, transform):
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with no_grad():
            for begin in range(0, len(data), batch_size):
                x, y = data[np.arange(begin, min(begin + batch_size, len(data)))]
                output = model(x if transform is None else transform(x, None))
                yield (output._data if isinstance(output, Tensor) else output), np.asarray(y)
    finally:
        for module, training in modes:
            object.__setattr__(module, "training", training)


def evaluate(model, data, *, loss=F.cross_entropy, metrics=("accuracy",), batch_size=256, transform=None):
    """Loss and metrics over a data set, in evaluation mode.

    Returns
    -------
    dict of str to float
        'loss' and one entry a metric.
    """
    means = _Means(_metrics("evaluate", metrics))
    for output, y in _outputs(model, _dataset(data), batch_size, transform):
        means.add(float(loss(output, y)), output, y)
    return means.values()


def predict(model, x, *, batch_size=256, transform=None):
    """The model's outputs for an array of samples, in evaluation mode.

    Returns
    -------
    ndarray, shape (N, ...)
    """
    x = np.asarray(x)
    outputs = [o for o, _ in _outputs(model, _dataset((x, np.zeros(len(x)))), batch_size, transform)]
    return np.concatenate(outputs) if outputs else np.zeros((0,))


def confusion_matrix(model, data, *, num_classes=None, batch_size=256, transform=None):
    """How often samples of each class were taken for each class.

    Parameters
    ----------
    model : cnnpy.nn.Module
    data : data set or (x, y) of arrays
    num_classes : int, optional
        Follows from the model's outputs.

    Returns
    -------
    ndarray of int64, shape (classes, classes)
        ``[right class, highest score]``.
    """
    matrix: np.ndarray = np.zeros((num_classes or 0,) * 2, np.int64)
    for output, y in _outputs(model, _dataset(data), batch_size, transform):
        if not matrix.size:
            matrix = np.zeros((output.shape[1],) * 2, np.int64)
        np.add.at(matrix, (y, np.argmax(output, axis=1)), 1)
    return matrix
