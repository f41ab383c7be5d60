"""Networks: compositions of :mod:`cnnpy.nn`, no arithmetic of their own."""

from cnnpy.models.alexnet import alexnet
from cnnpy.models.lenet import lenet5
from cnnpy.models.resnet import (
    resnet18,
    resnet20,
    resnet32,
    resnet34,
    resnet44,
    resnet50,
    resnet56,
    resnet101,
    resnet110,
    resnet152,
)
from cnnpy.models.sequence import char_lstm, forecaster, seq2seq_attention, sequence_classifier
from cnnpy.models.unet import unet_small
from cnnpy.models.vgg import vgg11, vgg13, vgg16, vgg19

__all__ = [
    "alexnet",
    "char_lstm",
    "forecaster",
    "lenet5",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet110",
    "resnet152",
    "seq2seq_attention",
    "sequence_classifier",
    "unet_small",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
]
