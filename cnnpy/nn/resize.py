"""Resizing layers."""

from cnnpy import functional as F
from cnnpy.functional._new import full
from cnnpy.nn.module import Module

__all__ = ["Fold", "PixelShuffle", "PixelUnshuffle", "Subsample", "Unfold", "Upsample"]


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


class Subsample(Module):
    """Every `stride`-th pixel, with channels of zeros added on both sides: a residual shortcut without parameters.

    Parameters
    ----------
    in_channels, out_channels : int
        The channels that are missing are added half in front, half (the odd one too) behind.
    stride : int

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning for image recognition, 2016, option A.
    """

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        if out_channels < in_channels or stride < 1:
            raise ValueError(
                f"Subsample: {in_channels} to {out_channels} channels with stride {stride}, expected no fewer channels and a stride of at least 1"
            )
        self.stride, self.front = stride, (out_channels - in_channels) // 2
        self.behind = out_channels - in_channels - self.front

    def forward(self, x):
        small = x[:, :, :: self.stride, :: self.stride]
        if self.front + self.behind == 0:
            return small
        n, _, h, w = small.shape
        front, behind = (full((n, c, h, w), 0, small.dtype) for c in (self.front, self.behind))
        return F.concatenate([front, small, behind], axis=1)

    def extra_repr(self):
        return f"stride={self.stride}, front={self.front}, behind={self.behind}"
