"""Where buffers lie: one arena, in which buffers whose lives do not meet share memory."""

import numpy as np

__all__ = ["Plan", "in_place", "lives"]

ALIGNMENT = 64

# Entries that read and write cell by cell: which result may overwrite which operands.
IN_PLACE = {
    "relu_forward": ("y", "x"), "relu_backward": ("dx", "dy"), "sigmoid_forward": ("y", "x"), "sigmoid_backward": ("dx", "dy"),
    "tanh_forward": ("y", "x"), "tanh_backward": ("dx", "dy"), "clip_forward": ("y", "x"), "clip_backward": ("dx", "dy"),
    "leaky_relu_forward": ("y", "x"), "leaky_relu_backward": ("dx", "dy"), "elu_forward": ("y", "x"), "elu_backward": ("dx", "dy"),
    "silu_forward": ("y", "x"), "silu_backward": ("dx", "dy"), "dropout": ("y", "x"), "binary": ("y", "a", "b"),
    "channel_norm_forward": ("y", "x", "residual"), "channel_norm_backward": ("dresidual", "dy"),
}  # fmt: skip


def lives(lines, temporary, kept):
    """First and last line of every temporary buffer; what is kept lives to the end."""
    spans: dict = {}
    for i, line in enumerate(lines):
        for buffer in (*line.reads, *line.writes):
            if buffer in temporary:
                spans.setdefault(buffer, [i, i])[1] = i
    for buffer in kept:
        if buffer in spans:
            spans[buffer][1] = len(lines)
    return spans


def in_place(lines, spans, sizes):
    """Buffers that take over the memory of an operand that dies where they are born: {buffer: operand's}."""
    over: dict = {}
    for i, line in enumerate(lines):
        if line.onto is not None:
            over[line.writes[0]] = line.onto[0]
            continue
        names = IN_PLACE.get(line.entry.name)
        if names is None:
            continue
        if names[0] == "dresidual" and line.array("dresidual") is None:
            names = ("dx", "dy")
        result = line.array(names[0])
        if result is None:
            continue
        for name in names[1:]:
            operand = line.array(name)
            if (
                operand is not None
                and result[0] in spans
                and operand[0] in spans
                and spans[operand[0]][1] == i
                and spans[result[0]][0] == i
                and operand[1] == result[1] == 0
                and sizes[operand[0]] == sizes[result[0]]
                and operand[0] not in over.values()
                and sum(a == operand for a in line.arrays) == 1
                and (line.entry.name != "binary" or line.number(name) == line.number("y"))
            ):
                over[result[0]] = operand[0]
                break
    return over


class Plan:
    """Offsets of buffers in an arena of ``bytes``; ``apart``: what they would take without sharing."""

    def __init__(self, lines, sizes, temporary, kept):
        spans = lives(lines, temporary, kept)
        over = in_place(lines, spans, sizes)
        heads: dict = {}
        for buffer in spans:
            head = buffer
            while head in over:
                head = over[head]
            heads[buffer] = head
        merged: dict = {}
        for buffer, (first, last) in spans.items():
            span = merged.setdefault(heads[buffer], [first, last])
            span[0], span[1] = min(span[0], first), max(span[1], last)
        self.offsets: dict = {}
        order = sorted(merged, key=lambda b: (-sizes[b], merged[b][0]))
        first, last, begin, end = (np.zeros(len(order), np.int64) for _ in range(4))
        for i, buffer in enumerate(order):
            size = -(-max(1, sizes[buffer]) // ALIGNMENT) * ALIGNMENT
            meets = (first[:i] <= merged[buffer][1]) & (last[:i] >= merged[buffer][0])
            place = 0
            for j in np.flatnonzero(meets)[np.argsort(begin[:i][meets], kind="stable")]:
                if begin[j] - place >= size:
                    break
                place = max(place, int(end[j]))
            first[i], last[i] = merged[buffer]
            begin[i], end[i] = place, place + size
            self.offsets[buffer] = place
        for buffer, head in heads.items():
            self.offsets[buffer] = self.offsets[head]
        self.bytes = int(end.max()) if len(order) else 0
        self.apart = sum(sizes[b] for b in spans)
