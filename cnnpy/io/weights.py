"""Weights from files of any known form, put into a model by name."""

import warnings

from cnnpy.io.npz import load_npz, save_npz
from cnnpy.io.pth import load_pth
from cnnpy.io.tensors import load, save

__all__ = ["load_torchvision", "load_weights", "read_weights", "write_weights"]


def read_weights(path):
    """The tensors of a ``.safetensors``, ``.pth``, ``.pt``, ``.npz`` or ``.onnx`` file, by name; of a checkpoint the weights only.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    ValueError
        A damaged file; one sentence with the path.
    """
    name = str(path).lower()
    if name.endswith((".pth", ".pt")):
        return load_pth(path)
    if name.endswith(".npz"):
        return load_npz(path)
    if name.endswith(".onnx"):
        from cnnpy.io.onnx_import import import_onnx

        return import_onnx(path).state_dict()
    return {n: a for n, a in load(path).items() if not n.startswith("optimizer.")}


def write_weights(tensors, path):
    """Writes tensors by name as ``.npz``, or else as safetensors."""
    (save_npz if str(path).lower().endswith(".npz") else save)(tensors, path)


def load_weights(model, path):
    """Copies the tensors of a file into a model by name, leaving out what does not fit: a head for other classes stays as it is.

    Parameters
    ----------
    model : cnnpy.nn.Module
    path : path
        As for :func:`read_weights`.

    Returns
    -------
    list of str
        The names left out, which a warning lists too.

    Raises
    ------
    ValueError
        The file is damaged, or no tensor of it fits.
    """
    found, own = read_weights(path), model.state_dict()
    fitting = {n: a for n, a in found.items() if n in own and a.shape == own[n].shape}
    if not fitting:
        raise ValueError(f"load_weights: no tensor of {path} has a name and shape of this model, which begins with {next(iter(own))}")
    model.load_state_dict(fitting, strict=False)
    left_out = sorted((set(own) | set(found)) - set(fitting))
    if left_out:
        warnings.warn(f"load_weights: {path} does not set {', '.join(left_out)}", stacklevel=3)
    return left_out


def load_torchvision(model, path):
    """Copies a checkpoint of torchvision into the model of the same name: every tensor must be there; only a head for other classes is left out.

    Parameters
    ----------
    model : cnnpy.nn.Module
    path : path
        ``.pth`` as torchvision publishes it, or the same tensors in another form.

    Returns
    -------
    list of str
        The tensors of the head left out, which a warning lists too.

    Raises
    ------
    ValueError
        Tensors are missing, unexpected or, but for the last layer's, of another shape: all are listed and the model is unchanged.
    """
    found, own = read_weights(path), model.state_dict()
    counts = {n for n in own if n.endswith("num_batches_tracked")}  # older files lack them
    missing = [n for n in own if n not in found and n not in counts]
    unexpected = [n for n in found if n not in own]
    head = {n for n in list(own)[-2:] if n in found and found[n].shape != own[n].shape}
    misshapen = [
        f"{n} has shape {found[n].shape}, expected {own[n].shape}"
        for n in own
        if n in found and n not in head and found[n].shape != own[n].shape
    ]
    problems = [
        *misshapen,
        *[f"missing: {', '.join(missing)}"] * bool(missing),
        *[f"unexpected: {', '.join(unexpected)}"] * bool(unexpected),
    ]
    if problems:
        raise ValueError(f"load_torchvision: {path} does not fit: " + "; ".join(problems))
    model.load_state_dict({n: a for n, a in found.items() if n not in head}, strict=False)
    if head:
        warnings.warn(f"load_torchvision: {path} does not set {', '.join(sorted(head))}", stacklevel=2)
    return sorted(head)
