"""Training: fit, evaluate, predict, checkpoints and the run folder of the command line."""

from cnnpy.train.checkpoint import Checkpoint, load_checkpoint
from cnnpy.train.history import History
from cnnpy.train.loop import evaluate, fit, predict

__all__ = ["Checkpoint", "History", "evaluate", "fit", "load_checkpoint", "predict"]
