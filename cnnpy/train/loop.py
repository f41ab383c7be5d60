"""fit: the training loop."""

import contextlib
import time

import numpy as np

from cnnpy import functional as F
from cnnpy.autograd import Tensor, no_grad
from cnnpy.compiler import CompiledModel, compile_step
from cnnpy.compiler.base import uninterrupted
from cnnpy.data.loader import DataLoader
from cnnpy.optim import ReduceLROnPlateau
from cnnpy.train.callbacks import StopTraining
from cnnpy.train.checkpoint import Checkpoint, load_checkpoint, newest
from cnnpy.train.evaluation import Means, as_dataset, choose_metrics, evaluate_shared
from cnnpy.train.history import History

__all__ = ["fit"]


def _bar(total, epoch, epochs, wanted):
    if not wanted:
        return contextlib.nullcontext()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("fit: the progress bar needs tqdm; install it with: pip install 'cnnpy[train]', or pass progress=False") from None
    return tqdm(total=total, desc=f"epoch {epoch + 1}/{epochs}", unit=" samples", leave=True, mininterval=0.2)


class _Trainer:
    """The state of a run; callbacks get it in on_train_begin.

    ``first`` is True where files are written and bars shown: in a run of one process and in rank 0 of several. ``means`` are the sums of the epoch that
    is under way, None between epochs.
    """

    def __init__(self, model, optimizer, loader, schedule=None, reducer=None, compiled=None):
        self.model, self.optimizer, self.loader, self.schedule, self.reducer = model, optimizer, loader, schedule, reducer
        self.compiled = compiled
        self.predictor = CompiledModel(model, warn=False) if compiled is not None else False
        self.epoch = self.step = 0
        self.means = None
        self.history = History()

    @property
    def first(self):
        return self.reducer is None or self.reducer.rank == 0

    def reseed(self, sign=1):
        """Gives the dropout layers of every rank masks of their own; sign=-1 takes it back."""
        if not self.first:
            for module in self.model.modules():
                if hasattr(module, "_rng"):
                    module._rng = [(module._rng[0] + sign * self.reducer.rank * 0x1E3779B9) % 2**31, module._rng[1]]


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
        if damaged and trainer.first:
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
    trainer.means = state["means"] if trainer.first or state["means"] is None else [0.0] * len(state["means"])


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
    reducer=None,
    compile=True,
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
    reducer : cnnpy.dist.MPIReducer, optional
        Trains in all processes of a job; ``batch_size`` is that of one process. All get the same history.
    compile : bool
        Run steps as compiled programs (:func:`cnnpy.compile_step`): the same training curve, sooner. False: every step is eager.

    Returns
    -------
    History

    Notes
    -----
    Ctrl-C raises KeyboardInterrupt between steps: the model is in the state before or after a step, checkpoints are whole.
    """
    if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 0:
        raise ValueError(f"fit: epochs is {epochs!r}, expected an integer of at least 0")
    chosen = choose_metrics("fit", metrics)
    train_data, val_data = as_dataset(train_data), as_dataset(val_data)
    shard = (0, 1) if reducer is None else (reducer.rank, reducer.size)
    loader = DataLoader(train_data, batch_size, shuffle=True, rng=seed, transform=transform, workers=workers, shard=shard)
    compiled = compile_step(model, loss, optimizer) if compile else None
    trainer = _Trainer(model, optimizer, loader, schedule, reducer, compiled)
    try:
        if resume is not None and resume is not False:
            _resume(trainer, resume, callbacks)
        if reducer is not None:
            _begin_together(trainer, epochs)
        _train(trainer, val_data, loss, epochs, chosen, callbacks, progress, transform)
    except BaseException as error:
        if reducer is not None and reducer.size > 1:
            reducer.abort(error)
        raise
    if reducer is not None:
        trainer.reseed(-1)
    return trainer.history


def _begin_together(trainer, epochs):
    """All ranks train the same model from the same weights for the same number of steps, or all raise."""
    model, reducer = trainer.model, trainer.reducer
    reducer.step = trainer.step
    plan: list = [[name, list(p.shape), str(p.dtype)] for name, p in model.named_parameters()]
    plan += [type(trainer.optimizer).__name__, len(trainer.loader), trainer.epoch, trainer.step, trainer.loader.position, epochs]
    reducer.agree("the model or the number of steps", plan)
    reducer.broadcast([*(p._data for p in model.parameters()), *model.buffers()])
    trainer.reseed()


def _step(trainer, x, y, loss, means):
    """One update; returns the loss of this process's samples."""
    model, optimizer, reducer, compiled = trainer.model, trainer.optimizer, trainer.reducer, trainer.compiled
    value, update = 0.0, optimizer.step
    if compiled is not None and len(y):
        value = compiled.gradients(x, y)
        output, update = compiled.output, compiled.update
    else:
        optimizer.zero_grad()
        if len(y):
            made = model(x)
            result = loss(made, y)
            value, output = result.item(), made._data
            if np.isfinite(value):
                result.backward()
    if not np.isfinite(value):
        raise FloatingPointError(_blame(model, x, value, trainer.step + 1))
    if reducer is not None:
        reducer.reduce(optimizer._parameters(), len(y))
    with uninterrupted():
        update()
        trainer.step += 1
    if len(y):
        means.add(value, output, np.asarray(y))
    return value


def _train(trainer, val_data, loss, epochs, metrics, callbacks, progress, transform):
    model, optimizer, loader, schedule = trainer.model, trainer.optimizer, trainer.loader, trainer.schedule
    reducer = trainer.reducer

    def call(hook, *args):
        for callback in callbacks:
            if hasattr(callback, hook):
                getattr(callback, hook)(*args)

    call("on_train_begin", trainer)
    logs: dict = {}
    started, steps_before = time.perf_counter(), trainer.epoch * len(loader) + loader.position
    while trainer.epoch < epochs:
        call("on_epoch_begin", trainer.epoch)
        begin = time.perf_counter()
        model.train()
        means = Means(metrics)
        if trainer.means is not None:
            means.set_state(trainer.means)
        with _bar(len(loader.dataset), trainer.epoch, epochs, progress and trainer.first) as bar:
            if bar is not None:
                bar.update(min(len(loader.dataset), loader.position * loader.batch_size * loader.size))
            for x, y in loader:
                value = _step(trainer, x, y, loss, means)
                trainer.means = means.state()
                call("on_batch_end", trainer.step, {"loss": value})
                if bar is not None:
                    bar.update(min(len(y) * loader.size, bar.total - bar.n))
                    done = trainer.epoch * len(loader) + loader.position
                    left = (time.perf_counter() - started) / (done - steps_before) * (epochs * len(loader) - done)
                    bar.set_postfix({k: f"{v:.4f}" for k, v in means.values().items()} | {"left": _duration(left)}, refresh=False)
            if reducer is not None:
                means.set_state(reducer.sum(np.array(means.state(), np.float64), "the end of the epoch"))
                reducer.broadcast(model.buffers())
            logs = {"epoch": trainer.epoch + 1, "step": trainer.step, "lr": optimizer.lr, **means.values()}
            if val_data is not None:
                found = evaluate_shared(model, val_data, loss, metrics, 256, transform, reducer, trainer.predictor)
                logs |= {f"val_{k}": v for k, v in found.items()}
            logs["seconds"] = round(time.perf_counter() - begin, 3)
            if bar is not None:
                bar.set_postfix({k: f"{logs[k]:.4f}" for k in logs if k.endswith(("loss", "accuracy"))})
        if schedule is not None:
            if isinstance(schedule, ReduceLROnPlateau):
                schedule.step(logs.get("val_loss", logs["loss"]))
            else:
                schedule.step()
        trainer.epoch += 1
        trainer.means = None
        trainer.history.rows.append(logs)
        try:
            with uninterrupted():
                call("on_epoch_end", trainer.epoch, logs)
        except StopTraining:
            break
    call("on_train_end", logs)


def _duration(seconds):
    """4:05 or 1:04:05."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
