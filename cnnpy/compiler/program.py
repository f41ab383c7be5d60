"""A program that runs: lines bound to an arena and to the arrays of a model."""

from __future__ import annotations

import time

import numpy as np

from cnnpy import _core
from cnnpy.compiler.describe import bytes_moved, describe, flops
from cnnpy.compiler.fuse import fuse, pair_updates
from cnnpy.compiler.plan import Plan
from cnnpy.compiler.weights import pack_weights

__all__ = ["Program"]

ARENA = 0  # the source of a program that is its own memory; the arrays known from the start follow


class Program:
    """Lines ready to run.

    Parameters
    ----------
    trace : Trace
    names : list of str
        Of the arrays known from the start, for whoever reads the program.
    last : sequence of str
        Entries that are moved behind all others, in order: what changes the model's state. They start at line ``split``; from ``ready`` on, before
        them, lie weight gradients that can run together with their updates.
    fused : bool
    packed : bool
        The arrays known from the start, but for the first, are constant until :meth:`refold`: convolutions read packed copies of their weights.
    """

    def __init__(self, trace, names, last=(), fused=True, packed=False):
        self.known = trace.known
        self.names = list(names)
        temporary = set(range(trace.known, len(trace.owners)))
        self.places = dict(trace.places)
        kept = {p[0] for p in self.places.values()}
        constants = {b for b in temporary if not any(b in line.writes for line in trace.lines)}
        lines, self.folds = list(trace.lines), []
        if fused:
            dense = {b for b in range(trace.known) if trace.owners[b].flags.c_contiguous}
            lines, self.folds = fuse(lines, temporary - constants, kept, dense, trace.sizes)
        head = [line for line in lines if line.entry.name not in last]
        tail = [line for line in lines if line.entry.name in last]
        head, waiting = pair_updates(head, tail) if fused else (head, [])
        self.lines = head + waiting + tail
        self.ready, self.split = len(head), len(head) + len(waiting)
        self.sizes = sizes = dict(enumerate(trace.sizes))
        self.plan = Plan(self.lines, sizes, temporary - constants, kept)
        made = [b for fold in self.folds for b in (fold.weight, fold.bias)]
        packs: list = []
        self._packed: dict = {}
        if packed:
            packs, self._packed = pack_weights(self.lines, {*range(1, trace.known), *made}, len(trace.owners) + len(made))
        constant = {b: trace.known + 1 + i for i, b in enumerate([*sorted(constants), *made, *self._packed])}
        self._arena = _arena(self.plan.bytes)

        def place(buffer, offset):
            if buffer < trace.known:
                return 1 + buffer, offset
            return (constant[buffer], offset) if buffer in constant else (ARENA, self.plan.offsets[buffer] + offset)

        rows = []
        for line in [*packs, *self.lines]:
            number, dtype, problem, arrays, work = line.core()
            rows.append((number, dtype, problem, tuple(None if a is None else place(*a) for a in arrays), work))
        self._core, self._problems = _core.program_new(rows, trace.known + 1 + len(constant), len(packs))
        for i, line in enumerate(waiting):
            _core.program_pair(self._core, self.ready + i, self.split + tail.index(line.update))
        _core.program_bind(self._core, ARENA, self._arena)
        for buffer, source in constant.items():
            if buffer in self._packed:
                _core.program_bind(self._core, source, _core.new_bytes(self._packed[buffer]))
            elif buffer not in made:
                _core.program_bind(self._core, source, trace.owners[buffer])
        self.bound = list(trace.owners[: trace.known])
        for i, array in enumerate(self.bound):
            _core.program_bind(self._core, 1 + i, array)
        self._folded = {b: constant[b] for b in made}
        self._packs = [line.array("w")[0] for line in packs]
        self.refold()
        self._names: dict = {}
        for fold in self.folds:
            self._names |= {fold.weight: f"{self.names[fold.given[0][0]]} folded", fold.bias: "bias folded"}
        self._names |= {line.array("packed")[0]: f"{self._name(*line.array('w'))} packed" for line in packs}
        self._views = {}
        for name, (buffer, offset, shape, strides, dtype) in self.places.items():
            if buffer >= trace.known and buffer not in constants:
                self._views[name] = _view(shape, dtype, self._arena, self.plan.offsets[buffer] + offset, strides)
            else:
                owner = trace.owners[buffer]
                low = np.lib.array_utils.byte_bounds(owner)[0]
                gap = owner.__array_interface__["data"][0] - low
                self._views[name] = _view(shape, dtype, owner, offset - gap, strides) if gap == 0 else owner
        offsets = np.cumsum([0, *(-(-line.entry.size // 16) * 16 for line in [*packs, *self.lines])])[len(packs) :]
        self._at = [int(o) for o in offsets]

    def view(self, name):
        """The program's own memory of a result; the next run overwrites it."""
        return self._views[name]

    def problems(self, first, count):
        """The problems of `count` neighbouring lines of one entry as a structured array that may be changed."""
        from cnnpy.compiler.lines import problem_dtype

        dtype = problem_dtype(self.lines[first].entry.problem)
        return _view((count,), dtype, self._problems, self._at[first], (self._at[first + 1] - self._at[first],))

    def bind(self, i, array):
        """Takes another array of the same shape, strides and dtype in the place of known array `i`."""
        before = self.bound[i]
        if array.dtype != before.dtype or array.shape != before.shape or array.strides != before.strides:
            raise ValueError(f"compiled program: {self.names[i]} is {array.dtype} {array.shape}, expected {before.dtype} {before.shape}")
        _core.program_bind(self._core, 1 + i, array)
        self.bound[i] = array

    def refold(self):
        """Makes the folded and the packed weights anew from the arrays that the program is bound to."""
        unused = np.empty(1, np.uint8)
        folds = {fold.weight: fold for fold in self.folds}
        for fold in self.folds:
            if fold.weight in self._packs:
                _core.program_bind(self._core, self._folded[fold.weight], unused)
                _core.program_bind(self._core, self._folded[fold.bias], unused)
            else:
                self._fold(fold)
        for i, weight in enumerate(self._packs):  # a folded weight is there while it is packed
            if weight in folds:
                self._fold(folds[weight])
            _core.program_prepare(self._core, i, i + 1)
            if weight in folds:
                _core.program_bind(self._core, self._folded[weight], unused)

    def _fold(self, fold):
        like = self.bound[fold.given[0][0]]
        weight, bias = fold.compute(lambda buffer: self.bound[buffer])
        dense = np.empty_like(like)
        dense[...] = weight
        _core.program_bind(self._core, self._folded[fold.weight], dense)
        _core.program_bind(self._core, self._folded[fold.bias], np.ascontiguousarray(bias, like.dtype))

    def run(self, first=0, last=None, whole=False, together=False, seconds=None):
        """Runs some lines. ``whole``: Ctrl-C waits for their end; ``together``: weight gradients and their updates run as one line each."""
        _core.program_run(self._core, first, len(self.lines) if last is None else last, whole, together, seconds)

    def memory(self):
        """Bytes: ``arena`` (all intermediate results and gradients), ``unshared`` (the same without sharing), ``scratch``, ``known`` (model and inputs),
        ``folded`` (weights that took over a batch norm), ``packed`` (weights in the order in which convolutions read them)."""
        return {
            "arena": self.plan.bytes,
            "unshared": self.plan.apart,
            "scratch": _core.program_scratch(self._core),
            "known": sum(self.sizes[b] for b in range(self.known)),
            "folded": sum(self.sizes[f.given[0][0]] for f in self.folds if f.weight not in self._packs),
            "packed": sum(self._packed.values()),
        }

    def _name(self, buffer, offset):
        if buffer in self._names:
            return self._names[buffer]
        if buffer < self.known:
            return self.names[buffer] + (f"+{offset}" if offset else "")
        return f"%{buffer - self.known}" + (f"+{offset}" if offset else "")

    def __str__(self):
        rows = [(*describe(line, self._name), flops(line)) for line in self.lines]
        if not rows:
            return "(no lines)"
        width = min(80, max(len(r[0]) for r in rows))
        middle = max(len(r[1]) for r in rows)
        text = [f"{i:4} {call:<{width}} {sizes:<{middle}} {work / 1e6:10.3f} MFLOP" for i, (call, sizes, work) in enumerate(rows)]
        used = self.memory()
        text.append(
            f"arena {used['arena'] / 2**20:.1f} MiB ({used['unshared'] / 2**20:.1f} unshared), scratch {used['scratch'] / 2**20:.1f} MiB"
        )
        return "\n".join(text)

    def profile(self, run, repeat):
        """Seconds a line, the least of some runs. ``run(seconds)`` runs the program once."""
        best = np.full(len(self.lines), np.inf)
        for _ in range(repeat):
            seconds = np.zeros(len(self.lines))
            run(seconds)
            best = np.minimum(best, seconds)
        return Profile(self, best)


class Profile:
    """What each line of a program took: ``rows`` of (line, seconds, flops, bytes); printed, a table with the share of the machine's bounds.
    An update that ran together with its gradient has no time of its own."""

    def __init__(self, program, seconds):
        self.rows = [
            (line, float(s), flops(line), bytes_moved(line, program.sizes)) for line, s in zip(program.lines, seconds, strict=True)
        ]
        self.total = float(seconds.sum())
        self._texts = [describe(line, program._name) for line in program.lines]
        self.flop_rate, self.byte_rate = _bounds()

    def bound(self, row):
        """The least seconds that the machine could take for a line: its arithmetic or its bytes."""
        _, _, work, moved = row
        return max(work / self.flop_rate, moved / self.byte_rate)

    def by_entry(self):
        """Seconds by kind of entry, the most first."""
        sums: dict = {}
        for line, seconds, *_ in self.rows:
            sums[line.entry.name] = sums.get(line.entry.name, 0.0) + seconds
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    def __str__(self):
        lines = []
        for i, (row, text) in enumerate(zip(self.rows, self._texts, strict=True)):
            line, seconds, work, moved = row
            lines.append(
                f"{i:4} {line.entry.name:<24} {text[1]:<44} {seconds * 1e6:10.1f} us {100 * seconds / self.total:5.1f} % {work / max(seconds, 1e-9) / 1e9:7.1f} GF/s "
                f"{moved / max(seconds, 1e-9) / 1e9:6.1f} GB/s {100 * self.bound(row) / max(seconds, 1e-9):4.0f} % of the bound"
            )
        lines.append(f"{self.total * 1e3:.4f} ms in all")
        for name, seconds in self.by_entry().items():
            lines.append(f"     {name:<28} {seconds * 1e3:10.4f} ms {100 * seconds / self.total:5.1f} %")
        return "\n".join(lines)


_measured: list = []


def _bounds():
    """Multiply-adds and bytes that the machine's threads do a second, measured once: (FLOP/s, B/s)."""
    if not _measured:
        rate = 0.0
        for _ in range(5):
            begin = time.perf_counter()
            done = _core.probe(200000)
            rate = max(rate, 2 * done / (time.perf_counter() - begin))
        a, b = np.ones(1 << 22, np.float32), np.empty(1 << 22, np.float32)
        copied = 0.0
        for _ in range(5):
            begin = time.perf_counter()
            _core.copy_to(b, a)
            np.copyto(b, a)
            copied = max(copied, 4 * a.nbytes / (time.perf_counter() - begin))
        _measured.extend((rate, copied))
    return tuple(_measured)


def _arena(nbytes):
    """Bytes of the core's large buffers, after those that eager calls left over went back to the system."""
    _core.trim_memory()
    return _core.new_bytes(max(64, nbytes))


def _view(shape, dtype, owner, offset, strides):
    """An array inside another one. Without memory NumPy may give one that cannot be written, and say nothing."""
    array = np.ndarray(shape, dtype, owner, offset, strides)
    if owner.flags.writeable and not array.flags.writeable:
        raise MemoryError("compiled program: no memory for its views")
    return array
