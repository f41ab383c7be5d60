"""Convolution."""

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import gradients, select
from cnnpy.functional.runtime import automatic

__all__ = ["conv1d", "conv1d_backward", "conv2d", "conv2d_backward", "conv3d", "conv3d_backward"]

_FORWARD = """Cross-correlation of images with filters, what networks call convolution; with ``flip=True`` the convolution of mathematics.

Parameters
----------
x : array_like, shape (N, C_in, {axes}) or, unbatched, (C_in, {axes})
weight : array_like, shape (C_out, C_in / groups, {window})
bias : array_like, shape (C_out,), optional
stride : int or {d} ints
    Input cells from one window to the next.
padding : int, {d} ints, {d} pairs (before, after), or 'valid', 'same', 'full'
    Cells added around the image. 'valid' adds none, 'same' makes ``out = ceil(in / stride)`` (an odd extra cell goes after),
    'full' adds the kernel's extent - 1 on both sides.
dilation : int or {d} ints
    Input cells from one tap of the kernel to the next.
groups : int
    Channels and filters are cut into this many groups that do not see each other; ``groups=C_in`` is depthwise.
padding_mode : {{'zeros', 'reflect', 'symmetric', 'replicate', 'circular'}}
    What added cells show: 0; the mirrored image without or with the edge repeated; the nearest edge; the image again.
flip : bool
    Rotate the kernel by 180 degrees.
algorithm : {{'auto', 'direct', 'winograd'}}
    How to compute. 'direct' sums one fused multiply-add a term. 'winograd' takes 1.5 to 4 times fewer multiplications, with a rounding error
    of at most 4 times the direct one (root mean square); it computes kernels of 2x2, 3x3 and 5x5 (or rows of 2, 3 and 5) along the last
    axes with a stride of 1 and a dilation of at most 8 (of 1 where padding is not zeros), and of 3x3 and 4x4 (or rows of 3 and 4) with a
    stride of 2, with fewer groups than channels, and with multiples of 16 channels and filters a group where they have several planes. The
    input gradient of 3x3 with a stride of 2, and weight gradients of all but 3x3, 3, 5 and (of 1,536 outputs or more) 5x5 with a stride of 1,
    are direct sums then. 'auto' takes it for float32 where it is faster, which follows from the shapes alone;
    :func:`cnnpy.set_precision` keeps it direct.
out : ndarray, optional
    Takes the result; exact shape and dtype, any strides, may overlap an input. Ctrl-C leaves it half written.

Returns
-------
ndarray, shape (N, C_out, {outputs})
    ``out = floor((in + before + after - (window - 1) * dilation - 1) / stride) + 1`` along each axis. Channels-last if x is, else C order.

Raises
------
TypeError
    An argument of a wrong type or dtype.
ValueError
    A shape that does not fit, or a window larger than the padded input.

Notes
-----
``y[n,k,p] = bias[k] + sum over c, r of weight[k,c,r] * xp[n, g*C/G + c, p*stride + r*dilation - before]``, xp the padded image, g the group of k.

References
----------
V. Dumoulin, F. Visin, A guide to convolution arithmetic for deep learning, 2016. A. Lavin, S. Gray, Fast algorithms for convolutional
neural networks, 2016.

Examples
--------
>>> import numpy as np, cnnpy.functional as F
>>> x = np.arange(1.0, 26).reshape(1, 1, 5, 5)
>>> F.conv2d(x, [[[[1, 0, -1]] * 3]])[0, 0]
array([[-6., -6., -6.],
       [-6., -6., -6.],
       [-6., -6., -6.]])
"""

_BACKWARD = """Gradients of :func:`conv{d}d`.

Parameters
----------
dy : array_like
    Gradient of the loss with respect to the result, of its shape.
x, weight, bias, and the options
    As in the forward call.
needs : tuple of str, optional
    Which gradients to compute: any of 'x', 'weight', 'bias'; all by default.

Returns
-------
named tuple (x, weight, bias), each of the shape of its array, None where not needed

Notes
-----
``dweight[k,c,r] = sum over n, p of dy[n,k,p] * xp[n, c, p*stride + r*dilation - before]``; ``dbias[k] = sum of dy[:,k]``;
``dx`` adds ``weight[k,c,r] * dy[n,k,p]`` to every cell that a window read; what falls on the padding is folded back onto the cells it showed.
"""

_AXES = {1: ("W", "kw", "W_out"), 2: ("H, W", "kh, kw", "H_out, W_out"), 3: ("D, H, W", "kd, kh, kw", "D_out, H_out, W_out")}


def _define(d):
    name = f"conv{d}d"

    def forward(
        x, weight, bias=None, *, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros", flip=False, algorithm="auto", out=None
    ):
        if algorithm == "auto":
            algorithm = automatic()
        return _core.conv_forward(d, x, weight, bias, stride, padding, dilation, groups, padding_mode, flip, algorithm, out)

    axes, window, outputs = _AXES[d]
    forward.__name__ = forward.__qualname__ = name
    forward.__doc__ = _FORWARD.format(d=d, axes=axes, window=window, outputs=outputs)
    call = operation("x weight bias?")(forward)
    op = call.operation

    def backward(
        dy,
        x,
        weight,
        bias=None,
        *,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        padding_mode="zeros",
        flip=False,
        algorithm="auto",
        cache=None,
        needs=None,
    ):
        if algorithm == "auto":
            algorithm = automatic()
        Gradients = op.Gradients
        mask = select(f"{name}_backward", Gradients, needs)
        return gradients(
            Gradients, _core.conv_backward(d, dy, x, weight, bias, stride, padding, dilation, groups, padding_mode, flip, algorithm, mask)
        )

    backward.__name__ = backward.__qualname__ = f"{name}_backward"
    backward.__doc__ = _BACKWARD.format(d=d)
    call.backward(backward)
    return call, backward


conv1d, conv1d_backward = _define(1)
conv2d, conv2d_backward = _define(2)
conv3d, conv3d_backward = _define(3)
