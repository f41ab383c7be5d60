"""Pooling layers."""

from collections.abc import Callable

from cnnpy import functional as F
from cnnpy.nn.module import Module

__all__ = ["AvgPool1d", "AvgPool2d", "AvgPool3d", "MaxPool1d", "MaxPool2d", "MaxPool3d"]


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
