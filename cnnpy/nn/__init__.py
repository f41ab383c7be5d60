"""Layers: functions of :mod:`cnnpy.functional` together with the parameters they use. Layers remember, functions compute."""

from cnnpy.nn import init
from cnnpy.nn.activation import LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from cnnpy.nn.containers import Concat, Flatten, Lambda, ModuleList, Residual, Sequential
from cnnpy.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from cnnpy.nn.linear import Linear
from cnnpy.nn.loss import CrossEntropyLoss
from cnnpy.nn.module import Module, Parameter
from cnnpy.nn.pad import *  # noqa: F403
from cnnpy.nn.pad import __all__ as _pads
from cnnpy.nn.pool import *  # noqa: F403
from cnnpy.nn.pool import __all__ as _pools
from cnnpy.nn.resize import Fold, PixelShuffle, PixelUnshuffle, Unfold, Upsample

__all__ = [
    "Concat",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CrossEntropyLoss",
    "Flatten",
    "Fold",
    "Lambda",
    "Linear",
    "LogSoftmax",
    "Module",
    "ModuleList",
    "Parameter",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "Unfold",
    "Upsample",
    "init",
    *_pads,
    *_pools,
]
