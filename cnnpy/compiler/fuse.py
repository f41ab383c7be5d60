"""Rewrites of a program's lines: what one kernel can do in one pass becomes one line."""

__all__ = ["fuse"]


def _readers(lines):
    readers: dict = {}
    for i, line in enumerate(lines):
        for buffer in line.reads:
            readers.setdefault(buffer, []).append(i)
    return readers


def _writers(lines):
    writers: dict = {}
    for i, line in enumerate(lines):
        for buffer in line.writes:
            writers.setdefault(buffer, []).append(i)
    return writers


def fuse_relu(lines, temporary, kept):
    """conv -> ReLU and batch norm -> ReLU: the first writes what the second would. The ReLU's gradient looks at its result instead of its input."""
    readers, writers = _readers(lines), _writers(lines)
    gone = set()
    for i, line in enumerate(lines):
        if line.entry.name != "relu_forward":
            continue
        x, y = line.arrays
        if x[0] not in temporary or x[0] in kept or x[1] or y[1] or len(writers.get(x[0], ())) != 1 or len(writers.get(y[0], ())) != 1:
            continue
        maker = lines[writers[x[0]][0]]
        if maker.entry.name not in ("conv_forward", "channel_norm_forward") or maker.array("y") != x or maker.number("activation"):
            continue
        others = [lines[j] for j in readers[x[0]] if j != i]
        if not all(o.entry.name == "relu_backward" and o.array("x") == x and o.array("dy")[0] != x[0] for o in others):
            continue
        maker.problem["activation"] = 1
        maker.set_array("y", y)
        for other in others:
            other.set_array("x", y)
        gone.add(i)
    return [line for i, line in enumerate(lines) if i not in gone]


def fuse(lines, temporary, kept):
    """The lines after every rewrite; `kept` are buffers that must hold what they held."""
    return fuse_relu(lines, temporary, kept)
