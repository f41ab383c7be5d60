"""A program as text: an operation, its sizes, its buffers, its floating-point operations a line; and as a table of times."""

import math

__all__ = ["bytes_moved", "describe", "flops"]

ALGORITHMS = ("auto", "direct", "winograd")


def flops(line):
    """Floating-point operations of a line, and of the update that runs together with it: two a multiply-add of the direct form, one a cell elsewhere."""
    return sum(map(_flops, _together(line)))


def _together(line):
    """What runs at the place of a line: itself, also an update with its gradient, which then has nothing left to do at its own."""
    if line.update is not None:
        return [line, line.update]
    return [] if line.gradient is not None else [line]


def _flops(line):
    kind, name = line.entry.problem, line.entry.name
    if kind == "cnn_conv":
        n, c, k, groups = (line.number(f) for f in ("n", "c", "k", "groups"))
        return 2 * n * k * (c // groups) * math.prod(line.number("window")) * math.prod(line.number("out"))
    if kind == "cnn_matmul":
        return 2 * math.prod(line.number(f) for f in ("batch", "m", "n", "k"))
    if kind == "cnn_recurrent":
        gates = (1, 1, 4, 3)[line.number("cell")]
        units, inputs = line.number("units"), line.number("inputs")
        forward = 2 * line.number("samples") * line.number("steps") * gates * units * (inputs + (line.number("projected") or units))
        return forward * (1 if name.endswith("forward") else 2)
    if kind == "cnn_pool":
        return line.number("n") * line.number("c") * math.prod(line.number("out")) * math.prod(line.number("window"))
    if kind in ("cnn_map", "cnn_update", "cnn_loss_map", "cnn_running", "cnn_convert"):
        return line.number("size")
    if kind in ("cnn_norm", "cnn_dropout"):
        return line.number("n") * line.number("c") * line.number("s")
    if kind in ("cnn_array", "cnn_binary"):
        return math.prod(line.number("shape")[: line.number("rank")])
    if kind == "cnn_cross_entropy":
        return line.number("rows") * line.number("classes") * line.number("inner")
    if kind == "cnn_reduce":
        return line.number("outer") * line.number("axis") * line.number("inner")
    return 0


def _sizes(line):
    kind = line.entry.problem
    if kind == "cnn_conv":
        image, out, window = (line.number(f) for f in ("in", "out", "window"))
        n, c, k = (line.number(f) for f in ("n", "c", "k"))
        if math.prod(window) == 1 and n == 1 and math.prod(image[:2]) == 1:
            return f"{image[2]}x{c} -> {image[2]}x{k}"
        cells = ["x".join(map(str, v[1:] if v[0] == 1 and window[0] == 1 else v)) for v in (image, out, window)]
        stride = max(line.number("stride"))
        return f"{n}x{c}@{cells[0]} -> {k}@{cells[1]} by {cells[2]}" + (f" stride {stride}" if stride > 1 else "")
    if kind == "cnn_matmul":
        return f"{line.number('batch')}x {line.number('m')}x{line.number('k')} by {line.number('k')}x{line.number('n')}"
    if kind == "cnn_pool":
        image, out = ("x".join(map(str, line.number(f)[1:])) for f in ("in", "out"))
        return f"{line.number('n')}x{line.number('c')}@{image} -> {out}"
    if kind in ("cnn_norm", "cnn_dropout"):
        return f"{line.number('n')}x{line.number('c')}x{line.number('s')}"
    if kind in ("cnn_array", "cnn_binary"):
        return "x".join(map(str, line.number("shape")[: line.number("rank")])) or "1"
    if kind == "cnn_cross_entropy":
        return f"{line.number('rows')}x{line.number('classes')}"
    if kind == "cnn_recurrent":
        return f"{line.number('samples')} samples, {line.number('steps')} steps, {line.number('inputs')} -> {line.number('units')}"
    if kind == "cnn_reduce":
        return f"{line.number('outer')}x{line.number('axis')}x{line.number('inner')}"
    if kind in ("cnn_map", "cnn_update", "cnn_loss_map", "cnn_running", "cnn_convert"):
        return str(line.number("size"))
    if kind == "cnn_lookup":
        return f"{line.number('count')} of {line.number('rows')}x{line.number('width')}"
    return ""


def _extras(line):
    parts = []
    if line.entry.problem == "cnn_conv" and line.number("algorithm"):
        parts.append(ALGORITHMS[line.number("algorithm")])
    if line.entry.problem in ("cnn_conv", "cnn_norm") and line.number("activation"):
        parts.append("+ ReLU")
    if line.update is not None:
        parts.append(f"+ {line.update.entry.name}")
    if line.gradient is not None:
        parts.append("with its gradient")
    if line.entry.name == "binary":
        parts.append(("add", "subtract", "multiply", "divide", "maximum", "sqrt", "add + ReLU")[line.number("operator")])
    return " ".join(parts)


def bytes_moved(line, sizes):
    """Bytes of all arrays of a line, and of the update that runs together with it, each once: the least that it must move."""
    return sum(sizes.get(b, 0) for b in dict.fromkeys(b for one in _together(line) for b in (*one.reads, *one.writes)))


def describe(line, names):
    """``y = operation(x, ...)  sizes  extras``."""
    entry = line.entry

    def text(places):
        return ", ".join(names(*place) for place in places if place is not None)

    made, given = text(line.arrays[entry.read :]), text(line.arrays[: entry.read])
    return f"{made} = {entry.name}({given})", f"{_sizes(line)} {_extras(line)}".strip()
