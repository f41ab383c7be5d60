"""Training: fit, evaluate, predict, checkpoints, callbacks, run folders."""

from cnnpy.train.callbacks import CSVLogger, EarlyStopping, StopTraining
from cnnpy.train.checkpoint import Checkpoint, load_checkpoint
from cnnpy.train.history import History
from cnnpy.train.loop import confusion_matrix, evaluate, fit, predict

__all__ = [
    "CSVLogger",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "StopTraining",
    "confusion_matrix",
    "evaluate",
    "fit",
    "load_checkpoint",
    "predict",
]
