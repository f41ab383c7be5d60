"""Sizes and receptive fields."""

import math

from cnnpy import nn

__all__ = ["ReceptiveField", "output_shape", "receptive_field"]


def output_shape(size, kernel_size, *, stride=1, padding=0, dilation=1, ceil_mode=False, transposed=False, output_padding=0):
    """Size of a convolution's or pool's result along one axis, or along several given as tuples.

    Parameters
    ----------
    size, kernel_size, stride, dilation, output_padding : int or tuple of int
    padding : int, tuple of int or of pairs, 'valid', 'same' or 'full'
    ceil_mode : bool
        Of a pool: count windows that hang over the end.
    transposed : bool
        Of a transposed convolution.

    Returns
    -------
    int or tuple of int

    Notes
    -----
    ``floor((size + before + after - (kernel_size - 1) * dilation - 1) / stride) + 1``; transposed:
    ``(size - 1) * stride - before - after + (kernel_size - 1) * dilation + 1 + output_padding``.

    Examples
    --------
    >>> from cnnpy.tools import output_shape
    >>> output_shape(224, 7, stride=2, padding=3)
    112
    >>> output_shape((5, 6), 3, padding='same', stride=2)
    (3, 3)
    """
    axes = len(size) if isinstance(size, tuple) else 1

    def spread(name, value):
        values = value if isinstance(value, tuple) else (value,) * axes
        if len(values) != axes:
            raise ValueError(f"output_shape: {name} is {value!r}, expected one value or {axes}, one an axis")
        return values

    pads = padding if isinstance(padding, tuple) and axes > 1 else (padding,) * axes
    results = []
    for m, r, s, d, p, extra in zip(
        spread("size", size),
        spread("kernel_size", kernel_size),
        spread("stride", stride),
        spread("dilation", dilation),
        pads,
        spread("output_padding", output_padding),
        strict=True,
    ):
        for name, value, low in (("size", m, 0), ("kernel_size", r, 1), ("stride", s, 1), ("dilation", d, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ValueError(f"output_shape: {name} is {value!r}, expected an integer of at least {low}")
        results.append(_one(m, r, s, d, p, ceil_mode, transposed, extra))
    return tuple(results) if isinstance(size, tuple) else results[0]


def _one(m, r, s, d, padding, ceil_mode, transposed, extra):
    extent = (r - 1) * d + 1
    if padding == "same":
        return -(-m // s)
    if isinstance(padding, str):
        if padding not in ("valid", "full"):
            raise ValueError(f"output_shape: padding is {padding!r}, expected 'valid', 'same', 'full' or amounts")
        padding = extent - 1 if padding == "full" else 0
    before, after = padding if isinstance(padding, tuple) else (padding, padding)
    if transposed:
        return (m - 1) * s - before - after + extent + extra
    room = m + before + after - extent
    if room < 0:
        raise ValueError(f"output_shape: input {m} + padding ({before}, {after}) is smaller than the kernel's extent {extent}")
    if not ceil_mode:
        return room // s + 1
    count = -(-room // s) + 1
    return count - 1 if (count - 1) * s >= m + before else count


class ReceptiveField:
    """What one cell of a network's last map sees of its input, along each spatial axis.

    Attributes
    ----------
    size : tuple of int
        Input cells seen.
    stride : tuple of float
        Input cells from one output cell to the next.
    start : tuple of float
        Input position at the centre of output cell 0.
    rows : list of (name, layer, size, stride, start)
    """

    def __init__(self, rows, state):
        self.rows = rows
        self.size = tuple(math.floor(r) for r, _, _ in state)
        self.stride = tuple(j for _, j, _ in state)
        self.start = tuple(s for _, _, s in state)

    def __repr__(self):
        table = [("name", "layer", "field", "stride", "start")]
        for name, layer, state in self.rows:
            table.append((name, layer, *("x".join(f"{v[i]:g}" for v in state) for i in range(3))))
        widths = [max(len(r[i]) for r in table) for i in range(5)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in table)


def _geometry(layer, rank):
    """(kernel, stride, dilation, padding before, transposed) an axis of a layer with windows; None for others."""

    def spread(value):
        return tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank

    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        kernel, stride, dilation, padding = layer.kernel_size, layer.stride, layer.dilation, layer.padding
        transposed = False
    elif isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        kernel, transposed = layer.kernel_size, True
        stride, dilation, padding = (layer.options[k] for k in ("stride", "dilation", "padding"))
    elif isinstance(layer, nn.Subsample):  # windows of one cell
        kernel, stride, dilation, padding, transposed = 1, layer.stride, 1, 0, False
    elif hasattr(layer, "kernel_size") and "Pool" in type(layer).__name__ and "Un" not in type(layer).__name__:
        kernel, transposed = layer.kernel_size, False
        stride = kernel if layer.options.get("stride") is None else layer.options["stride"]
        dilation, padding = layer.options.get("dilation", 1), layer.options.get("padding", 0)
    else:
        return None
    kernel, stride, dilation = spread(kernel), spread(stride), spread(dilation)
    extents = [(r - 1) * d + 1 for r, d in zip(kernel, dilation, strict=True)]
    if padding == "full":
        before = [e - 1 for e in extents]
    elif padding == "same":
        before = [max(e - s, 0) // 2 for e, s in zip(extents, stride, strict=True)]
    elif padding == "valid":
        before = [0] * rank
    else:
        before = [p[0] if isinstance(p, (tuple, list)) else p for p in spread(padding)]
    return list(zip(extents, stride, before, [transposed] * rank, strict=True))


def _step(state, geometry):
    result = []
    for (r, j, start), (extent, stride, before, transposed) in zip(state, geometry, strict=True):
        if transposed:
            j = j / stride
            result.append((r + (extent - 1) * j, j, start + (before - (extent - 1) / 2) * j))
        else:
            result.append((r + (extent - 1) * j, j * stride, start + ((extent - 1) / 2 - before) * j))
    return result


def receptive_field(model, input_shape):
    """The receptive field of a model's last map, layer by layer, up to the first layer that flattens or pools globally.

    Parameters
    ----------
    model : cnnpy.nn.Module
        A layer, or layers joined by Sequential, Residual and Concat, or a module whose ``structure()`` lists its parts in order, parallel
        ones in a tuple of lists; of parallel paths the one that sees most counts.
    input_shape : tuple of int
        (C, spatial) of one sample; tells the number of axes.

    Returns
    -------
    ReceptiveField

    Notes
    -----
    From r = 1, j = 1, start = 0, each layer: ``r += (E - 1) j; start += ((E - 1)/2 - before) j; j *= stride``, E the window's extent;
    transposed: first ``j /= stride``. Paths that meet must have the same stride; the path of the largest field gives size and start.

    References
    ----------
    A. Araujo, W. Norris, J. Sim, Computing receptive fields of convolutional neural networks, Distill, 2019.
    """
    rank = len(input_shape) - 1
    if rank not in (1, 2, 3):
        raise ValueError(f"receptive_field: input_shape is {input_shape}, expected (C, spatial) with one to three spatial axes")
    rows: list = []

    def join(layer, name, ends):
        """Where paths meet: that of the largest field."""
        states = [end for end, _ in ends]
        if any(a[1] != b[1] for s in states for a, b in zip(s, states[0], strict=True)):
            raise ValueError(f"receptive_field: the paths of {name or type(layer).__name__} have different strides, expected the same")
        joined = [max(axis, key=lambda a: a[0]) for axis in zip(*states, strict=True)]
        rows.append((name or type(layer).__name__, type(layer).__name__, joined))
        return joined, all(goes_on for _, goes_on in ends)

    def follow(layer, structure, name, state):
        """A module that says how its parts follow each other: names in order, and tuples of parallel lists."""
        for part in structure:
            if isinstance(part, tuple):
                state, goes_on = join(layer, name, [follow(layer, path, name, state) for path in part])
            else:
                state, goes_on = walk(getattr(layer, part), f"{name}.{part}" if name else part, state)
            if not goes_on:
                return state, False
        return state, True

    def walk(layer, name, state):
        """The state behind the layer, and whether the map went on."""
        if isinstance(layer, nn.Sequential):
            for child_name, child in layer.named_children():
                state, goes_on = walk(child, f"{name}.{child_name}" if name else child_name, state)
                if not goes_on:
                    return state, False
            return state, True
        if isinstance(layer, (nn.Residual, nn.Concat)):
            if isinstance(layer, nn.Residual):
                paths = [("body", layer.body), *([("shortcut", layer.shortcut)] if layer.shortcut is not None else [])]
            else:
                paths = list(layer.named_children())
            ends = [walk(child, f"{name}.{path}" if name else path, state) for path, child in paths]
            if isinstance(layer, nn.Residual) and layer.shortcut is None:
                ends.append((state, True))
            return join(layer, name, ends)
        if hasattr(layer, "structure"):
            return follow(layer, layer.structure(), name, state)
        if isinstance(layer, (nn.Flatten, nn.Linear, nn.GlobalAvgPool, nn.GlobalMaxPool)) or "Adaptive" in type(layer).__name__:
            return state, False
        geometry = _geometry(layer, rank)
        if geometry is not None:
            state = _step(state, geometry)
            rows.append((name or type(layer).__name__, type(layer).__name__, state))
        elif layer._modules:
            raise ValueError(
                f"receptive_field: {type(layer).__name__} has parts whose order is not known, expected layers, Sequential, Residual and Concat"
            )
        return state, True

    state, _ = walk(model, "", [(1, 1, 0.0)] * rank)
    return ReceptiveField(rows, state)
