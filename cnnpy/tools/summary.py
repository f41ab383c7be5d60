"""What a model consists of."""

import math

import numpy as np

from cnnpy.autograd import no_grad

__all__ = ["Summary", "summary"]


class Summary:
    """Rows of (name, layer, output shape, parameters, multiply-adds, bytes of the output), one a layer; prints as a table.

    Attributes
    ----------
    rows : list of tuple
    parameters, macs : int
        Totals; multiply-adds of convolutions and dense layers for one sample.
    activations : int
        Bytes of all layer outputs for one sample.
    """

    heads = ("name", "layer", "output", "parameters", "multiply-adds", "output KiB")

    def __init__(self, rows, parameters, activations):
        self.rows, self.parameters, self.activations = rows, parameters, activations
        self.macs = sum(r[4] for r in rows)

    def _cells(self):
        total = ("total", "", (), self.parameters, self.macs, self.activations)
        return [(n, t, "x".join(map(str, s)), f"{p:,}", f"{m:,}", f"{b / 1024:,.1f}") for n, t, s, p, m, b in [*self.rows, total]]

    def text(self, bold=False):
        """The table as text; bold: head and total stand out in a terminal."""
        table = [self.heads, *self._cells()]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))) for row in table]
        rule, strong = "-" * len(lines[0]), "\x1b[1m{}\x1b[0m" if bold else "{}"
        return "\n".join([strong.format(lines[0]), rule, *lines[1:-1], rule, strong.format(lines[-1])])

    __str__ = __repr__ = text

    def _repr_html_(self):
        rows = "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in row)}</tr>" for row in self._cells())
        return f"<table><tr>{''.join(f'<th>{h}</th>' for h in self.heads)}</tr>{rows}</table>"


def _macs(module, shape):
    weight = module._parameters.get("weight")
    if weight is None or weight.ndim < 2:
        return 0
    return weight.size * (math.prod(shape[2:]) if weight.ndim > 2 else math.prod(shape[1:-1]))


def summary(model, input_shape):
    """Shapes, parameters and multiply-adds of every layer, found by running one zero sample through the model.

    Parameters
    ----------
    model : cnnpy.nn.Module
    input_shape : tuple of int
        Of one sample, without the batch axis: (C, H, W).

    Returns
    -------
    Summary
    """
    rows, removers, total = [], [], 0

    def watch(name, module):
        def hook(module, args, result):
            nonlocal total
            shape = tuple(result[0].shape if isinstance(result, tuple) else result.shape)
            own = sum(p.size for p in module._parameters.values())
            first = result[0] if isinstance(result, tuple) else result
            size = math.prod(shape) * first.dtype.itemsize
            total += size
            rows.append((name, type(module).__name__, shape[1:], own, _macs(module, shape), size))

        removers.append(module.register_forward_hook(hook))

    for name, module in model.named_modules():
        if not module._modules:
            watch(name or type(model).__name__, module)
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
        with no_grad():
            model(np.zeros((1, *input_shape), dtype))
    finally:
        for remove in removers:
            remove()
        for module, training in modes:
            object.__setattr__(module, "training", training)
    return Summary(rows, sum(p.size for p in model.parameters()), total)
