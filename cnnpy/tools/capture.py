"""What happens inside a network: results of layers and their gradients."""

import contextlib

from cnnpy.autograd import Tensor

__all__ = ["Captured", "capture"]


class Captured:
    """What one layer gave in its last call.

    Attributes
    ----------
    output : ndarray
    gradient : ndarray or None
        Of what ``backward`` was called on with respect to ``output``; None before.
    """

    def __init__(self, tensor):
        self._tensor = tensor
        self.output = tensor._data

    @property
    def gradient(self):
        return self._tensor.grad

    def __repr__(self):
        return f"Captured(output {self.output.shape}, gradient {'kept' if self.gradient is not None else 'none'})"


@contextlib.contextmanager
def capture(model, layers=None):
    """Keeps the results of layers while a network runs, and their gradients when ``backward`` goes through them.

    Parameters
    ----------
    model : cnnpy.nn.Module
    layers : sequence of str, optional
        Names as in ``model.named_modules()``; by default every layer without layers inside.

    Yields
    ------
    dict of str to Captured
        Filled as layers are called; a layer that is called again replaces its entry.

    Raises
    ------
    ValueError
        A name that is no layer's.

    Examples
    --------
    >>> import numpy as np
    >>> from cnnpy import models, tools
    >>> model = models.lenet5(rng=0)
    >>> with tools.capture(model, ["0"]) as seen:
    ...     model(np.ones((1, 1, 28, 28))).sum().backward()
    >>> seen["0"].output.shape == seen["0"].gradient.shape
    True
    """
    modules = dict(model.named_modules())
    names = [n for n, m in modules.items() if not m._modules] if layers is None else list(layers)
    unknown = [n for n in names if n not in modules]
    if unknown:
        raise ValueError(f"capture: layers holds {unknown[0]!r}, expected names like {', '.join(list(modules)[1:4])}")
    seen: dict = {}

    def watch(name):
        def hook(module, args, result):
            first = result[0] if isinstance(result, tuple) else result
            if isinstance(first, Tensor):
                if first.requires_grad:
                    first.retain_grad()
                seen[name] = Captured(first)

        return hook

    removers = [modules[n].register_forward_hook(watch(n)) for n in names]
    try:
        yield seen
    finally:
        for remove in removers:
            remove()
