"""cnnpy: convolutional and recurrent networks for plain NumPy arrays, with a C core."""

from cnnpy import functional
from cnnpy.autograd import Tensor, no_grad
from cnnpy.functional import *  # noqa: F403
from cnnpy.functional import __all__ as _functions
from cnnpy.functional.runtime import (
    num_threads,
    precision,
    set_memory_limit,
    set_num_threads,
    set_precision,
    show_config,
    threads,
    trim_memory,
)

__version__ = "0.1.0"

_LAZY = ("nn", "optim", "data", "models", "train", "io", "tools", "cli", "image", "transforms", "plot", "dist", "compiler")

__all__ = [
    "Tensor",
    "functional",
    "no_grad",
    "num_threads",
    "precision",
    "set_memory_limit",
    "set_num_threads",
    "set_precision",
    "show_config",
    "threads",
    "trim_memory",
    *_functions,
]


def __getattr__(name):
    """Subpackages are imported at first use: importing cnnpy itself takes a few milliseconds."""
    import importlib

    if name in _LAZY:
        return importlib.import_module(f"cnnpy.{name}")
    if name in ("compile", "compile_step"):
        return getattr(importlib.import_module("cnnpy.compiler"), name)
    raise AttributeError(f"module 'cnnpy' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_LAZY, "compile", "compile_step"])
