"""Checking worked examples."""

import itertools

import numpy as np

from cnnpy import functional as F

__all__ = ["ExampleReport", "check_example"]


class ExampleReport:
    """Whether a claimed result is right, and if not, what it is.

    Attributes
    ----------
    right : bool
        The claim is the plain result: cross-correlation, no padding, stride 1.
    explanation : str or None
        The reading under which the claim is right: convolution or cross-correlation, padding, stride.
    expected : ndarray
        The plain result.
    first_difference : tuple of int or None
        Position of the first wrong cell against the plain result, where the shapes agree.
    """

    def __init__(self, right, explanation, expected, claimed):
        self.right, self.explanation, self.expected = right, explanation, expected
        different = np.argwhere(~np.isclose(claimed, expected)) if claimed.shape == expected.shape else np.zeros((0, 0))
        self.first_difference = tuple(int(i) for i in different[0]) if len(different) else None
        self._claimed = claimed

    def __bool__(self):
        return self.right

    def __repr__(self):
        if self.right:
            return "right: cross-correlation without padding"
        if self.explanation:
            return f"right as {self.explanation}"
        if self._claimed.shape != self.expected.shape:
            return f"wrong: shape {self._claimed.shape}, expected {self.expected.shape}, and no padding, stride or flip explains it"
        at = self.first_difference
        return f"wrong: first at {at}: {self._claimed[at]:g}, expected {self.expected[at]:g}; no padding, stride or flip explains it"


def check_example(x, kernel, claimed, *, rtol=1e-6):
    """Checks a worked example of a convolution: is the claimed result right, and under which reading?

    Tried are cross-correlation and convolution, 'valid', 'same' and 'full' padding, an odd cell of 'same' before or after, zero and copying
    borders, and strides up to 3.

    Parameters
    ----------
    x : array_like, one or two axes
    kernel : array_like, as many axes
    claimed : array_like
        The result that the example prints.
    rtol : float
        Relative tolerance: printed results are rounded.

    Returns
    -------
    ExampleReport

    Examples
    --------
    >>> from cnnpy.tools import check_example
    >>> check_example([1, 2, 3], [0, 1, 5], [5, 11, 17, 3, 0])
    right as cross-correlation, padding 'full'
    """
    x, kernel, claimed = (np.asarray(a, np.float64) for a in (x, kernel, claimed))
    if x.ndim not in (1, 2) or kernel.ndim != x.ndim:
        raise ValueError(f"check_example: x has shape {x.shape} and kernel {kernel.shape}, expected both with one axis or both with two")
    if not x.size or not kernel.size:
        raise ValueError(f"check_example: x has shape {x.shape} and kernel {kernel.shape}, expected at least one cell")
    call = F.conv1d if x.ndim == 1 else F.conv2d

    def compute(**options):
        return call(x[None, None], kernel[None, None], **options)[0, 0]

    def agrees(result):
        return result.shape == claimed.shape and np.allclose(result, claimed, rtol=rtol, atol=1e-9)

    try:
        plain = compute()
    except ValueError:
        plain = np.zeros((0,) * x.ndim)
    if agrees(plain):
        return ExampleReport(True, None, plain, claimed)
    paddings: dict = {"'valid'": "valid", "'same'": "same", "'full'": "full"}
    totals = [k - 1 for k in kernel.shape]
    if any(t % 2 for t in totals):
        paddings["'same' with the odd cell before"] = tuple((t - t // 2, t // 2) for t in totals)
    modes = ("zeros", "reflect", "symmetric", "replicate", "circular")
    for stride, flip, (name, padding), mode in itertools.product((1, 2, 3), (False, True), paddings.items(), modes):
        try:
            result = compute(stride=stride, flip=flip, padding=padding, padding_mode=mode)
        except ValueError:
            continue
        if agrees(result):
            parts = ["convolution (kernel rotated)" if flip else "cross-correlation", f"padding {name}"]
            parts += [f"padding mode '{mode}'"] * (mode != "zeros" and padding != "valid") + [f"stride {stride}"] * (stride > 1)
            return ExampleReport(False, ", ".join(parts), plain, claimed)
    return ExampleReport(False, None, plain, claimed)
