"""What one eager call did, as lines over buffers: the recording that programs are made from."""

from __future__ import annotations

import numpy as np

from cnnpy import _core
from cnnpy.compiler.lines import Line

__all__ = ["Trace", "module_arrays", "record"]


class Trace:
    """Lines; owners (None where a result was not kept) and bytes of their buffers; how many of those were known from the start; why the call cannot
    become a program, if it cannot."""

    def __init__(self, lines, owners, sizes, known, cause):
        self.lines = [Line(*row) for row in lines]
        self.owners, self.sizes, self.known, self.cause = owners, sizes, known, cause
        self.places: dict = {}
        self.notes: list = []

    def insert(self, arrays):
        """Makes more arrays known from the start, after those that are: the numbers of the other buffers grow."""
        more, known = len(arrays), self.known
        self.owners = (*self.owners[:known], *arrays, *self.owners[known:])
        self.sizes = (*self.sizes[:known], *(a.nbytes for a in arrays), *self.sizes[known:])
        for line in self.lines:
            line.arrays = [a if a is None or a[0] < known else (a[0] + more, a[1]) for a in line.arrays]
        self.places = {n: p if p[0] < known else (p[0] + more, *p[1:]) for n, p in self.places.items()}
        self.known += more

    def differs(self, other):
        """What differs from another trace of the same call, as text; None where nothing does. Keys of dropout masks may."""
        if len(self.lines) != len(other.lines):
            return f"the model made {len(self.lines)} calls of kernels the first time and {len(other.lines)} the second"
        for a, b in zip(self.lines, other.lines, strict=True):
            if a.entry is not b.entry or a.arrays != b.arrays or a.dtype != b.dtype:
                return f"the model called {a.entry.name} the first time and {b.entry.name} the second, or on other arrays"
            if a.problem.tobytes() != b.problem.tobytes():
                if a.entry.name == "dropout":
                    at = a.problem.dtype.fields["key"][1]
                    if all(x[:at] + x[at + 8 :] == y[:at] + y[at + 8 :] for x, y in [(a.problem.tobytes(), b.problem.tobytes())]):
                        continue
                return f"the numbers of {a.entry.name} change from call to call"
        if self.places != other.places:
            return "the results lie elsewhere the second time"
        return None


def module_arrays(*modules):
    """Arrays that modules hold: (parameters, buffers, constants), each once, in order."""
    parameters: list = []
    buffers: list = []
    constants: list = []
    seen = set()

    def add(to, key, value):
        if key not in seen:
            seen.add(key)
            to.append(value)

    for root in modules:
        for module in root.modules():
            for parameter in module._parameters.values():
                add(parameters, id(parameter), parameter)
            for name, value in module.__dict__.items():
                if isinstance(value, np.ndarray):
                    add(buffers if name in module._buffers else constants, id(value), (module, name))
    return parameters, buffers, constants


def record(function, known):
    """Runs ``function(place)``, whose calls may read and write the arrays `known`; returns its result and a :class:`Trace`.

    ``place(name, array)`` tells where a result lies: in ``Trace.places`` under that name, as (buffer, offset, shape, strides, dtype).
    """
    places: dict = {}
    missing: list = []

    def place(name, array):
        found = _core.record_place(array)
        if found is None:
            missing.append(name)
        else:
            places[name] = (*found, array.shape, array.strides, array.dtype)

    _core.record_begin(known)
    try:
        result = function(place)
    finally:
        lines, owners, sizes, cause = _core.record_end()
    if cause is None and missing:
        cause = f"{missing[0]} is made by NumPy, outside the recorded operations"
    trace = Trace(lines, owners, sizes, len(known), cause)
    trace.places = places
    return result, trace
