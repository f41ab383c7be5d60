"""Training: fit, evaluate, predict, checkpoints, callbacks, run folders."""

from cnnpy.train.callbacks import CSVLogger, EarlyStopping, StopTraining
from cnnpy.train.checkpoint import Checkpoint, load_checkpoint
from cnnpy.train.evaluation import confusion_matrix, evaluate, predict
from cnnpy.train.history import History
from cnnpy.train.loop import fit
from cnnpy.train.run import Run

__all__ = [
    "CSVLogger",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "Run",
    "StopTraining",
    "confusion_matrix",
    "evaluate",
    "fit",
    "load_checkpoint",
    "predict",
]
