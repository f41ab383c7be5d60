"""What compiled models and steps share: inputs, checks, programs by shape, the fall back to eager calls."""

from __future__ import annotations

import importlib
import signal
import threading
import warnings

import numpy as np

from cnnpy.autograd import Tensor

__all__ = ["Bound", "Compiled", "as_input", "find_checks", "in_range", "modes_of", "uninterrupted"]

MOST_PROGRAMS = 8  # shapes that are kept; the oldest goes


def as_input(function, name, x, integers):
    """The array as programs take it: C order, machine byte order, int64 for whole numbers of a target."""
    if isinstance(x, Tensor):
        x = x._data
    x = np.asarray(x)
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{function}: {name} has dtype {x.dtype}, expected real numbers")
    if x.dtype.kind in "iu" and x.dtype != np.int64 and (integers or x.dtype.itemsize >= 4):
        x = x.astype(np.int64)
    if x.dtype == np.float16:
        x = x.astype(np.float32)
    return np.ascontiguousarray(x, x.dtype.newbyteorder("=")) if x.ndim else np.array(x, x.dtype.newbyteorder("="))


# The module behind `signal`, which makes enums of what it returns: most of the time of a small step's update.
_signal = importlib.import_module("_signal")
_INTERRUPT = int(signal.SIGINT)


class uninterrupted:
    """While it is entered, Ctrl-C waits: an update is made whole or not at all."""

    __slots__ = ("before", "came")

    def __enter__(self):
        self.came: list = []
        self.before = _signal.getsignal(_INTERRUPT) if threading.current_thread() is threading.main_thread() else None
        if callable(self.before):  # else it is not ours to hold back, or nobody waits for it
            _signal.signal(_INTERRUPT, lambda *event: self.came.append(event))

    def __exit__(self, *error):
        if callable(self.before):
            _signal.signal(_INTERRUPT, self.before)
            if self.came:
                self.before(*self.came[0])


def modes_of(module, to):
    """Appends which of the modules inside are in training mode; a walk of its own, because every step takes it."""
    to.append(module.training)
    for child in module._modules.values():
        modes_of(child, to)
    return to


def find_checks(lines, inputs):
    """Whole numbers of the inputs that must lie in a range, as eager calls check them: (input, the first number that is too high, one that is let through or None)."""
    checks, copies = set(), {}
    for line in lines:
        name = line.entry.name
        if name == "array_copy":
            copies[line.arrays[1][0]] = line.arrays[0][0]
        elif name == "embedding_forward" or (name == "cross_entropy_forward" and not line.number("probabilities")):
            source = line.array("target" if name == "cross_entropy_forward" else "index")[0]
            while source in copies:
                source = copies[source]
            if source < inputs:
                high = line.number("classes" if name == "cross_entropy_forward" else "rows")
                checks.add((source, high, line.number("ignore_index") if name == "cross_entropy_forward" else None))
    return list(checks)


def in_range(checks, inputs):
    """Whether all whole numbers lie in their ranges; where not, an eager call says which."""
    for i, high, passed in checks:
        array = inputs[i]
        if array.size and (array.min() < 0 or array.max() >= high):
            bad = (array < 0) | (array >= high)
            if passed is None or (bad & (array != passed)).any():
                return False
    return True


class Compiled:
    """What compiled models and steps share: programs by shape, the fall back to eager calls, and what they say of themselves."""

    function = ""

    def __init__(self, model, warn=True):
        self.model = model
        self._programs: dict = {}
        self._latest = None
        self._lock = threading.RLock()
        self._warned = not warn

    def _fall_back(self, key, cause):
        self._programs[key] = False
        if not self._warned:
            self._warned = True
            warnings.warn(f"{self.function}: the model runs eagerly, because {cause}", RuntimeWarning, stacklevel=4)

    def _keep(self, key, made):
        self._programs.pop(key, None)
        self._programs[key] = made
        while sum(isinstance(p, Bound) for p in self._programs.values()) > MOST_PROGRAMS:
            oldest = next(k for k, p in self._programs.items() if isinstance(p, Bound))
            del self._programs[oldest]

    @property
    def program(self):
        """The program of the latest shape, None before there is one."""
        return self._latest.program if self._latest is not None else None

    def memory(self):
        """Bytes of the latest program: see :meth:`Program.memory`."""
        if self.program is None:
            raise RuntimeError(f"{self.function}: there is no program yet; call it first")
        return self.program.memory()

    def __str__(self):
        return f"({self.function}: no program yet; call it first)" if self.program is None else str(self.program)

    def _repr_html_(self):
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"

    def _hooks(self):
        for name, module in self.model.named_modules():
            if module._forward_hooks:
                return f"{name or 'the model'} has a forward hook"
        return None


class Bound:
    """A program and the arrays of the model that it is bound to."""

    def __init__(self, program):
        self.program = program
        self.checks: list = []
