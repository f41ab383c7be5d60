"""Activation layers."""

from cnnpy import functional as F
from cnnpy.nn.module import Module

__all__ = ["ELU", "GELU", "Hardtanh", "LeakyReLU", "LogSoftmax", "ReLU", "ReLU6", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh"]


class ReLU(Module):
    """:func:`cnnpy.relu`."""

    def forward(self, x):
        return F.relu(x)


class Sigmoid(Module):
    """:func:`cnnpy.sigmoid`."""

    def forward(self, x):
        return F.sigmoid(x)


class Tanh(Module):
    """:func:`cnnpy.tanh`."""

    def forward(self, x):
        return F.tanh(x)


class Softmax(Module):
    """:func:`cnnpy.softmax` along `dim`."""

    def __init__(self, dim=-1):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        return F.softmax(x, axis=self.dim)


class LogSoftmax(Softmax):
    """:func:`cnnpy.log_softmax` along `dim`."""

    def forward(self, x):
        return F.log_softmax(x, axis=self.dim)


class ReLU6(Module):
    """:func:`cnnpy.relu6`."""

    def forward(self, x):
        return F.relu6(x)


class LeakyReLU(Module):
    """:func:`cnnpy.leaky_relu`."""

    def __init__(self, negative_slope=0.01):
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x):
        return F.leaky_relu(x, negative_slope=self.negative_slope)

    def extra_repr(self):
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """:func:`cnnpy.elu`."""

    def __init__(self, alpha=1.0):
        super().__init__()
        self.alpha = alpha

    def forward(self, x):
        return F.elu(x, alpha=self.alpha)

    def extra_repr(self):
        return f"alpha={self.alpha}"


class GELU(Module):
    """:func:`cnnpy.gelu`."""

    def __init__(self, approximate="none"):
        super().__init__()
        self.approximate = approximate

    def forward(self, x):
        return F.gelu(x, approximate=self.approximate)

    def extra_repr(self):
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """:func:`cnnpy.silu`."""

    def forward(self, x):
        return F.silu(x)


class Softplus(Module):
    """:func:`cnnpy.softplus`."""

    def forward(self, x):
        return F.softplus(x)


class Hardtanh(Module):
    """:func:`cnnpy.hardtanh`."""

    def __init__(self, min_val=-1.0, max_val=1.0):
        super().__init__()
        self.min_val, self.max_val = min_val, max_val

    def forward(self, x):
        return F.hardtanh(x, min_val=self.min_val, max_val=self.max_val)

    def extra_repr(self):
        return f"min_val={self.min_val}, max_val={self.max_val}"
