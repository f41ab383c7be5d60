"""Looking into a network: maps of layers, pixels that matter, what a cell sees, how gradients flow."""

import numpy as np

from cnnpy import tools
from cnnpy.autograd import no_grad
from cnnpy.plot._axes import BLUE, GREY, ORANGE, axes
from cnnpy.plot.images import _colours, _tiles

__all__ = ["feature_maps", "grad_cam", "gradient_flow", "receptive_field", "saliency"]


def _picture(function, x):
    """One image as (H, W, 3) between 0 and 1."""
    x = np.asarray(x)
    if x.ndim == 4 and len(x) == 1:
        x = x[0]
    if x.ndim != 3 or not x.size:
        raise ValueError(f"plot.{function}: x has shape {x.shape}, expected one image (C, H, W) or (1, C, H, W)")
    picture = _colours(x[None])[0]
    low, high = (0.0, 255.0) if x.dtype == np.uint8 else (picture.min(), picture.max())
    return np.clip((picture - low) / max(high - low, 1e-12), 0, 1)


def feature_maps(model, x, layer, *, most=64, columns=8, ax=None):
    """The channels of a layer's result for one image, each scaled to its own range.

    Parameters
    ----------
    model : cnnpy.nn.Module
    x : array_like, shape (C, H, W) or (1, C, H, W)
    layer : str
        Its name in ``model.named_modules()``.
    most, columns : int
        How many channels are shown, and how many beside each other.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    image = np.asarray(x)
    _picture("feature_maps", image)
    image = image[None] if image.ndim == 3 else image
    with tools.capture(model, [layer]) as seen, no_grad():
        from cnnpy.autograd import Tensor

        model(Tensor(image))
    maps = seen[layer].output
    if maps.ndim != 4:
        raise ValueError(f"plot.feature_maps: layer {layer!r} gives shape {maps.shape}, expected maps (1, K, H, W)")
    maps = np.asarray(maps[0, :most], np.float64)[:, None]
    low, high = (v.reshape(-1, 1, 1, 1) for v in (maps.min(axis=(1, 2, 3)), maps.max(axis=(1, 2, 3))))
    shown = _colours((maps - low) / np.where(high > low, high - low, 1))
    ax = axes("feature_maps", ax, (6.0, 4.0))
    ax.imshow(_tiles(shown, min(columns, len(shown)), 1, 1), interpolation="nearest")
    ax.set_title(f"{layer}: {len(shown)} of {seen[layer].output.shape[1]} maps, {maps.shape[2]}x{maps.shape[3]}", fontsize=10)
    ax.axis("off")
    return ax


def _heat(function, heat, title, ax, label, picture=None):
    """A map of heat; over a grey picture with lines at a half and four fifths, so that print without colours tells one from the other."""
    ax = axes(function, ax, (4.5, 3.8))
    if picture is not None:
        ax.imshow(picture.mean(axis=2), cmap="gray", vmin=0, vmax=1)
    shown = ax.imshow(heat, cmap="inferno", alpha=1.0 if picture is None else 0.6, vmin=0)
    if picture is not None and min(heat.shape) > 1 and heat.max() > heat.min():
        for share, style in ((0.5, "--"), (0.8, "-")):
            ax.contour(heat, [share * heat.max()], colors="white", linewidths=1.2, linestyles=style)
        label += "; lines at 0.5 and 0.8"
    ax.figure.colorbar(shown, ax=ax, fraction=0.046, label=label)
    ax.set_title(title, fontsize=10)
    ax.axis("off")
    return ax


def saliency(model, x, target=None, *, ax=None):
    """The gradient of a class's score at each pixel: :func:`cnnpy.tools.saliency` as a picture.

    Parameters
    ----------
    model, x, target
        As of :func:`cnnpy.tools.saliency`.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    _picture("saliency", x)
    heat = tools.saliency(model, x, target)
    return _heat("saliency", heat, "what the score depends on", ax, "largest |gradient| of the channels")


def grad_cam(model, x, layer, target=None, *, ax=None):
    """A class activation map over the image: :func:`cnnpy.tools.grad_cam` as a picture.

    Parameters
    ----------
    model, x, layer, target
        As of :func:`cnnpy.tools.grad_cam`.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    picture = _picture("grad_cam", x)
    heat = tools.grad_cam(model, x, layer, target)
    return _heat("grad_cam", heat, f"what {layer} saw for the class", ax, "share of the largest", picture)


def receptive_field(model, x, cell=None, *, ax=None):
    """What one cell of a network's last map sees, as a frame on the image, and the centres of all cells.

    Parameters
    ----------
    model : cnnpy.nn.Module
        As :func:`cnnpy.tools.receptive_field` takes it.
    x : array_like, shape (C, H, W) or (1, C, H, W)
    cell : (int, int), optional
        Row and column of the map; the middle by default.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    picture = _picture("receptive_field", x)
    h, w = picture.shape[:2]
    field = tools.receptive_field(model, (np.shape(x)[-3], h, w))
    counts = [max(1, int((n - 1 - s) // j) + 1) for n, s, j in zip((h, w), field.start, field.stride, strict=True)]
    cell = tuple(c // 2 for c in counts) if cell is None else tuple(cell)
    if len(cell) != 2 or not all(0 <= c < n for c, n in zip(cell, counts, strict=True)):
        raise ValueError(
            f"plot.receptive_field: cell is {cell}, expected a row from 0 to {counts[0] - 1} and a column from 0 to {counts[1] - 1}"
        )
    ax = axes("receptive_field", ax, (4.2, 4.2))
    from matplotlib.patches import Rectangle

    ax.imshow(picture, interpolation="nearest")
    rows, columns = (s + j * np.arange(n) for s, j, n in zip(field.start, field.stride, counts, strict=True))
    if len(rows) * len(columns) <= 1024:
        ax.plot(*(a.ravel() for a in np.meshgrid(columns, rows)), ".", color=GREY, markersize=3, label="centres of the map's cells")
    y, x0 = rows[cell[0]], columns[cell[1]]
    r, c = field.size
    ax.add_patch(
        Rectangle((x0 - c / 2, y - r / 2), c, r, fill=False, edgecolor=ORANGE, linewidth=2.5, label=f"seen by cell {cell}: {r}x{c}")
    )
    ax.plot([x0], [y], "x", color=ORANGE, markersize=8)
    ax.set_xlim(min(-0.5, x0 - c / 2 - 1), max(w - 0.5, x0 + c / 2 + 1))
    ax.set_ylim(max(h - 0.5, y + r / 2 + 1), min(-0.5, y - r / 2 - 1))
    ax.set_xlabel("column")
    ax.set_ylabel("row")
    ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
    return ax


def gradient_flow(source, *, ax=None):
    """Norms of gradients: a bar a parameter after ``backward()``, or a curve over time steps.

    Parameters
    ----------
    source : cnnpy.nn.Module, dict of str to array, or array_like of one axis
        A module's ``.grad``; named gradients; or norms by distance, as :func:`cnnpy.tools.gradient_over_distance` gives them. A dict whose
        arrays all have one axis and the same length is drawn as curves.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    curves = None
    if hasattr(source, "named_parameters"):
        named = {n: p.grad for n, p in source.named_parameters() if p.grad is not None}
        if not named:
            raise ValueError("plot.gradient_flow: source has no gradients, expected a module after backward()")
    elif isinstance(source, dict):
        named = {str(k): np.asarray(v) for k, v in source.items()}
        if named and all(v.ndim == 1 and len(v) == len(next(iter(named.values()))) > 1 for v in named.values()):
            curves = named
    else:
        curves = {"": np.asarray(source)}
        if curves[""].ndim != 1 or not curves[""].size:
            raise ValueError(f"plot.gradient_flow: source has shape {curves[''].shape}, expected norms along one axis")
    ax = axes("gradient_flow", ax, (6.0, 3.6))
    ax.set_yscale("log")
    if curves is not None:
        styles = ["-", "--", ":", "-."]
        for i, (name, values) in enumerate(curves.items()):
            ax.plot(np.arange(len(values)), values, styles[i % 4], color=(BLUE, ORANGE, GREY)[i % 3], label=name)
        ax.set_xlabel("steps back")
        if any(curves):
            ax.legend(frameon=False)
    else:
        norms = [float(np.sqrt((np.asarray(g, np.float64) ** 2).sum())) for g in named.values()]
        ax.bar(range(len(norms)), norms, color=BLUE)
        ax.set_xticks(range(len(norms)), named, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
        ax.set_xlabel("parameter")
    ax.set_ylabel("norm of the gradient")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", alpha=0.3)
    return ax
