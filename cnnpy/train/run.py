"""A run folder: config.json, history.csv and checkpoints, written by ``cnnpy train`` and read by ``validate``, ``test`` and ``predict``."""

import csv
import fcntl
import json
import os
from pathlib import Path

import numpy as np

from cnnpy import data, io
from cnnpy.train.history import History
from cnnpy.transforms import Normalize

__all__ = ["Run", "load_data"]

VALIDATION_SHARE = 0.1


def load_data(name, part):
    """A data set by name ('digits', 'shapes'), from a folder of IDX files, or in one of CIFAR-10's forms; part 'train' or 'test'."""
    if name == "digits":
        return data.digits(part)
    if name in data.FETCHED and not Path(name).exists():
        folder = data.fetch(name)
        return data.cifar10(folder, part) if name == "cifar10" else data.mnist(folder, part)
    if name == "shapes":
        return data.shapes(4000 if part == "train" else 1000, rng=0 if part == "train" else 1)
    folder = Path(name)
    if not folder.exists():
        raise ValueError(
            f"train: data {name!r} is neither one of 'digits', 'shapes', 'mnist', 'fashion-mnist', 'cifar10' nor a folder or file that exists"
        )
    cifar = folder.is_file() or (folder / part).is_dir() or any(folder.glob("*_batch*"))
    return data.cifar10(folder, part) if cifar else data.mnist(folder, part)


class Run:
    """One training run on disk.

    Attributes
    ----------
    folder : Path
    config : dict
        model, num_classes, in_channels, data, seed, classes, normalize and the options of training.
    """

    def __init__(self, folder, config):
        self.folder, self.config, self._lock = Path(folder), config, None

    @classmethod
    def open(cls, folder):
        path = Path(folder) / "config.json"
        if not path.is_file():
            raise ValueError(f"{folder} is not a run folder: it has no config.json")
        try:
            config = json.loads(path.read_text())
            if not isinstance(config, dict) or not {"model", "data", "seed", "normalize", "classes"} <= set(config):
                raise ValueError("entries are missing")
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from None
        return cls(folder, config)

    @staticmethod
    def exists(folder):
        return (Path(folder) / "config.json").is_file()

    def create(self):
        """Makes the folder, locks it for this process and writes config.json.

        Raises
        ------
        ValueError
            Another process is training in it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise ValueError(f"train: {self.folder} is in use by another process; give another --out or wait for it") from None
        io.atomic_write(self.folder / "config.json", [json.dumps(self.config, indent=2).encode() + b"\n"])

    def close(self):
        """Gives the folder free again; the end of the process does so too."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def checkpoints(self):
        return self.folder / "checkpoints"

    @property
    def transform(self):
        return Normalize(**self.config["normalize"])

    def history(self):
        """The rows of history.csv.

        Returns
        -------
        cnnpy.train.History

        Raises
        ------
        ValueError
            A missing or damaged file; one sentence with the path.
        """
        path = self.folder / "history.csv"
        try:
            with open(path, newline="", encoding="utf-8") as file:
                rows = [{k: (None if v == "" else float(v)) for k, v in row.items()} for row in csv.DictReader(file, strict=True)]
        except FileNotFoundError:
            raise ValueError(f"{path} does not exist: no epoch of this run is over") from None
        except (ValueError, TypeError, AttributeError, csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is damaged: {error}") from None
        whole = ("epoch", "step")
        return History([{k: int(v) if k in whole and v is not None else v for k, v in row.items()} for row in rows])

    def load_best(self, model):
        """Puts the best checkpoint's weights, or the newest one's, into the model; returns its path."""
        from cnnpy.train.checkpoint import load_checkpoint, newest

        path = self.checkpoints / "best.safetensors"
        if not path.is_file():
            path, _ = newest(self.checkpoints)
        model.load_state_dict(load_checkpoint(path)[0])
        return path


def read_image(path, shape):
    """An image file as (1, C, H, W) uint8 of the given (C, H, W): grey or RGB, resized; dark on white is inverted for one channel."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ImportError("predict: needs pillow; install it with: pip install 'cnnpy[train]'") from None
    channels, height, width = shape
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BILINEAR))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"predict: {path} is not a readable image: {error}") from None
    if channels == 1:
        edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        return (255 - pixels if edge.mean() > 127 else pixels)[None, None]
    return pixels.transpose(2, 0, 1)[None]
