"""Counts what calls leave behind: Python blocks, references of the arguments, bytes handed out by the core."""

import gc
import sys

from cnnpy import _core


def growth(call, arguments, rounds):
    """(blocks, references, bytes) that `rounds` calls leave, after a warm-up."""

    def state():
        gc.collect()
        _core.trim_memory()
        return (
            sys.getallocatedblocks(),
            sum(sys.getrefcount(a) for a in arguments if not isinstance(a, int)),
            _core.configuration()["memory_used"],
        )

    for _ in range(20):
        call()
    best = None
    for _ in range(4):  # other threads and caches allocate now and then; a leak shows every time
        before = state()
        for _ in range(rounds):
            call()
        now = tuple(a - b for a, b in zip(state(), before, strict=True))
        best = now if best is None else tuple(min(a, b) for a, b in zip(now, best, strict=True))
    return best
