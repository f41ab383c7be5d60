"""What layers do beside their operations, told to whoever records a call."""

import contextlib
import threading

_state = threading.local()


def note(*what):
    """``("count", array)``: the layer added 1 to a counter; ``("mask", layer, seed)``: it drew masks of dropout."""
    notes = getattr(_state, "notes", None)
    if notes is not None:
        notes.append(what)


@contextlib.contextmanager
def noting():
    """The list to which :func:`note` adds inside the block."""
    before = getattr(_state, "notes", None)
    notes: list = []
    _state.notes = notes
    try:
        yield notes
    finally:
        _state.notes = before
