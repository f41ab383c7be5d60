"""Arrays on pages of their own, flush against a forbidden page: a read or write beyond either end ends the process.

``python tests/reliability/guard.py ROUNDS`` computes every function on such arrays, inputs on read-only pages, and prints how many calls it
made; ``planted`` as an argument reads one element too far, which must not survive.
"""

import ctypes
import mmap
import sys
from pathlib import Path

import numpy as np

PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_NONE, _READ, _WRITE = 0, 1, 2


def _protect(address, size, rights):
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), rights):
        raise OSError(ctypes.get_errno(), "mprotect")


class Guarded:
    """Copies arrays between forbidden pages; keeps the mappings until it is dropped."""

    def __init__(self):
        self._kept = []

    def place(self, a, at_end=True, writable=False):
        """The values of `a`, its memory order kept if it is channels-last or C, with its last (or first) byte at a forbidden page."""
        size = max(a.nbytes, 1)
        pages = -(-size // PAGE)
        block = mmap.mmap(-1, (pages + 2) * PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(block))
        start = PAGE + (pages * PAGE - a.nbytes if at_end else 0)
        order = sorted(range(a.ndim), key=lambda i: -abs(a.strides[i])) if a.size else list(range(a.ndim))
        flat = np.frombuffer(block, a.dtype, a.size, start)
        placed = flat.reshape([a.shape[i] for i in order]).transpose(np.argsort(order))
        placed[...] = a
        if not writable:
            placed.flags.writeable = False
            _protect(base + PAGE, pages * PAGE, _READ)
        _protect(base, PAGE, _NONE)
        _protect(base + (pages + 1) * PAGE, PAGE, _NONE)
        self._kept.append((block, base, pages))
        return placed

    def release(self):
        """Gives the rights back, so that the interpreter may clean up."""
        for _, base, pages in self._kept:
            _protect(base, (pages + 2) * PAGE, _READ | _WRITE)


def _is_array(a):
    return isinstance(a, np.ndarray) and a.dtype.kind in "fi"


def main(rounds):
    from cnnpy import _core
    from cnnpy import functional as F
    from tests.reliability.cases import CASES
    from tests.reliability.flat import FLAT

    calls = 0
    for isa in _core.configuration()["supported"]:
        _core.choose_isa(isa)
        for name, make in CASES.items():
            op, rng = FLAT[name], np.random.default_rng([ord(c) for c in name])
            for number in range(rounds):
                guarded, at_end, dtype = Guarded(), bool(number % 2), (np.float32, np.float64)[number // 2 % 2]
                arrays, options = make(rng, dtype)
                if op.variadic:
                    arrays = ([guarded.place(a, at_end) for a in arrays[0]],)
                else:
                    arrays = tuple(guarded.place(a, at_end) if _is_array(a) and a.ndim else a for a in arrays)
                y = op.forward(*arrays, **options)
                if isinstance(y, np.ndarray):
                    op.backward(guarded.place(y, at_end), *arrays, **options)
                if name.startswith(("conv1", "conv2", "conv3", "conv_")) and isinstance(y, np.ndarray) and y.size:
                    op.forward(*arrays, **options, out=guarded.place(np.zeros_like(y), at_end, writable=True))
                calls += 1
                guarded.release()
        for shape, kernel, options in [  # the algorithms that small problems do not take
            ((2, 17, 30, 29), (19, 17, 3, 3), {"padding": 1, "algorithm": "winograd"}),
            ((1, 150, 14, 14), (40, 150, 3, 3), {"algorithm": "winograd"}),
            ((1, 21, 13, 15), (18, 21, 3, 3), {"padding": 3, "dilation": (3, 2), "algorithm": "winograd"}),
            ((2, 17, 30, 29), (19, 17, 3, 3), {"stride": 2, "padding": 1, "algorithm": "winograd"}),
            ((1, 150, 15, 14), (40, 150, 4, 4), {"stride": 2, "algorithm": "winograd"}),
            ((1, 21, 13, 15), (18, 21, 2, 2), {"padding": 1, "algorithm": "winograd"}),
            ((2, 33, 28, 28), (33, 1, 3, 3), {"padding": 1, "groups": 33}),
            ((1, 300, 18, 18), (500, 300, 3, 3), {"padding": 1, "algorithm": "direct"}),
            ((2, 3, 60, 61), (20, 3, 7, 7), {"stride": 2, "padding": 3}),
            ((3, 256, 14, 14), (70, 256, 1, 1), {}),
        ]:
            for order in (lambda a: a, F.channels_last):
                for at_end in (False, True):
                    guarded = Guarded()
                    x, w = order(np.ones(shape, np.float32)), np.ones(kernel, np.float32)
                    x, w = guarded.place(x, at_end), guarded.place(w, at_end)
                    y = F.conv2d(x, w, **options)
                    dy = guarded.place(y, at_end)
                    F.conv2d_backward(dy, x, w, **options)
                    calls += 1
                    guarded.release()
    print(f"{calls} calls within their arrays")


def planted():
    guarded = Guarded()
    a = guarded.place(np.ones(10, np.float32))
    beyond = np.lib.stride_tricks.as_strided(a, (12,), a.strides)
    print(float(beyond[11]))


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    if sys.argv[1:] == ["planted"]:
        planted()
    else:
        main(int(sys.argv[1]))
