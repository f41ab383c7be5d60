"""Convolution layers. They compute, and hand on, images channels-last, but leave as they are those of at most eight channels in and out, whose rows fill
vectors better."""

import math
from collections.abc import Callable

from cnnpy import functional as F
from cnnpy.functional.array import FEW_CHANNELS
from cnnpy.nn.init import fan_in_uniform, generator
from cnnpy.nn.module import Module, Parameter

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


def per_axis(value, d):
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * d


class _Conv(Module):
    rank: int
    function: Callable

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
        padding_mode="zeros",
        *,
        rng=None,
        dtype="float32",
    ):
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"{type(self).__name__}: groups is {groups}, expected a divisor of {in_channels} and {out_channels} channels")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = per_axis(kernel_size, self.rank), stride, padding
        self.dilation, self.groups, self.padding_mode = dilation, groups, padding_mode
        rng = generator(rng)
        fan_in = in_channels // groups * math.prod(self.kernel_size)
        self.weight = Parameter(fan_in_uniform((out_channels, in_channels // groups, *self.kernel_size), fan_in, rng, dtype))
        self.bias = Parameter(fan_in_uniform((out_channels,), fan_in, rng, dtype)) if bias else None

    def forward(self, x):
        if x.ndim == self.rank + 2 and max(self.in_channels, self.out_channels) > FEW_CHANNELS:
            x = F.channels_last(x)
        return self.function(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            padding_mode=self.padding_mode,
        )

    def extra_repr(self):
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, default in (("padding", 0), ("dilation", 1), ("groups", 1), ("padding_mode", "zeros")):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)!r}"
        return text + ("" if self.bias is not None else ", bias=False")


class Conv1d(_Conv):
    """:func:`cnnpy.conv1d` with a weight (C_out, C_in / groups, kw) and a bias (C_out,), both uniform in +-1/sqrt(fan_in)."""

    rank = 1
    function = staticmethod(F.conv1d)


class Conv2d(_Conv):
    """:func:`cnnpy.conv2d` with a weight (C_out, C_in / groups, kh, kw) and a bias (C_out,), both uniform in +-1/sqrt(fan_in)."""

    rank = 2
    function = staticmethod(F.conv2d)


class Conv3d(_Conv):
    """:func:`cnnpy.conv3d` with a weight (C_out, C_in / groups, kd, kh, kw) and a bias (C_out,), both uniform in +-1/sqrt(fan_in)."""

    rank = 3
    function = staticmethod(F.conv3d)


class _ConvTranspose(Module):
    rank: int
    function: Callable

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        bias=True,
        dilation=1,
        *,
        rng=None,
        dtype="float32",
    ):
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"{type(self).__name__}: groups is {groups}, expected a divisor of {in_channels} and {out_channels} channels")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = per_axis(kernel_size, self.rank)
        self.options = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation, "groups": groups}
        rng = generator(rng)
        fan_in = out_channels // groups * math.prod(self.kernel_size)
        self.weight = Parameter(fan_in_uniform((in_channels, out_channels // groups, *self.kernel_size), fan_in, rng, dtype))
        self.bias = Parameter(fan_in_uniform((out_channels,), fan_in, rng, dtype)) if bias else None

    def forward(self, x, output_size=None):
        if x.ndim == self.rank + 2:
            x = F.channels_last(x)
        return self.function(x, self.weight, self.bias, output_size=output_size, **self.options)

    def extra_repr(self):
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        return text + "".join(f", {k}={v!r}" for k, v in self.options.items() if v not in (0, 1) or k == "stride")


class ConvTranspose1d(_ConvTranspose):
    """:func:`cnnpy.conv_transpose1d` with a weight (C_in, C_out / groups, kw) and a bias, uniform in +-1/sqrt(C_out / groups * taps)."""

    rank = 1
    function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
    """:func:`cnnpy.conv_transpose2d` with a weight (C_in, C_out / groups, kh, kw) and a bias, uniform in +-1/sqrt(C_out / groups * taps)."""

    rank = 2
    function = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_ConvTranspose):
    """:func:`cnnpy.conv_transpose3d` with a weight (C_in, C_out / groups, kd, kh, kw) and a bias, uniform in +-1/sqrt(C_out / groups * taps)."""

    rank = 3
    function = staticmethod(F.conv_transpose3d)
