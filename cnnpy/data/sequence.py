"""Texts and series."""

import csv
import itertools
from pathlib import Path

import numpy as np

from cnnpy.data.dataset import ArrayDataset

__all__ = ["Forecasting", "Text", "dates", "reversals", "series", "text", "windows"]


class Text:
    """A text as numbers.

    Attributes
    ----------
    ids : ndarray of int64, shape (length,)
    characters : list of str
        The alphabet in order of code point; ``characters[id]``.
    """

    def __init__(self, content):
        self.characters = sorted(set(content))
        self._numbers = {c: i for i, c in enumerate(self.characters)}
        self.ids = self.encode(content)

    def encode(self, content):
        unknown = sorted(set(content) - set(self._numbers))
        if unknown:
            raise ValueError(f"Text.encode: {unknown[0]!r} is not a character of the text")
        return np.array([self._numbers[c] for c in content], np.int64)

    def decode(self, ids):
        return "".join(self.characters[int(i)] for i in np.ravel(ids))

    def __len__(self):
        return len(self.ids)

    def __repr__(self):
        return f"Text({len(self)} characters of {len(self.characters)} kinds)"


def text(path, *, max_bytes=1 << 28):
    """A UTF-8 file as a :class:`Text`.

    Raises
    ------
    ValueError
        Missing, empty, too large or no UTF-8; one sentence with the path.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"text: {path} is not a file")
    if path.stat().st_size > max_bytes:
        raise ValueError(f"text: {path} has {path.stat().st_size} bytes, more than the {max_bytes} allowed")
    try:
        content = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"text: {path} is not UTF-8: {error.reason} at byte {error.start}") from None
    if not content:
        raise ValueError(f"text: {path} is empty")
    return Text(content)


def series(path, column=-1):
    """Numbers of one column of a CSV file with a heading line.

    Parameters
    ----------
    path : path
    column : int or str
        Number of the column, or its heading; the last by default.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    ValueError
        A missing file or column, or a cell that is no number; one sentence with the path and line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"series: {path} is not a file")
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"series: {path} is no CSV file: {error}") from None
    if len(rows) < 2:
        raise ValueError(f"series: {path} has {len(rows)} lines, expected a heading and numbers")
    if isinstance(column, str):
        if column not in rows[0]:
            raise ValueError(f"series: {path} has columns {', '.join(rows[0])}, expected {column!r} among them")
        column = rows[0].index(column)
    values = []
    for number, row in enumerate(rows[1:], 2):
        try:
            value = float(row[column])
        except (ValueError, IndexError):
            raise ValueError(f"series: {path} has no number in column {column} of line {number}: {','.join(row)!r}") from None
        if not np.isfinite(value):
            raise ValueError(f"series: {path} holds {value} in line {number}, expected finite numbers")
        values.append(value)
    return np.array(values)


def windows(values, length, ahead=1):
    """Every stretch of a series and what follows it.

    Parameters
    ----------
    values : array_like, shape (T,)
    length : int
        Of the stretches.
    ahead : int
        How many steps behind the stretch the target lies; 1: the next value.

    Returns
    -------
    x : ndarray, shape (T - length - ahead + 1, length)
    y : ndarray, shape (T - length - ahead + 1,)
    """
    values = np.asarray(values)
    for name, value in (("length", length), ("ahead", ahead)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"windows: {name} is {value!r}, expected an int of at least 1")
    if values.ndim != 1 or len(values) < length + ahead:
        raise ValueError(f"windows: values has shape {values.shape}, expected at least {length + ahead} values along one axis")
    x = np.lib.stride_tricks.sliding_window_view(values, length)[: len(values) - length - ahead + 1]
    return x.copy(), values[length + ahead - 1 :].copy()


class Forecasting:
    """A series cut for forecasting: windows and the value after each, scaled by what the training part alone shows.

    Parameters
    ----------
    values : array_like, shape (T,)
    length : int
        Of the windows.
    train, validation : float
        Shares of the series, in order of time; the rest is for testing. A window belongs to the part that holds the value after it.
    logarithm : bool, optional
        Learn the logarithm; by default where all training values are positive and their second half is half as large again as the first.

    Attributes
    ----------
    train, validation, test : ArrayDataset
        x (N, length, 1) and y (N, 1), float32, scaled to mean 0 and deviation 1 of the training part.
    mean, deviation : float
    logarithm : bool
    """

    def __init__(self, values, length, *, train=0.7, validation=0.1, logarithm=None):
        self.values = np.asarray(values, np.float64)
        if not (0 < train < 1 and 0 <= validation < 1 - train):
            raise ValueError(f"Forecasting: train is {train} and validation {validation}, expected shares that leave a test part")
        known = self.values[: int(train * len(self.values))]
        x, y = windows(self.values, length)
        if len(known) <= length:
            raise ValueError(f"Forecasting: values has shape {self.values.shape}, too few for windows of {length} in its first {train:.0%}")
        if logarithm is None:
            half = len(known) // 2
            logarithm = bool(known.min() > 0 and known[half:].mean() > 1.5 * known[:half].mean())
        self.logarithm = logarithm
        scaled = np.log(known) if logarithm else known
        self.mean, self.deviation = float(scaled.mean()), float(scaled.std()) or 1.0
        x, y = self.scale(x)[..., None], self.scale(y)[:, None]
        at = np.arange(length, len(self.values))
        edges = [0, int(train * len(self.values)), int((train + validation) * len(self.values)), len(self.values)]
        chosen = [(at >= begin) & (at < end) for begin, end in itertools.pairwise(edges)]
        self.train, self.validation, self.test = (ArrayDataset(x[c], y[c]) for c in chosen)
        self._test_places = at[chosen[2]]

    def scale(self, values):
        """float32 as a model sees them."""
        values = np.log(values) if self.logarithm else np.asarray(values, np.float64)
        return ((values - self.mean) / self.deviation).astype(np.float32)

    def unscale(self, outputs):
        """A model's outputs in the units of the series, float64."""
        values = np.asarray(outputs, np.float64) * self.deviation + self.mean
        return np.exp(values) if self.logarithm else values

    def error(self, outputs):
        """Mean absolute error of outputs (N, 1) for the test part, in the units of the series."""
        return float(np.abs(self.unscale(outputs)[:, 0] - self.values[self._test_places]).mean())

    def seasonal_error(self, season):
        """That of the value `season` steps before."""
        if self._test_places[0] < season:
            raise ValueError(f"Forecasting: season is {season}, expected at most {self._test_places[0]}")
        return float(np.abs(self.values[self._test_places - season] - self.values[self._test_places]).mean())


_MONTHS = "January February March April May June July August September October November December".split()


def _pairs(sources, targets):
    """Sources and targets as numbers of one alphabet, sources filled up with blanks: x (N, S), y (N, T), the alphabet."""
    width = max(map(len, sources))
    both = Text("".join(sources) + "".join(targets) + " ")
    x = np.stack([both.encode(s.ljust(width)) for s in sources])
    return x, np.stack([both.encode(t) for t in targets]), both.characters


def dates(count, rng=0):
    """Dates as people write them, and as ISO 8601 does: 'March 5, 1987', '5 Mar 1987', '05/03/1987', ... and '1987-03-05'.

    Parameters
    ----------
    count : int
    rng : int or numpy.random.Generator

    Returns
    -------
    x : ndarray of int64, shape (count, S)
        Sources, filled up with blanks.
    y : ndarray of int64, shape (count, 10)
    characters : list of str
        ``characters[number]``.
    """
    rng = np.random.default_rng(rng)
    days = np.datetime64("1900-01-01") + rng.integers(0, 200 * 365, count)
    sources, targets = ["".join(_MONTHS) + "0123456789/.,- "], ["0000-00-00"]  # the alphabet does not depend on the draw
    for day, form in zip(days, rng.integers(0, 5, count), strict=True):
        year, month, number = (int(v) for v in str(day).split("-"))
        name = _MONTHS[month - 1]
        forms = (
            f"{name} {number}, {year}",
            f"{number} {name[:3]} {year}",
            f"{number:02}/{month:02}/{year}",
            f"{number}.{month}.{year}",
            f"{name[:3]} {number} {year}",
        )
        sources.append(forms[form])
        targets.append(str(day))
    width = len("September 30, 2099")
    x, y, characters = _pairs([sources[0], *(s.ljust(width) for s in sources[1:])], targets)
    return x[1:, :width].copy(), y[1:], characters


def reversals(count, length=12, symbols=20, rng=0):
    """Random words and the same words backwards.

    Parameters
    ----------
    count, length, symbols : int
        How many words, of how many letters, of an alphabet of how many (at most 26).
    rng : int or numpy.random.Generator

    Returns
    -------
    x, y : ndarrays of int64, shape (count, length)
    characters : list of str
    """
    if not 1 <= symbols <= 26:
        raise ValueError(f"reversals: symbols is {symbols}, expected 1 to 26")
    x = np.random.default_rng(rng).integers(0, symbols, (count, length))
    return x, x[:, ::-1].copy(), [chr(ord("a") + i) for i in range(symbols)]
