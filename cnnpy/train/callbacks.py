"""Callbacks of :func:`cnnpy.train.fit` beside Checkpoint."""

import math

from cnnpy.train.history import History

__all__ = ["CSVLogger", "EarlyStopping", "StopTraining"]


class StopTraining(Exception):
    """Raised by a callback to end training; ``fit`` then returns as after its last epoch."""


class EarlyStopping:
    """Ends training when a column of the history has not become better for some epochs.

    Parameters
    ----------
    monitor : str
        Better is lower if the name ends in 'loss' or 'mae', else higher.
    patience : int
        Epochs without an improvement that are allowed.
    min_delta : float
        Smaller improvements do not count.

    Attributes
    ----------
    best : float or None
    stopped_epoch : int or None
    """

    def __init__(self, monitor="val_loss", patience=10, min_delta=0.0):
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 0:
            raise ValueError(f"EarlyStopping: patience is {patience!r}, expected an int of at least 0")
        self.monitor, self.patience, self.min_delta = monitor, patience, min_delta
        self.sign = 1 if monitor.endswith(("loss", "mae")) else -1
        self.best, self.waited, self.stopped_epoch = None, 0, None

    def on_train_begin(self, trainer):
        """On resume the epochs done so far count."""
        self.best, self.waited = None, 0
        for row in trainer.history.rows:
            self._see(row.get(self.monitor))

    def _see(self, value):
        if value is None:
            return
        better = math.isfinite(value) and (self.best is None or self.sign * (self.best - value) > self.min_delta)
        if better:
            self.best, self.waited = value, 0
        else:
            self.waited += 1

    def on_epoch_end(self, epoch, logs):
        if self.monitor not in logs:
            raise ValueError(f"EarlyStopping: monitor is {self.monitor!r}, expected one of {', '.join(logs)}")
        self._see(logs[self.monitor])
        if self.waited > self.patience:
            self.stopped_epoch = epoch
            raise StopTraining


class CSVLogger:
    """Writes the history as a table after every epoch, whole or not at all."""

    def __init__(self, path):
        self.path = path

    def on_train_begin(self, trainer):
        self.trainer = trainer

    def on_epoch_end(self, epoch, logs):
        if self.trainer.first:
            History(self.trainer.history.rows).save_csv(self.path)
