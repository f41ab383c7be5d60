"""Weights from a file into a model that may have another head."""

import warnings

from cnnpy import io

__all__ = ["load_weights"]


def load_weights(model, path):
    """Copies the tensors of a ``.safetensors`` file, or of a ``.pth`` one with torchvision's names, into a model by name.

    Tensors of another shape, as those of a head for other classes, are left out and named in a warning; a file that fits nowhere is refused.

    Returns
    -------
    list of str
        The names left out.
    """
    found = io.load_pth(path) if str(path).endswith((".pth", ".pt")) else io.load(path)
    own = model.state_dict()
    fitting = {n: a for n, a in found.items() if n in own and a.shape == own[n].shape}
    if not fitting:
        raise ValueError(f"load_weights: no tensor of {path} has a name and shape of this model, which begins with {next(iter(own))}")
    model.load_state_dict(fitting, strict=False)
    left_out = sorted((set(own) | set(found)) - set(fitting))
    if left_out:
        warnings.warn(f"load_weights: {path} does not set {', '.join(left_out)}", stacklevel=3)
    return left_out
