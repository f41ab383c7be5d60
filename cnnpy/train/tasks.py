"""Tasks of the command line: what data of a kind a model trains on, by which loss, and what its results mean.

A task is made from the entries of a run's config.json, so that ``validate`` and ``test`` find again what ``train`` used. Every task has ``parts()`` and
``test()``, data sets; ``transform``, applied to inputs; ``loss`` and ``metrics``; ``options()``, the model's arguments; ``say(result, count)``, one line;
and ``finish(model)``, lines to print after training.
"""

import numpy as np

from cnnpy import data
from cnnpy import functional as F
from cnnpy.data.dataset import ArrayDataset
from cnnpy.train.evaluation import predict
from cnnpy.train.run import VALIDATION_SHARE, load_data
from cnnpy.transforms import Normalize

__all__ = ["SEQUENCE_MODELS", "task_of"]


class Images:
    """Classes of images."""

    loss, metrics = staticmethod(F.cross_entropy), ("accuracy",)

    def __init__(self, config):
        self.config = config
        if "classes" not in config:
            whole = load_data(config["data"], "train")
            shape = [int(n) for n in whole.x.shape[1:]]
            config |= {"num_classes": len(whole.classes), "in_channels": shape[0], "classes": whole.classes, "input": shape}
            config["normalize"] = Normalize.of(whole).state()

    @property
    def transform(self):
        return Normalize(**self.config["normalize"])

    def parts(self):
        whole = load_data(self.config["data"], "train")
        kept = self.config.get("validation", VALIDATION_SHARE)
        return data.split(whole, [1 - kept, kept], rng=self.config["seed"])

    def test(self):
        return load_data(self.config["data"], "test")

    def say(self, result, count):
        return f"loss {result['loss']:.4f}, accuracy {result['accuracy']:.4f} ({count} samples)"

    def finish(self, model):
        return []


class _Sequences:
    transform = None
    metrics: tuple = ("accuracy",)
    loss = staticmethod(F.cross_entropy)

    def say(self, result, count):
        return f"loss {result['loss']:.4f}, accuracy {result['accuracy']:.4f} ({count} samples)"

    def finish(self, model):
        return []


class Texts(_Sequences):
    """The next character of a text: the first 90 % to learn from, 5 % to validate, 5 % to test."""

    recipe = {"optimizer": "adam", "lr": 2e-3, "weight_decay": 0.0, "schedule": "cosine", "batch_size": 64}

    def __init__(self, config):
        self.config, self.text = config, data.text(config["data"])
        config.setdefault("window", 128)
        config |= {"classes": self.text.characters, "normalize": None}
        self.ends = [0, int(0.9 * len(self.text)), int(0.95 * len(self.text)), len(self.text)]
        if self.ends[3] - self.ends[2] <= config["window"] + 1:
            raise ValueError(f"train: {config['data']} has {len(self.text)} characters, too few for windows of {config['window']}")

    def options(self):
        return {"num_classes": len(self.text.characters)}

    def _windows(self, part, step):
        ids, length = self.text.ids[self.ends[part] : self.ends[part + 1]], self.config["window"]
        both = np.lib.stride_tricks.sliding_window_view(ids, length + 1)[::step]
        return ArrayDataset(both[:, :-1].copy(), both[:, 1:].copy())

    def parts(self):
        return self._windows(0, self.config["window"] // 2), self._windows(1, self.config["window"])

    def test(self):
        return self._windows(2, self.config["window"])

    def say(self, result, count):
        nats = result["loss"]
        return f"{nats:.4f} nats a character, accuracy {result['accuracy']:.4f} ({count} windows of {self.config['window']} characters)"


class Series(_Sequences):
    """The next value of a series: the first 70 % to learn from and to scale by, 10 % to validate, 20 % to test."""

    recipe = {"optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.05, "schedule": "linear", "batch_size": 32}
    loss, metrics = staticmethod(F.mse_loss), ("mae",)

    def __init__(self, config):
        self.config = config
        config.setdefault("window", 24)
        config |= {"classes": [], "normalize": None}
        values = data.series(config["data"])
        if len(values) < 5 * (config["window"] + 1):
            raise ValueError(f"train: {config['data']} has {len(values)} values, too few for windows of {config['window']}")
        self.series = data.Forecasting(values, config["window"])

    def options(self):
        return {"length": self.config["window"]}

    def parts(self):
        return self.series.train, self.series.validation

    def test(self):
        return self.series.test

    def say(self, result, count):
        return f"mean squared error {result['loss']:.4f}, mean absolute error {result['mae']:.4f} in scaled units ({count} values)"

    def finish(self, model):
        error = self.series.error(predict(model, self.series.test.x))
        lines = [f"test mean absolute error {error:.4f} in the units of {self.config['data']}"]
        season = self.config.get("season")
        if season:
            naive = self.series.seasonal_error(season)
            lines.append(f"the value {season} steps ago would have {naive:.4f}: {error / naive:.2f} of that")
        return lines


class Pairs(_Sequences):
    """Sequences turned into others: 'dates' or 'reversals', generated."""

    recipe = {"optimizer": "adam", "lr": 3e-3, "weight_decay": 0.0, "schedule": "cosine", "batch_size": 128}
    COUNTS = (20000, 1000, 1000)

    def __init__(self, config):
        self.config = config
        if config["data"] not in ("dates", "reversals"):
            raise ValueError(f"train: data {config['data']!r} is neither 'dates' nor 'reversals'")
        make = data.dates if config["data"] == "dates" else data.reversals
        self.x, self.y, characters = make(sum(self.COUNTS), rng=config["seed"])
        config |= {"classes": characters, "normalize": None}

    def options(self):
        return {"num_classes": len(self.config["classes"]), "source_length": self.x.shape[1], "target_length": self.y.shape[1]}

    def _part(self, number):
        begin = sum(self.COUNTS[:number])
        x, y = self.x[begin : begin + self.COUNTS[number]], self.y[begin : begin + self.COUNTS[number]]
        return ArrayDataset(np.concatenate([x, y], axis=1) if number == 0 else x, y)  # the right outputs go along in training

    def parts(self):
        return self._part(0), self._part(1)

    def test(self):
        return self._part(2)

    def finish(self, model):
        test = self.test()
        chosen = predict(model, test.x).argmax(axis=1)
        whole = (chosen == test.y).all(axis=1).mean()
        lines = [f"{whole:.4f} of the test sequences are right as a whole"]
        for i in range(3):
            source, target = ("".join(self.config["classes"][c] for c in row).strip() for row in (test.x[i], chosen[i]))
            lines.append(f"  {source} -> {target}")
        return lines


SEQUENCE_MODELS = {"char_lstm": Texts, "forecaster": Series, "seq2seq_attention": Pairs}


def task_of(config):
    """The task of a run's model."""
    return SEQUENCE_MODELS.get(config["model"], Images)(config)
