"""Activation layers."""

from cnnpy import functional as F
from cnnpy.nn.module import Module

__all__ = ["LogSoftmax", "ReLU", "Sigmoid", "Softmax", "Tanh"]


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
