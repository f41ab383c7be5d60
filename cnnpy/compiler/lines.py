"""Lines of a program: a kernel entry with its problem and its arrays, as the core records and runs them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from cnnpy import _core

__all__ = ["ENTRIES", "Line", "problem_dtype"]

_FORMATS = {"i": "<i4", "l": "<i8", "u": "<u8", "d": "<f8"}


class Entry:
    """What ops.def says of an entry: its number, its problem, its arrays in order (read first), which of them may be absent."""

    def __init__(self, number, name, problem, size, signature):
        self.number, self.name, self.problem, self.size = number, name, problem, size
        read, written = signature.split("->")
        self.arrays = tuple(a.rstrip("?") for a in (*read.split(), *written.split()))
        self.read = len(read.split())


@functools.cache
def _tables():
    rows, fields = _core.program_entries()
    entries = [Entry(i, *row) for i, row in enumerate(rows)]
    dtypes: dict[str, Any] = {}
    for entry in entries:
        own = [f for f in fields if f[0] == entry.problem]
        dtypes[entry.problem] = np.dtype(
            {
                "names": [f[1] for f in own],
                "formats": [(_FORMATS[f[3]], (f[4],)) if f[4] > 1 else _FORMATS[f[3]] for f in own],
                "offsets": [f[2] for f in own],
                "itemsize": entry.size,
            }
        )
    return entries, dtypes


class _Entries:
    def __getitem__(self, key):
        entries = _tables()[0]
        return entries[key] if isinstance(key, int) else next(e for e in entries if e.name == key)


ENTRIES = _Entries()


def problem_dtype(name):
    """The structured dtype of a problem struct: its named fields at their places."""
    return _tables()[1][name]


class Line:
    """One line. ``arrays``: a (buffer, offset) or None an array of the entry; buffers are numbers. ``problem`` has the struct's fields by name.
    ``onto``: the place to whose content the result is added and whose memory it takes, or None. ``update``: of a weight gradient, the line that
    updates the weights and can run together with it, whose ``gradient`` it is, or None."""

    __slots__ = ("arrays", "dtype", "entry", "gradient", "onto", "problem", "update", "work")

    def __init__(self, entry, dtype, problem, arrays, work):
        self.entry: Entry = ENTRIES[entry] if isinstance(entry, (int, str)) else entry
        self.dtype = dtype
        self.problem = np.frombuffer(bytearray(problem), problem_dtype(self.entry.problem))[0:1] if isinstance(problem, bytes) else problem
        self.arrays = list(arrays)
        self.onto = self.update = self.gradient = None
        self.work = work

    @property
    def reads(self):
        """The buffers that the line reads; those that an entry updates are among :attr:`writes`."""
        return [a[0] for a in (*self.arrays[: self.entry.read], self.onto) if a is not None]

    @property
    def writes(self):
        return [a[0] for a in self.arrays[self.entry.read :] if a is not None]

    def array(self, name):
        return self.arrays[self.entry.arrays.index(name)]

    def set_array(self, name, place):
        self.arrays[self.entry.arrays.index(name)] = place

    def number(self, name):
        """A field of the problem, an int, a float or a list."""
        return self.problem[name][0].tolist()

    def traits(self):
        """Of a convolution: (bytes of its packed weights or 0, whether its forward can add to a result, whether its input gradient can, whether its weight
        gradient can run together with an update)."""
        return _core.conv_traits(self.problem.tobytes(), self.dtype)

    def core(self):
        """The line as the core takes it."""
        return (self.entry.number, self.dtype, self.problem.tobytes(), tuple(self.arrays), self.work)
