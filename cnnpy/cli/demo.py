"""demo: a convolution, a pool and an LSTM step by step in the terminal."""

import time

import numpy as np

__all__ = ["demo"]


def _rich():
    try:
        import rich
    except ImportError:
        raise ImportError("demo: needs rich; install it with: pip install 'cnnpy[notebooks]'") from None
    return rich


def _grid(values, title, *, lit=(), chosen=None, filled=None, outside=None):
    """Numbers in rows and columns under a title: `lit` cells reversed, the `chosen` one bold in brackets, padding dim, cells not in `filled` as dots."""
    from rich.text import Text

    from cnnpy.tools.steps import number_text

    lit = set(map(tuple, lit))
    texts = [[number_text(v) for v in row] for row in values]
    width = max(2, max(len(t) for row in texts for t in row))
    text = Text(no_wrap=True)
    text.append(f"{title}\n", "bold")
    for r, row in enumerate(texts):
        for c, cell in enumerate(row):
            shown = "·" if filled is not None and (r, c) not in filled else cell
            mark = (r, c) == chosen
            style = "reverse" if (r, c) in lit else "dim" if outside is not None and outside(r, c) else ""
            text.append(f"{'[' if mark else ' '}{shown:>{width}}{']' if mark else ' '}", "bold" if mark and (r, c) not in lit else style)
        text.append("\n")
    return text


def _side_by_side(*parts):
    from rich.table import Table

    table = Table.grid(padding=(0, 4))
    table.add_row(*parts)
    return table


def _conv_frames(args):
    from cnnpy.tools.steps import equation, slide_steps

    kind = args.kind or "forward"
    side = 5 if kind == "forward" else 3
    x, kernel = np.arange(1.0, side * side + 1).reshape(side, side), np.array([[1.0, 0, -1]] * 3)
    options = {"stride": args.stride or 1, "padding": args.padding or 0, "dilation": args.dilation or 1, "flip": args.flip}
    slide = slide_steps(x, kernel, **options, kind=kind, function="demo conv")
    (top, bottom), (left, right) = slide.before

    def outside(shape):
        return lambda r, c: not (top <= r < shape[0] - bottom and left <= c < shape[1] - right)

    done = set()
    for step in slide.steps:
        done.add(step["cell"])
        if slide.kind == "forward":
            first = _grid(slide.padded, "input", lit=step["window"], outside=outside(slide.padded.shape))
            last = _grid(slide.output, "output", filled=done, chosen=step["cell"])
        else:
            first = _grid(slide.padded, "input" if slide.kind == "transposed" else "gradient of the output", chosen=step["cell"])
            last = _grid(step["partial"], "added up", lit=step["window"], outside=outside(step["partial"].shape))
        yield slide.title, _side_by_side(first, _grid(slide.kernel, "kernel"), last), equation(slide.kind, step)


def _pool_frames(args):
    from cnnpy.tools.steps import number_text, pool_steps

    x = np.array([[1, 3, 2, 1, 0, 4], [4, 6, 5, 2, 7, 1], [3, 1, 1, 9, 8, 2], [2, 2, 4, 3, 0, 5]])
    size = args.size or 2
    pool = pool_steps(x, size, stride=args.stride, kind=args.kind or "max")
    done = set()
    for step in pool.steps:
        done.add(step["cell"])
        grids = _side_by_side(
            _grid(pool.x, "input", lit=step["window"], chosen=step.get("chosen")),
            _grid(pool.output, "output", filled=done, chosen=step["cell"]),
        )
        values = ", ".join(map(number_text, step["values"]))
        where = f", which stands at {step['chosen']}: the gradient goes there" if "chosen" in step else ""
        title = f"{'maximum' if pool.kind == 'max' else 'average'} pool, window {size}, stride {args.stride or size}"
        name = "max" if pool.kind == "max" else "mean"
        yield title, grids, f"output{step['cell']} = {name}({values}) = {number_text(step['total'])}{where}"


def _latch():
    """An LSTM of one unit, set by hand: it takes over the first input where the second is 1, and keeps it where that is 0."""
    from cnnpy import nn

    layer = nn.LSTM(2, 1, rng=0)
    rows = {"i": (0, 12, -6), "f": (0, -12, 6), "g": (2, 0, 0), "o": (0, 0, 6)}  # weights of value and flag, bias
    values = {
        "weight_ih_l0": [r[:2] for r in rows.values()],
        "weight_hh_l0": [[0]] * 4,
        "bias_ih_l0": [r[2] for r in rows.values()],
        "bias_hh_l0": [0] * 4,
    }
    layer.load_state_dict({name: np.array(v, np.float32) for name, v in values.items()})
    return layer


def _bar(value, width=20):
    """-1 ... 1 as a bar from the middle."""
    half = width // 2
    length = min(half, round(abs(value) * half))
    return (
        (" " * (half - length) + "█" * length + "│" + " " * half)
        if value < 0
        else (" " * half + "│" + "█" * length + " " * (half - length))
    )


def _lstm_frames(args):
    from rich.table import Table

    from cnnpy.tools.steps import lstm_steps

    x = np.array([[0.3, 0], [0.8, 1], [-0.5, 0], [0.1, 0], [0.9, 0], [-0.6, 1], [0.7, 0], [0.2, 0], [-0.9, 0], [0.4, 1], [-0.3, 0]])
    steps = lstm_steps(_latch(), x)
    title = "LSTM: i, f, o = sigmoid(W x + U h + b), g = tanh(...), c = f c + i g, h = o tanh(c)"
    for t, (value, flag) in enumerate(x):
        table = Table(
            box=None, pad_edge=False, title=f"time step {t + 1} of {len(x)}: value {value:+.1f}, write {flag:.0f}", title_justify="left"
        )
        for head in ("", "-1        0        1", "", "so far"):
            table.add_column(head, no_wrap=True)
        marks = " ▁▂▃▄▅▆▇█"
        for name, series in zip(steps.names, steps, strict=True):
            seen = series[: t + 1, 0]
            trace = "".join(marks[round((v + 1) / 2 * 8)] for v in np.clip(seen, -1, 1))
            table.add_row(name, _bar(seen[-1]), f"{seen[-1]:+.3f}", trace)
        c, before = steps.c[t, 0], steps.c[t - 1, 0] if t else 0.0
        sentence = f"c = {steps.f[t, 0]:.3f} · {before:+.3f} + {steps.i[t, 0]:.3f} · {steps.g[t, 0]:+.3f} = {c:+.3f}: "
        yield title, table, sentence + ("the input gate opens, the value is written" if flag else "the forget gate holds what was written")


_KINDS = {"conv": ("forward", "transposed", "backward"), "pool": ("max", "average"), "lstm": ()}
_OPTIONS = {
    "stride": ("conv", "pool"),
    "padding": ("conv",),
    "dilation": ("conv",),
    "flip": ("conv",),
    "size": ("pool",),
    "kind": ("conv", "pool"),
}
_FRAMES = {"conv": _conv_frames, "pool": _pool_frames, "lstm": _lstm_frames}


def demo(args):
    """Shows the frames of an operation, one in the place of the other; into a file or a pipe, one below the other."""
    _rich()
    for option, names in _OPTIONS.items():
        if getattr(args, option) and args.name not in names:
            raise ValueError(f"demo {args.name}: --{option} belongs to {' and '.join(names)}")
    kinds = _KINDS[args.name]
    if args.kind is not None and args.kind not in kinds:
        raise ValueError(f"demo {args.name}: --kind is {args.kind!r}, expected {' or '.join(map(repr, kinds))}")
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(width=None if args.width is None else args.width)
    frames = [Group(Text(title, style="bold"), "", body, Text(line), "") for title, body, line in _FRAMES[args.name](args)]
    if not console.is_terminal:
        for frame in frames:
            console.print(frame)
        return
    with Live(console=console, auto_refresh=False) as live:
        for frame in frames:
            live.update(frame, refresh=True)
            time.sleep(args.seconds)
