"""Convolutional LSTM."""

import numpy as np

from cnnpy import functional as F
from cnnpy.functional._new import full
from cnnpy.nn.init import fan_in_uniform, generator
from cnnpy.nn.module import Module, Parameter

__all__ = ["ConvLSTM2d"]


class ConvLSTM2d(Module):
    """:func:`cnnpy.convlstm_cell` over sequences of maps.

    Called as ``layer(x, state=None)`` with x (N, T, in_channels, H, W); returns y (N, T, out_channels, H, W) and the last state ``(h, c)``.
    Filters are uniform in +-1/sqrt(fan_in); the forget gates' bias starts at 1, so that the cells remember at first.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int
        Odd: the maps keep their size.

    References
    ----------
    X. Shi et al., 2015; R. Jozefowicz, W. Zaremba, I. Sutskever, An empirical exploration of recurrent network architectures, 2015 (the bias).
    """

    def __init__(self, in_channels, out_channels, kernel_size=3, bias=True, *, rng=None, dtype="float32"):
        super().__init__()
        if isinstance(kernel_size, bool) or not isinstance(kernel_size, int) or kernel_size % 2 != 1 or kernel_size < 1:
            raise ValueError(f"ConvLSTM2d: kernel_size is {kernel_size!r}, expected an odd int")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        rng, window = generator(rng), (kernel_size, kernel_size)

        def filters(channels):
            return Parameter(fan_in_uniform((4 * out_channels, channels, *window), channels * kernel_size**2, rng, dtype))

        self.weight_xh, self.weight_hh = filters(in_channels), filters(out_channels)
        self.bias = Parameter(np.repeat(np.array([0, 1, 0, 0], dtype), out_channels)) if bias else None

    def forward(self, x, state=None):
        if len(x.shape) != 5 or x.shape[2] != self.in_channels:
            raise ValueError(f"ConvLSTM2d: x has shape {tuple(x.shape)}, expected (N, T, {self.in_channels}, H, W)")
        if state is None:
            zeros = full((x.shape[0], self.out_channels, *x.shape[3:]), 0, self.weight_hh.dtype)
            state = zeros, zeros
        h, c = state
        outputs = []
        for t in range(x.shape[1]):
            h, c = F.convlstm_cell(x[:, t], h, c, self.weight_xh, self.weight_hh, self.bias)
            outputs.append(h)
        return F.stack(outputs, axis=1), (h, c)

    def extra_repr(self):
        return f"{self.in_channels}, {self.out_channels}, {self.kernel_size}"
