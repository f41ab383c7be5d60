"""Weights that inference makes once: batch norms folded into them, and the order in which convolutions read them."""

from __future__ import annotations

import numpy as np

from cnnpy.compiler.lines import Line

__all__ = ["Fold", "fold_norms", "pack_weights"]


class Fold:
    """A convolution that takes over the batch norm behind it: its weights and bias are made from those of both.

    ``w' = w s``, ``b' = (b - mean) s + bias``, ``s = weight / sqrt(variance + eps)`` by filter, in float64.
    """

    def __init__(self, conv, norm, weight, bias):
        self.given = [conv.array("w"), conv.array("b"), *(norm.array(n) for n in ("weight", "bias", "mean", "variance"))]
        self.epsilon, self.weight, self.bias = norm.number("epsilon"), weight, bias

    def compute(self, owner):
        """(weight, bias) from the arrays now; ``owner(buffer)`` is the array of a known buffer."""
        given: list = [None if p is None else np.asarray(owner(p[0]), np.float64) for p in self.given]
        w, b, weight, bias, mean, variance = given
        scale = (1.0 if weight is None else weight) / np.sqrt(variance + self.epsilon)
        shift = ((0.0 if b is None else b) - mean) * scale + (0.0 if bias is None else bias)
        return w * scale.reshape(-1, *[1] * (w.ndim - 1)), shift


def fold_norms(g):
    """conv -> batch norm in evaluation: one convolution, with weights that :class:`Fold` makes."""
    folds = []
    for i, line in enumerate(g.lines):
        if line is None or line.entry.name != "channel_norm_forward" or line.number("trained") or line.array("residual") is not None:
            continue
        x = line.array("x")
        at = g.maker(x, "conv_forward")
        if at is None or not g.inner(x) or g.reads_of(x) != [i] or g.lines[at].number("activation") or g.lines[at].dtype != line.dtype:
            continue
        conv = g.lines[at]
        fold = Fold(conv, line, g.new_buffer(), g.new_buffer())
        if any(p is not None and (p[0] not in g.dense or p[1]) for p in fold.given):
            continue
        conv.set_array("w", (fold.weight, 0))
        conv.set_array("b", (fold.bias, 0))
        conv.problem["activation"] = line.number("activation")
        conv.set_array("y", line.array("y"))
        g.lines[i] = None
        g.writers[line.array("y")[0]] = [at]
        folds.append(fold)
    g.compact()
    return folds


def pack_weights(lines, constant, count):
    """Lines that pack weights, run once before the others: (their lines, {buffer: bytes} of what they make).

    `constant`: buffers that hold the same until the program is refreshed; new buffers are numbered from `count` on. Every convolution of `lines`
    that can takes its packed weights instead.
    """
    packs: list = []
    sizes: dict = {}
    for line in lines:
        if line.entry.name != "conv_forward" or line.array("w")[0] not in constant:
            continue
        bytes_, *_ = line.traits()
        if not bytes_:
            continue
        buffer = count + len(sizes)
        packs.append(Line("conv_pack", line.dtype, line.problem.tobytes(), [line.array("w"), (buffer, 0)], line.work))
        sizes[buffer] = bytes_
        line.problem["packed"] = 1
        line.set_array("w", (buffer, 0))
    return packs, sizes
