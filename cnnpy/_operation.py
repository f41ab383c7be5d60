"""What an operation is, described once: its name, its array arguments, its forward and its backward function.

The tape, the tests and the compiler all read that description.
"""

import functools
from collections import namedtuple

__all__ = ["OPERATIONS", "Operation"]

OPERATIONS: dict = {}  # name -> Operation


class Operation:
    """One differentiable function: what it is called, what it takes, how it goes forward and backward.

    Attributes
    ----------
    name : str
    arrays : tuple of str
        Array arguments, in order. Those that may be None are in ``optional``; lists of arrays, or of tuples of arrays, are in ``nested``
        with their depth.
    differentiable : tuple of str
        The arrays that have a gradient: the fields of ``Gradients``, the named tuple that backward returns.
    caches : bool
        forward accepts ``return_cache=True`` and then returns ``(result, cache)``; backward accepts ``cache=``.
    fresh : bool
        backward's results are new arrays that nobody else holds.
    shape_only : bool
        backward reads of every array (where it has the cache) the shape and dtype alone: the tape need not keep them.
    """

    def __init__(self, forward, arrays, *, constant=(), caches=False, fresh=True, shape_only=False):
        names = arrays.split()
        self.name = forward.__name__
        self.arrays = tuple(n.rstrip("?*[]") for n in names)
        self.nested = {n.rstrip("?[]"): n.count("[]") for n in names if "[]" in n}
        self.optional = frozenset(n[:-1] for n in names if n.endswith("?"))
        self.variadic = names[-1].endswith("*")
        self.differentiable = tuple(n for n in self.arrays if n not in constant)
        self.caches = caches
        self.fresh = fresh
        self.shape_only = shape_only
        self.forward = forward
        self.backward = None

    @functools.cached_property
    def Gradients(self):
        """The named tuple that backward returns; made at first use, to keep the import short."""
        return namedtuple(self.name.title().replace("_", "") + "Gradients", self.differentiable)

    def __repr__(self):
        return f"<operation {self.name}({', '.join(self.arrays)})>"
