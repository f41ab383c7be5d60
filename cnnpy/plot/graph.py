"""A compiled program as a picture: forward down the left side, backward up the right one."""

from cnnpy.plot._axes import BLUE, GREY, ORANGE, axes

__all__ = ["computation"]


def _program(source):
    program = getattr(source, "program", source)
    if program is None or not hasattr(program, "lines") or not hasattr(program, "sizes"):
        what = "has no program yet: call it first" if program is None else f"is {type(source).__name__}"
        raise TypeError(f"plot.computation: source {what}, expected a compiled model or step, or its program")
    return program


def _turn(lines):
    """The first line of the backward pass: the first that fills the gradient of the loss or computes one."""
    for i, line in enumerate(lines):
        if line.entry.name == "fill" and i and "backward" in (lines[i + 1].entry.name if i + 1 < len(lines) else ""):
            return i
    return next((i for i, line in enumerate(lines) if line.entry.name.endswith("_backward")), len(lines))


def computation(source, *, most=60, ax=None):
    """The lines of a compiled program as boxes and what flows between them as arrows.

    Parameters
    ----------
    source : CompiledModel, CompiledStep or Program
    most : int
        Lines that are drawn; of a longer program its beginning and end.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    program = _program(source)
    lines = [line for line in program.lines if not line.entry.name.endswith("_update")]
    updates = len(program.lines) - len(lines)
    turn = _turn(lines)
    order = list(range(len(lines)))
    if len(order) > most:
        half = most // 2
        keep = set(range(half)) | set(range(len(order) - half, len(order)))
        order = [i for i in order if i in keep]
    left = [i for i in order if i < turn]
    right = [i for i in order if i >= turn]
    height = max(len(left), len(right), 1)
    ax = axes("computation", ax, (7.5 if right else 4.5, 1.0 + 0.42 * height))
    from matplotlib.patches import FancyBboxPatch

    place = {i: (0.0, -float(k)) for k, i in enumerate(left)}
    place |= {i: (1.55, -float(height - 1 - k)) for k, i in enumerate(right)}
    known = program.known
    writers: dict = {}
    for i, line in enumerate(lines):
        here = place.get(i)
        for buffer in line.reads:
            maker = writers.get(buffer)
            if maker in place and here is not None:
                a, b = place[maker], here
                across = a[0] != b[0]
                straight = not across and abs(a[1] - b[1]) == 1
                style = {"arrowstyle": "-|>", "color": GREY if straight or across else "#c4c8cf", "lw": 0.9, "shrinkA": 9, "shrinkB": 9}
                bend = 0 if straight or across else -0.35
                ax.annotate(
                    "", b, a, arrowprops={**style, "connectionstyle": f"arc3,rad={bend}", "linestyle": ":" if across else "-"}, zorder=1
                )
        for buffer in line.writes:
            if buffer >= known:
                writers[buffer] = i
    for i, (x, y) in place.items():
        line = lines[i]
        colour = ORANGE if i >= turn else BLUE
        ax.add_patch(
            FancyBboxPatch(
                (x - 0.55, y - 0.3), 1.1, 0.6, boxstyle="round,pad=0.02", facecolor="white", edgecolor=colour, linewidth=1.4, zorder=2
            )
        )
        size = max((program.sizes.get(b, 0) for b in line.writes), default=0)
        text = line.entry.name.replace("_forward", "").replace("_backward", " '")
        ax.text(x, y + 0.08, text, ha="center", va="center", fontsize=8, zorder=3)
        ax.text(
            x,
            y - 0.17,
            f"{size / 1024:.0f} KiB" if size >= 1024 else f"{size} B",
            ha="center",
            va="center",
            fontsize=6.5,
            color=GREY,
            zorder=3,
        )
    ax.set_xlim(-0.8, 2.35 if right else 0.8)
    ax.set_ylim(-height + 0.3, 1.0)
    ax.text(0.0, 0.75, "forward", ha="center", fontsize=9, color=BLUE)
    if right:
        ax.text(1.55, 0.75, "backward (from below)", ha="center", fontsize=9, color=ORANGE)
    if updates:
        ax.set_title(f"then {updates} updates of the model's state", fontsize=9, color=GREY, y=-0.02, va="top")
    ax.axis("off")
    return ax
