"""Resizing layers."""

from cnnpy import functional as F
from cnnpy.nn.module import Module

__all__ = ["Fold", "PixelShuffle", "PixelUnshuffle", "Unfold", "Upsample"]


class Upsample(Module):
    """:func:`cnnpy.interpolate`."""

    def __init__(self, size=None, scale_factor=None, mode="nearest", align_corners=False):
        super().__init__()
        self.options = {"size": size, "scale_factor": scale_factor, "mode": mode, "align_corners": bool(align_corners)}

    def forward(self, x):
        return F.interpolate(x, **self.options)

    def extra_repr(self):
        return ", ".join(f"{k}={v!r}" for k, v in self.options.items() if v not in (None, False))


class PixelShuffle(Module):
    """:func:`cnnpy.pixel_shuffle`."""

    def __init__(self, upscale_factor):
        super().__init__()
        self.factor = upscale_factor

    def forward(self, x):
        return F.pixel_shuffle(x, self.factor)


class PixelUnshuffle(Module):
    """:func:`cnnpy.pixel_unshuffle`."""

    def __init__(self, downscale_factor):
        super().__init__()
        self.factor = downscale_factor

    def forward(self, x):
        return F.pixel_unshuffle(x, self.factor)


class Unfold(Module):
    """:func:`cnnpy.unfold`."""

    def __init__(self, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.kernel_size = kernel_size
        self.options = {"dilation": dilation, "padding": padding, "stride": stride}

    def forward(self, x):
        return F.unfold(x, self.kernel_size, **self.options)


class Fold(Module):
    """:func:`cnnpy.fold`."""

    def __init__(self, output_size, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.options = {"dilation": dilation, "padding": padding, "stride": stride}

    def forward(self, x):
        return F.fold(x, self.output_size, self.kernel_size, **self.options)
