"""Which pixels a network's answer depends on: gradients, and class activation maps."""

import numpy as np

from cnnpy import functional as F
from cnnpy.autograd import Tensor
from cnnpy.tools.capture import capture

__all__ = ["grad_cam", "saliency"]


def _score(function, model, x, target):
    """The image as a Tensor, and the score of the target class, the highest by default; the model in evaluation mode."""
    x = np.asarray(x)
    if x.ndim == 3:
        x = x[None]
    if x.ndim != 4 or len(x) != 1:
        raise ValueError(f"{function}: x has shape {x.shape}, expected one image (C, H, W) or (1, C, H, W)")
    image = Tensor(x, True)
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        scores = model(image)
    finally:
        for module, training in modes:
            object.__setattr__(module, "training", training)
    if scores.shape[:1] != (1,) or len(scores.shape) != 2:
        raise ValueError(f"{function}: the model's result has shape {scores.shape}, expected (1, classes)")
    if target is None:
        target = int(np.argmax(scores._data[0]))
    if isinstance(target, bool) or not isinstance(target, (int, np.integer)) or not 0 <= target < scores.shape[1]:
        raise ValueError(f"{function}: target is {target!r}, expected a class from 0 to {scores.shape[1] - 1}")
    return image, scores[0, int(target)]


def saliency(model, x, target=None):
    """How much each pixel moves a class's score: the largest absolute gradient over the channels.

    Parameters
    ----------
    model : cnnpy.nn.Module
        Gives (1, classes) for one image; in evaluation mode meanwhile.
    x : array_like, shape (C, H, W) or (1, C, H, W)
    target : int, optional
        The class; the one with the highest score by default.

    Returns
    -------
    ndarray, shape (H, W)

    References
    ----------
    K. Simonyan, A. Vedaldi, A. Zisserman, Deep inside convolutional networks, 2014.
    """
    kept = [(p, p.grad) for p in model.parameters()]
    image, score = _score("saliency", model, x, target)
    score.backward()
    for parameter, gradient in kept:
        parameter.grad = gradient
    return np.abs(image.grad[0]).max(axis=0)


def grad_cam(model, x, layer, target=None):
    """Where a layer saw what speaks for a class: its maps, weighted by the mean of their gradients, positive parts, at the size of the image.

    Parameters
    ----------
    model : cnnpy.nn.Module
        Gives (1, classes) for one image; in evaluation mode meanwhile.
    x : array_like, shape (C, H, W) or (1, C, H, W)
    layer : str
        A convolution or what follows one, by its name in ``model.named_modules()``.
    target : int, optional
        The class; the one with the highest score by default.

    Returns
    -------
    ndarray, shape (H, W)
        From 0 to 1, or all 0 where nothing speaks for the class.

    Notes
    -----
    ``relu(sum_k a_k A_k)`` with ``a_k`` the mean over pixels of ``d score / d A_k``, resized bilinearly.

    References
    ----------
    R. Selvaraju et al., Grad-CAM: visual explanations from deep networks via gradient-based localization, 2017.
    """
    kept = [(p, p.grad) for p in model.parameters()]
    with capture(model, [layer]) as seen:
        _, score = _score("grad_cam", model, x, target)
        score.backward()
    for parameter, gradient in kept:
        parameter.grad = gradient
    maps, gradient = seen[layer].output, seen[layer].gradient
    if maps.ndim != 4:
        raise ValueError(f"grad_cam: layer {layer!r} gives shape {maps.shape}, expected maps (1, K, H, W)")
    heat = np.maximum((gradient.mean(axis=(2, 3), keepdims=True) * maps).sum(axis=1, keepdims=True), 0)
    heat = F.interpolate(np.ascontiguousarray(heat), size=np.shape(x)[-2:], mode="bilinear")[0, 0]
    return heat / heat.max() if heat.max() > 0 else heat
