"""kernel_slide: a convolution step by step, as an animation."""

from __future__ import annotations

import html
import re
from pathlib import Path

from cnnpy.plot._axes import BLUE, GREY, ORANGE, matplotlib
from cnnpy.tools.steps import equation, number_text, slide_steps

__all__ = ["Slide", "kernel_slide"]

_BUTTONS = {
    "minus": "&minus;", "fast-backward": "|&laquo;", "step-backward": "|&lt;", "play fa-flip-horizontal": "&#9664;", "pause": "||", "play": "&#9654;",
    "step-forward": "&gt;|", "fast-forward": "&raquo;|", "plus": "+",
}  # fmt: skip


class Slide:
    """An animation of a window that moves over an input; made by :func:`kernel_slide`.

    Attributes
    ----------
    steps : list of dict
        What each frame shows: ``window`` (the cells of the padded input, or of the output that is written), ``products``, ``total``, ``cell``.
    output : ndarray
        The finished result.
    """

    def __init__(self, slide):
        self.kind, self.padded, self.kernel, self.steps, self.output = slide.kind, slide.padded, slide.kernel, slide.steps, slide.output
        self._before, self._title = slide.before, slide.title

    def __len__(self):
        return len(self.steps)

    def figure(self, step=None):
        """The frame of one step, the last by default, as a matplotlib Figure."""
        matplotlib("kernel_slide")
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.4, 4.0))
        self._draw(figure, len(self.steps) - 1 if step is None else step)
        return figure

    def _grid(self, ax, values, height, title, highlight=(), inner=None, filled=None, marked=None):
        """Cells with their numbers, in the middle of room for `height` rows; `highlight` in orange, cells outside `inner` (padding) in grey, those not in `filled` empty."""
        from matplotlib.patches import Rectangle

        rows, columns = values.shape
        ax.set_xlim(-0.55, columns - 0.45)
        spare = (height - rows) / 2
        ax.set_ylim(rows - 0.45 + spare, -0.55 - spare)
        ax.set_aspect("equal")
        ax.axis("off")
        ax.text((columns - 1) / 2, -0.75, title, ha="center", va="bottom", fontsize=10)
        size = max(5.0, min(11.0, 62.0 / max(rows, columns)))
        lit = set(map(tuple, highlight))
        for r in range(rows):
            for c in range(columns):
                padding = inner is not None and not (inner[0] <= r < inner[1] and inner[2] <= c < inner[3])
                face = "#fde3d3" if (r, c) in lit else "#eceef1" if padding else "white"
                hatch = "//" if (r, c) in lit else None  # readable without colours too
                ax.add_patch(
                    Rectangle(
                        (c - 0.5, r - 0.5), 1, 1, facecolor=face, edgecolor=GREY, linewidth=0.8, hatch=hatch, alpha=0.999 if hatch else 1
                    )
                )
                if filled is None or (r, c) in filled:
                    box = {"facecolor": face, "edgecolor": "none", "pad": 1} if hatch else None
                    bold = "bold" if (r, c) == marked else "normal"
                    ax.text(
                        c,
                        r,
                        number_text(values[r, c]),
                        ha="center",
                        va="center",
                        fontsize=size,
                        color="#8a8f98" if padding else "black",
                        fontweight=bold,
                        bbox=box,
                    )
        if marked is not None:
            ax.add_patch(Rectangle((marked[1] - 0.5, marked[0] - 0.5), 1, 1, fill=False, edgecolor=BLUE, linewidth=3))
        if lit:
            r0, r1 = min(r for r, _ in lit), max(r for r, _ in lit)
            c0, c1 = min(c for _, c in lit), max(c for _, c in lit)
            ax.add_patch(Rectangle((c0 - 0.5, r0 - 0.5), c1 - c0 + 1, r1 - r0 + 1, fill=False, edgecolor=ORANGE, linewidth=2.5))

    def _draw(self, figure, number):
        figure.clear()
        step = self.steps[number]
        last = self.output if self.kind == "forward" else step["partial"]
        tall = max(len(self.padded), len(self.kernel), len(last)) + 0.5
        left, middle, right = figure.subplots(1, 3, width_ratios=[a.shape[1] + 0.5 for a in (self.padded, self.kernel, last)])
        figure.subplots_adjust(left=0.02, right=0.98, top=0.86, bottom=0.2, wspace=0.12)
        figure.suptitle(self._title, fontsize=11)
        b, inner = self._before, None
        h, w = self.padded.shape
        if self.kind == "forward":
            inner = (b[0][0], h - b[0][1], b[1][0], w - b[1][1])
            self._grid(left, self.padded, tall, "input and padding" if any(map(any, b)) else "input", step["window"], inner)
            done = {s["cell"] for s in self.steps[: number + 1]}
            self._grid(right, self.output, tall, "output", filled=done, marked=step["cell"])
        else:
            sums = step["partial"]
            self._grid(left, self.padded, tall, "input" if self.kind == "transposed" else "gradient of the output", marked=step["cell"])
            hh, ww = sums.shape
            inner = (b[0][0], hh - b[0][1], b[1][0], ww - b[1][1])
            self._grid(
                right,
                sums,
                tall,
                "output, added up" if self.kind == "transposed" else "gradient of the input, added up",
                step["window"],
                inner,
            )
        self._grid(middle, self.kernel, tall, "kernel")
        line = equation(self.kind, step)
        figure.text(0.5, 0.07, line, ha="center", fontsize=9 if len(line) < 130 else 7.5)
        figure.text(0.98, 0.02, f"step {number + 1} of {len(self.steps)}", ha="right", fontsize=8, color=GREY)

    def animation(self, interval=700):
        """A matplotlib FuncAnimation; `interval` in milliseconds."""
        matplotlib("kernel_slide")
        from matplotlib.animation import FuncAnimation
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.4, 4.0))
        FigureCanvasAgg(figure)
        return FuncAnimation(figure, lambda i: self._draw(figure, i), frames=len(self.steps), interval=interval, init_func=lambda: None)

    def to_html(self, interval=700):
        """The animation as HTML with its player, nothing to download."""
        text = self.animation(interval).to_jshtml(fps=1000 / interval, default_mode="once")
        text = re.sub(r"<link[^>]*>", "", text)  # the player's symbols would come from another host
        return re.sub(r'<i class="fa fa-([a-z -]+?)"></i>', lambda m: _BUTTONS.get(m[1], m[1]), text)

    def _repr_html_(self):
        return self.to_html()

    def save(self, path, *, interval=700):
        """Writes the animation: ``.gif`` (needs pillow), ``.mp4`` (needs ffmpeg), ``.html``, or one picture of the last step, ``.png`` or ``.svg``."""
        path = Path(path)
        kind = path.suffix.lower()
        if kind == ".html":
            text = f'<!doctype html><meta charset="utf-8"><title>{html.escape(self._title)}</title>{self.to_html(interval)}'
            path.write_text(text, encoding="utf-8")
        elif kind == ".gif":
            try:
                import PIL  # noqa: F401
            except ImportError:
                raise ImportError("plot.kernel_slide: .gif needs pillow; install it with: pip install 'cnnpy[train]'") from None
            self.animation(interval).save(path, writer="pillow", fps=1000 / interval)
        elif kind == ".mp4":
            from matplotlib.animation import writers

            if not writers.is_available("ffmpeg"):
                raise RuntimeError("plot.kernel_slide: .mp4 needs the program ffmpeg, which is not there; save a .gif or .html instead")
            self.animation(interval).save(path, writer="ffmpeg", fps=1000 / interval)
        elif kind in (".png", ".svg"):
            self.figure().savefig(path, dpi=130)
        else:
            raise ValueError(f"plot.kernel_slide: path ends in {path.suffix!r}, expected .gif, .mp4, .html, .png or .svg")
        return path

    def __repr__(self):
        return f"Slide({self.kind}, {len(self.steps)} steps, output {self.output.shape})"


def kernel_slide(x, kernel, *, stride=1, padding=0, dilation=1, flip=False, kind="forward"):
    """A kernel that slides over an input: the window, the products, their sum, and the output that fills.

    Parameters
    ----------
    x, kernel, stride, padding, dilation, flip, kind
        As of :func:`cnnpy.tools.slide_steps`, whose steps are drawn.

    Returns
    -------
    Slide
        Shows itself in Jupyter; ``save(path)`` writes a GIF, MP4 or HTML file, ``figure(i)`` draws one step.

    Examples
    --------
    >>> import numpy as np
    >>> from cnnpy import plot
    >>> slide = plot.kernel_slide(np.arange(1.0, 26).reshape(5, 5), [[1, 0, -1]] * 3)
    >>> len(slide), slide.steps[0]["total"]
    (9, -6.0)
    """
    matplotlib("kernel_slide")
    return Slide(
        slide_steps(x, kernel, stride=stride, padding=padding, dilation=dilation, flip=flip, kind=kind, function="plot.kernel_slide")
    )
