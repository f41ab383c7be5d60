"""Pooling layers."""

from collections.abc import Callable
from typing import Any

from cnnpy import functional as F
from cnnpy.nn.module import Module

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


class _MaxPool(Module):
    function: Callable

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False):
        super().__init__()
        self.kernel_size = kernel_size
        self.options = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "ceil_mode": ceil_mode,
            "return_indices": return_indices,
        }

    def forward(self, x):
        return self.function(x, self.kernel_size, **self.options)

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}" + "".join(f", {k}={v!r}" for k, v in self.options.items() if v not in (None, 0, False, 1))


class _AvgPool(_MaxPool):
    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        super().__init__(kernel_size)
        self.options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode, "count_include_pad": count_include_pad}


class MaxPool1d(_MaxPool):
    """:func:`cnnpy.max_pool1d`."""

    function = staticmethod(F.max_pool1d)


class MaxPool2d(_MaxPool):
    """:func:`cnnpy.max_pool2d`."""

    function = staticmethod(F.max_pool2d)


class MaxPool3d(_MaxPool):
    """:func:`cnnpy.max_pool3d`."""

    function = staticmethod(F.max_pool3d)


class AvgPool1d(_AvgPool):
    """:func:`cnnpy.avg_pool1d`."""

    function = staticmethod(F.avg_pool1d)


class AvgPool2d(_AvgPool):
    """:func:`cnnpy.avg_pool2d`."""

    function = staticmethod(F.avg_pool2d)


class AvgPool3d(_AvgPool):
    """:func:`cnnpy.avg_pool3d`."""

    function = staticmethod(F.avg_pool3d)


class GlobalAvgPool(Module):
    """:func:`cnnpy.global_avg_pool`."""

    def forward(self, x):
        return F.global_avg_pool(x)


class GlobalMaxPool(Module):
    """:func:`cnnpy.global_max_pool`."""

    def forward(self, x):
        return F.global_max_pool(x)


class _AdaptiveAvgPool(Module):
    function: Callable

    def __init__(self, output_size):
        super().__init__()
        self.output_size = output_size

    def forward(self, x):
        return self.function(x, self.output_size)

    def extra_repr(self):
        return f"output_size={self.output_size}"


class _AdaptiveMaxPool(_AdaptiveAvgPool):
    def __init__(self, output_size, return_indices=False):
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, x):
        return self.function(x, self.output_size, return_indices=self.return_indices)


class _LPPool(Module):
    function: Callable

    def __init__(self, norm_type, kernel_size, stride=None, ceil_mode=False):
        super().__init__()
        self.kernel_size = kernel_size
        self.options = {"norm_type": norm_type, "stride": stride, "ceil_mode": ceil_mode}

    def forward(self, x):
        return self.function(x, self.kernel_size, **self.options)

    def extra_repr(self):
        return f"norm_type={self.options['norm_type']}, kernel_size={self.kernel_size}"


class _MaxUnpool(Module):
    function: Callable

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__()
        self.kernel_size = kernel_size
        self.options = {"stride": stride, "padding": padding}

    def forward(self, x, indices, output_size=None):
        return self.function(x, indices, self.kernel_size, output_size=output_size, **self.options)

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}"


def _define():
    kinds = {
        "AdaptiveAvgPool": (_AdaptiveAvgPool, "adaptive_avg_pool"),
        "AdaptiveMaxPool": (_AdaptiveMaxPool, "adaptive_max_pool"),
        "LPPool": (_LPPool, "lp_pool"),
        "MaxUnpool": (_MaxUnpool, "max_unpool"),
    }
    for kind, (base, function) in kinds.items():
        for d in (1, 2, 3):
            name = f"{kind}{d}d"
            members = {
                "function": staticmethod(getattr(F, f"{function}{d}d")),
                "__doc__": f":func:`cnnpy.{function}{d}d`.",
                "__module__": __name__,
            }
            yield name, type(name, (base,), members)


AdaptiveAvgPool2d: Any  # these and their sisters are defined here:
MaxUnpool2d: Any
globals().update(_define())
