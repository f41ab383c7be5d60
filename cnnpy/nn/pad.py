"""Padding layers: PyTorch's order of the numbers, last axis first."""

from cnnpy import functional as F
from cnnpy.nn.module import Module

__all__ = [f"{kind}Pad{d}d" for kind in ("Zero", "Reflection", "Symmetric", "Replication", "Circular") for d in (1, 2, 3)]


class _Pad(Module):
    rank, mode = 0, "zeros"

    def __init__(self, padding):
        super().__init__()
        numbers = (padding,) * (2 * self.rank) if isinstance(padding, int) else tuple(padding)
        if len(numbers) != 2 * self.rank:
            raise ValueError(f"{type(self).__name__}: padding has {len(numbers)} numbers, expected one or {2 * self.rank}")
        self.padding = numbers
        self.pads = tuple((numbers[2 * i], numbers[2 * i + 1]) for i in reversed(range(self.rank)))

    def forward(self, x):
        return F.pad(x, self.pads, mode=self.mode)

    def extra_repr(self):
        return f"{self.padding}"


def _define():
    modes = {"Zero": "zeros", "Reflection": "reflect", "Symmetric": "symmetric", "Replication": "replicate", "Circular": "circular"}
    for kind, mode in modes.items():
        for d in (1, 2, 3):
            name = f"{kind}Pad{d}d"
            text = f":func:`cnnpy.pad` of {d} spatial axes in the mode {mode!r}; padding is an int or (left, right[, top, bottom[, front, back]])."
            yield name, type(name, (_Pad,), {"rank": d, "mode": mode, "__doc__": text, "__module__": __name__})


globals().update(_define())
