"""Rewrites of a program's lines: what one kernel can do in one pass becomes one line.

A rewrite looks at who writes and who reads each buffer, changes lines, and marks those that are not needed any more. Results that `kept` names,
and what the model owns, stay as they are.
"""

from __future__ import annotations

from cnnpy.compiler.weights import fold_norms

__all__ = ["fuse", "pair_updates"]

RELU = 1  # enum cnn_activation
ADD, ADD_RELU = 0, 6  # enum cnn_operator


class Graph:
    """Lines with the positions of writers and readers of every buffer."""

    def __init__(self, lines, temporary, kept, dense, sizes):
        self.lines: list = list(lines)
        self.temporary, self.kept, self.dense, self.sizes, self._count = temporary, kept, dense, sizes, len(sizes)
        self._index()

    def new_buffer(self):
        """The number of a buffer that the recording does not have."""
        self._count += 1
        return self._count - 1

    def _index(self):
        self.readers: dict = {}
        self.writers: dict = {}
        for i, line in enumerate(self.lines):
            for buffer in line.reads:
                self.readers.setdefault(buffer, []).append(i)
            for buffer in line.writes:
                self.writers.setdefault(buffer, []).append(i)

    def maker(self, place, entry):
        """The position of the line that alone writes the whole buffer of `place`, if it is of that entry."""
        writers = self.writers.get(place[0], ())
        if len(writers) == 1 and place[1] == 0 and self.lines[writers[0]] is not None and self.lines[writers[0]].entry.name == entry:
            return writers[0]
        return None

    def inner(self, place):
        """Whether nobody outside the program sees the buffer, and it is read from its start."""
        return place[0] in self.temporary and place[0] not in self.kept and place[1] == 0

    def reads_of(self, place):
        return [i for i in self.readers.get(place[0], ()) if self.lines[i] is not None]

    def moved(self, line, i):
        """A line with new arrays stands at position i now."""
        for buffer in line.reads:
            self.readers.setdefault(buffer, []).append(i)
        for buffer in line.writes:
            self.writers[buffer] = [i]

    def compact(self):
        self.lines = [line for line in self.lines if line is not None]
        self._index()


def _activated(line):
    """Whether the line does more than a ReLU behind it could follow."""
    return line.number("operator") != ADD if line.entry.name == "binary" else line.number("activation")


def fuse_relu(g):
    """conv, batch norm or addition -> ReLU: the first writes what the second would. The ReLU's gradient looks at its result instead of its input."""
    for i, line in enumerate(g.lines):
        if line is None or line.entry.name != "relu_forward":
            continue
        x, y = line.arrays
        if not g.inner(x) or y[1]:
            continue
        others = [g.lines[j] for j in g.reads_of(x) if j != i]
        if not all(o.entry.name == "relu_backward" and o.array("x") == x and o.array("dy")[0] != x[0] for o in others):
            continue
        for entry in ("conv_forward", "channel_norm_forward", "binary"):
            at = g.maker(x, entry)
            if at is not None and not _activated(g.lines[at]):
                maker = g.lines[at]
                if entry == "binary":
                    maker.problem["operator"] = ADD_RELU
                else:
                    maker.problem["activation"] = RELU
                maker.set_array("y", y)
                for other in others:
                    other.set_array("x", y)
                g.lines[i] = None
                g.writers[y[0]] = [at]
                break
    g.compact()


def _plain_sum(line):
    return (
        line is not None
        and line.entry.name == "binary"
        and line.number("operator") == ADD
        and line.number("a") == line.number("b") == line.number("y")
    )


def fuse_residual(g):
    """batch norm -> addition (-> ReLU): one pass at the place of the addition."""
    for i, line in enumerate(g.lines):
        if not _plain_sum(line) or None in line.arrays or line.arrays[2][1]:
            continue
        made = [(g.maker(place, "channel_norm_forward"), k) for k, place in enumerate(line.arrays[:2])]
        made = [
            (at, k)
            for at, k in made
            if at is not None and g.inner(line.arrays[k]) and g.reads_of(line.arrays[k]) == [i]
            and not g.lines[at].number("activation") and g.lines[at].array("residual") is None
        ]  # fmt: skip
        if not made:
            continue
        at, k = max(made)
        norm = g.lines[at]
        norm.set_array("residual", line.arrays[1 - k])
        norm.set_array("y", line.arrays[2])
        g.lines[i], g.lines[at] = norm, None
        g.moved(norm, i)
    g.compact()


def fuse_norm_gradient(g):
    """ReLU's gradient -> batch norm's: the sums and the gradient look at the ReLU themselves; what goes on to the residual is a by-product."""
    forwards = {(line.array("x"), line.array("mean")): line for line in g.lines if line.entry.name == "channel_norm_forward"}
    for i, line in enumerate(g.lines):
        if line is None or line.entry.name != "relu_backward":
            continue
        dy, y, left = line.arrays
        if not g.inner(left):
            continue
        readers = g.reads_of(left)
        for at in readers:
            norm = g.lines[at]
            if norm.entry.name != "channel_norm_backward" or norm.array("dy") != left or norm.number("activation"):
                continue
            forward = forwards.get((norm.array("x"), norm.array("mean")))
            if (
                forward is None
                or forward.array("y") != y
                or not forward.number("activation")
                or norm.array("bias") != forward.array("bias")
            ):
                continue
            if norm.number("channels_last") != forward.number("channels_last") or any(j < at for j in readers):
                continue
            if forward.array("residual") is None:
                if readers != [at]:
                    continue
            else:
                norm.set_array("result", y)
                if readers != [at]:
                    norm.set_array("dresidual", left)
                    g.writers[left[0]] = [at]
            norm.problem["activation"] = RELU
            norm.set_array("dy", dy)
            g.lines[i] = None
            break
    g.compact()


def fuse_sum(g):
    """conv (or an input gradient) -> addition (-> ReLU): the convolution adds to the other operand, in whose memory the sum then lies."""
    for i, line in enumerate(g.lines):
        if line is None or line.entry.name != "binary" or None in line.arrays or line.arrays[2][1]:
            continue
        operator = line.number("operator")
        if operator not in (ADD, ADD_RELU) or not line.number("a") == line.number("b") == line.number("y"):
            continue
        made = []
        for k, (own, other) in enumerate((line.arrays[:2], line.arrays[1::-1])):
            for entry, result, trait in (("conv_forward", "y", 1), ("conv_backward_input", "dx", 2)):
                at = g.maker(own, entry)
                if at is None or (operator == ADD_RELU and entry != "conv_forward"):
                    continue
                conv = g.lines[at]
                if (
                    conv.number("activation")
                    or conv.onto is not None
                    or conv.dtype != line.dtype
                    or not g.inner(own)
                    or g.reads_of(own) != [i]
                ):
                    continue
                if (
                    not g.inner(other)
                    or other[0] in (own[0], *conv.reads)
                    or max(g.reads_of(other)) != i
                    or len(g.writers.get(other[0], ())) != 1
                ):
                    continue
                if (
                    len({g.sizes[b] for b in (own[0], other[0], line.arrays[2][0])}) == 1
                    and conv.array(result)[1] == 0
                    and conv.traits()[trait]
                ):
                    made.append((at, k, result))
        if not made:
            continue
        at, k, result = max(made)
        conv = g.lines[at]
        conv.problem["accumulate"] = 1
        if operator == ADD_RELU:
            conv.problem["activation"] = RELU
        conv.onto = line.arrays[1 - k]
        conv.set_array(result, line.arrays[2])
        g.lines[i], g.lines[at] = conv, None
        g.moved(conv, i)
    g.compact()


def pair_updates(lines, tail):
    """Finds weight gradients that nobody but an update in the `tail` reads and that can run together with it, one pass over the weights instead of
    two; such a line knows its ``update`` then. Returns (the other lines, these): they can wait for the tail."""
    made: dict = {}
    for i, line in enumerate(lines):
        for buffer in line.writes:
            made.setdefault(buffer, []).append(i)
    read = {b for line in lines for b in line.reads}
    overwritten = {line.onto[0] for line in lines if line.onto is not None}
    waiting = []
    for update in tail:
        place = update.arrays[0]
        at = made.get(place[0], ())
        if not update.entry.name.endswith("_update") or update.entry.problem != "cnn_update" or len(at) != 1:
            continue
        line = lines[at[0]]
        if (
            line.entry.name == "conv_backward_weight"
            and line.array("dw") == place
            and line.dtype == update.dtype
            and update.number("size") == line.number("c") * line.number("k")
            and line.traits()[3]
            and not read.intersection(line.writes)
            and not overwritten.intersection(line.reads)
            and all(j < at[0] for b in line.reads for j in made.get(b, ()))
            and sum(other.arrays[0][0] == place[0] for other in tail) == 1
        ):
            line.update, update.gradient = update, line
            waiting.append(at[0])
    return [line for i, line in enumerate(lines) if i not in waiting], [lines[i] for i in sorted(waiting)]


def fuse(lines, temporary, kept, dense, sizes):
    """(lines after every rewrite, folds): `kept` are buffers that must hold what they held, `dense` those of the model in C order; `sizes`: bytes of all."""
    graph = Graph(lines, temporary, kept, dense, sizes)
    folds = fold_norms(graph)
    for rewrite in (fuse_residual, fuse_relu, fuse_norm_gradient, fuse_sum):
        rewrite(graph)
    return graph.lines, folds
