"""Layers: functions of :mod:`cnnpy.functional` together with the parameters they use. Layers remember, functions compute."""

from cnnpy.nn import init
from cnnpy.nn.activation import LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from cnnpy.nn.containers import Flatten, Lambda, ModuleList, Sequential
from cnnpy.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from cnnpy.nn.linear import Linear
from cnnpy.nn.loss import CrossEntropyLoss
from cnnpy.nn.module import Module, Parameter
from cnnpy.nn.pad import *  # noqa: F403
from cnnpy.nn.pad import __all__ as _pads
from cnnpy.nn.pool import AvgPool1d, AvgPool2d, AvgPool3d, MaxPool1d, MaxPool2d, MaxPool3d

__all__ = [
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CrossEntropyLoss",
    "Flatten",
    "Lambda",
    "Linear",
    "LogSoftmax",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "init",
    *_pads,
]
