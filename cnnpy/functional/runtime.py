"""Threads, instruction sets and memory: what is set for the process, not for a call."""

import contextlib
import os

from cnnpy import _core

__all__ = [
    "config",
    "fma_probe",
    "memory_peak",
    "num_threads",
    "precision",
    "set_memory_limit",
    "set_num_threads",
    "set_precision",
    "show_config",
    "threads",
    "trim_memory",
]


def num_threads():
    """Threads that a call may use, the calling one included. Results do not depend on it."""
    return _core.num_threads()


def set_num_threads(n):
    """Sets how many threads a call may use, 1 to 256."""
    _core.set_num_threads(n)


@contextlib.contextmanager
def threads(n):
    """``with cnnpy.threads(1):`` sets the number of threads for a while."""
    before = num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


_automatic = "auto"  # what algorithm='auto' means now


def precision():
    """'default' or 'strict', as set by :func:`set_precision`."""
    return "strict" if _automatic == "direct" else "default"


def set_precision(mode):
    """How ``algorithm='auto'`` of a convolution chooses, and everything that convolves without that argument.

    Parameters
    ----------
    mode : {'default', 'strict'}
        'default' takes Winograd's algorithm where it is faster: its rounding error is at most four times that of the direct sum, and one
        infinity or NaN reaches the whole tiles that touch it. 'strict' is always the direct sum.
    """
    global _automatic
    if mode not in ("default", "strict"):
        raise ValueError(f"set_precision: mode is {mode!r}, expected 'default' or 'strict'")
    _automatic = "direct" if mode == "strict" else "auto"


def automatic():
    """The algorithm that 'auto' stands for."""
    return _automatic


def set_memory_limit(nbytes):
    """A single request above this many bytes raises MemoryError before anything is allocated. None: the machine's or cgroup's memory."""
    _core.set_memory_limit(nbytes)


def trim_memory():
    """Gives kept buffers back to the system; returns their bytes."""
    return _core.trim_memory()


def memory_peak():
    """Bytes of results and scratch that were in use at most since this was last called."""
    return _core.memory_peak()


def config():
    """What was compiled, what the machine has, what is in use; sizes in bytes."""
    return _core.configuration()


def fma_probe(rounds):
    """Runs multiply-adds in registers on all threads and returns how many: the ceiling that benches compare with."""
    return _core.probe(rounds)


def show_config():
    """Prints version, instruction sets, threads and cache sizes."""
    import numpy

    import cnnpy

    c = config()
    print(f"cnnpy {cnnpy.__version__}, NumPy {numpy.__version__}")
    print(f"instruction sets  compiled {', '.join(c['compiled'])}; supported {', '.join(c['supported'])}; in use {c['isa']}")
    print(f"threads           {c['threads']} of {c['processors']} processors")
    print(f"caches            L1 {c['l1'] >> 10} KB, L2 {c['l2'] >> 10} KB, L3 {c['l3'] >> 10} KB (at most 16 MB counted)")
    print(f"memory            limit {c['memory_limit'] / 2**30:.1f} GiB, kept {c['memory_kept'] / 2**20:.1f} MiB")


def _from_environment():
    isa = os.environ.get("CNNPY_ISA")
    if isa:
        try:
            _core.choose_isa(isa)
        except ValueError as error:
            raise ImportError(str(error)) from None
    for name in ("CNNPY_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "").split(",")[0].strip()
        if value.isdigit() and int(value) > 0:
            set_num_threads(min(int(value), 256))
            return
        if value and name.startswith("CNNPY"):
            raise ImportError(f"{name} is {value!r}, expected a number of threads")


_from_environment()


@contextlib.contextmanager
def instruction_set(name):
    """Inside the block every call runs the kernels of that instruction set: one of ``config()["supported"]``."""
    before = _core.configuration()["isa"]
    _core.choose_isa(name)
    try:
        yield
    finally:
        _core.choose_isa(before)
