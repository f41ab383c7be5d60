"""Metrics, evaluate, predict, confusion_matrix: a model on data, without training it."""

import numpy as np

from cnnpy import functional as F
from cnnpy.autograd import Tensor, no_grad
from cnnpy.compiler import CompiledModel

__all__ = ["Means", "as_dataset", "choose_metrics", "confusion_matrix", "evaluate", "evaluate_shared", "predict"]


def accuracy(logits, target):
    """How many targets have their highest score at the right class (axis 1), and how many targets there are."""
    return int(np.count_nonzero(np.argmax(logits, axis=1) == target)), np.size(target)


def top5(logits, target):
    """How many rows have the right class among their five highest scores, and how many rows there are."""
    own = np.take_along_axis(logits, np.asarray(target)[:, None], axis=1)
    return int(np.count_nonzero((logits > own).sum(axis=1) < 5)), len(target)


def mae(output, target):
    """The sum of absolute errors, and how many there are."""
    return float(np.abs(np.asarray(output, np.float64) - target).sum()), np.size(target)


METRICS = {"accuracy": accuracy, "top5": top5, "mae": mae}


def choose_metrics(function, names):
    for name in names:
        if name not in METRICS:
            raise ValueError(f"{function}: metrics holds {name!r}, expected some of {', '.join(METRICS)}")
    return {name: METRICS[name] for name in names}


class Means:
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

    def state(self):
        """The sums as a list of numbers, for checkpoints and for adding those of several processes."""
        return [self.loss, self.samples, *(v for pair in self.counts.values() for v in pair)]

    def set_state(self, values):
        self.loss, self.samples = float(values[0]), int(values[1])
        numbers = iter(values[2:])
        self.counts = {name: [next(numbers), next(numbers)] for name in self.metrics}

    def values(self, prefix=""):
        means = {f"{prefix}loss": self.loss / max(1, self.samples)}
        return means | {f"{prefix}{n}": good / max(1, all_) for n, (good, all_) in self.counts.items()}


def as_dataset(data):
    if isinstance(data, tuple):
        from cnnpy.data.dataset import ArrayDataset

        return ArrayDataset(*data)
    return data


def _outputs(model, data, batch_size, transform, compile):
    """Outputs and targets, batch by batch, in evaluation mode. compile: True, False, or a compiled model that is used again."""
    if compile:
        call = compile if isinstance(compile, CompiledModel) else CompiledModel(model, warn=False)
        call.refresh()
    else:
        call = model
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with no_grad():
            for begin in range(0, len(data), batch_size):
                x, y = data[np.arange(begin, min(begin + batch_size, len(data)))]
                output = call(x if transform is None else transform(x, None))
                yield (output._data if isinstance(output, Tensor) else output), np.asarray(y)
    finally:
        for module, training in modes:
            object.__setattr__(module, "training", training)


def evaluate(model, data, *, loss=F.cross_entropy, metrics=("accuracy",), batch_size=256, transform=None, compile=True):
    """Loss and metrics over a data set, in evaluation mode, by a compiled program unless ``compile`` is False.

    Returns
    -------
    dict of str to float
        'loss' and one entry a metric.
    """
    return evaluate_shared(model, as_dataset(data), loss, choose_metrics("evaluate", metrics), batch_size, transform, None, compile)


def evaluate_shared(model, data, loss, metrics, batch_size, transform, reducer, compile):
    """Every process of a job takes its share of the samples."""
    means = Means(metrics)
    if reducer is not None:
        data = data.subset(np.arange(len(data) * reducer.rank // reducer.size, len(data) * (reducer.rank + 1) // reducer.size))
    for output, y in _outputs(model, data, batch_size, transform, compile):
        means.add(float(loss(output, y)), output, y)
    if reducer is not None:
        means.set_state(reducer.sum(np.array(means.state(), np.float64), "the end of validation"))
    return means.values()


def predict(model, x, *, batch_size=256, transform=None, compile=True):
    """The model's outputs for an array of samples, in evaluation mode, by a compiled program unless ``compile`` is False.

    Returns
    -------
    ndarray, shape (N, ...)
    """
    x = np.asarray(x)
    outputs = [o for o, _ in _outputs(model, as_dataset((x, np.zeros(len(x)))), batch_size, transform, compile)]
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
    for output, y in _outputs(model, as_dataset(data), batch_size, transform, True):
        if not matrix.size:
            matrix = np.zeros((output.shape[1],) * 2, np.int64)
        np.add.at(matrix, (y, np.argmax(output, axis=1)), 1)
    return matrix
