"""Transposed convolution."""

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import select
from cnnpy.functional.array import reduce_sum
from cnnpy.functional.runtime import precision

__all__ = [
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "conv_transpose3d",
    "conv_transpose3d_backward",
]

_FORWARD = """Transposed convolution: every cell of x writes its multiple of the kernel into a larger image, overlaps add.

It is the gradient of a convolution with respect to its input, also called fractionally strided convolution. It inverts nothing: the
size comes back, the values do not.

Parameters
----------
x : array_like, shape (N, C_in, {axes}) or, unbatched, (C_in, {axes})
weight : array_like, shape (C_in, C_out / groups, {window})
bias : array_like, shape (C_out,), optional
stride : int or {d} ints
    Output cells from one input cell's kernel to the next.
padding : int, {d} ints or {d} pairs (before, after)
    Cells cropped from the result on each side.
output_padding : int or {d} ints
    Cells added after, less than the larger of stride and dilation.
output_size : int or {d} ints, optional
    The size wanted; sets output_padding.
dilation : int or {d} ints
groups : int
out : ndarray, optional

Returns
-------
ndarray, shape (N, C_out, {outputs})
    ``out = (in - 1) * stride - (before + after) + (window - 1) * dilation + 1 + output_padding`` along each axis.

Raises
------
ValueError
    A shape that does not fit, or an output size that no output_padding reaches.

Notes
-----
``y[n, g*K/G + k, h*stride + r*dilation - before] += weight[c,k,r] * x[n,c,h]``, starting from the bias; g the group of c.

References
----------
V. Dumoulin, F. Visin, A guide to convolution arithmetic for deep learning, 2016.
"""

_BACKWARD = """Gradients of :func:`conv_transpose{d}d`: dx is a convolution of dy, dweight its weight gradient with x and dy exchanged."""

_AXES = {1: ("W", "kw", "W_out"), 2: ("H, W", "kh, kw", "H_out, W_out"), 3: ("D, H, W", "kd, kh, kw", "D_out, H_out, W_out")}


def _define(d):
    name = f"conv_transpose{d}d"

    def forward(x, weight, bias=None, *, stride=1, padding=0, output_padding=0, output_size=None, dilation=1, groups=1, out=None):
        return _core.conv_transpose_forward(
            d, x, weight, bias, stride, padding, output_padding, output_size, dilation, groups, precision() == "strict", out
        )

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
        output_padding=0,
        output_size=None,
        dilation=1,
        groups=1,
        cache=None,
        needs=None,
    ):
        mask = select(f"{name}_backward", op.Gradients, needs)
        dx, dw, db = _core.conv_transpose_backward(
            d, dy, x, weight, bias, stride, padding, output_padding, output_size, dilation, groups, precision() == "strict", mask
        )
        if db is not None:
            db = reduce_sum(db, [a for a in range(db.ndim) if a != db.ndim - d - 1])
        return op.Gradients(dx, dw, db)

    backward.__name__ = backward.__qualname__ = f"{name}_backward"
    backward.__doc__ = _BACKWARD.format(d=d)
    call.backward(backward)
    return call, backward


conv_transpose1d, conv_transpose1d_backward = _define(1)
conv_transpose2d, conv_transpose2d_backward = _define(2)
conv_transpose3d, conv_transpose3d_backward = _define(3)
