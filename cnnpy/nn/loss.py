"""Losses as modules."""

from cnnpy import functional as F
from cnnpy.nn.module import Module

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "KLDivLoss", "L1Loss", "MSELoss", "NLLLoss"]


class CrossEntropyLoss(Module):
    """:func:`cnnpy.cross_entropy`."""

    def __init__(self, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        super().__init__()
        self.weight, self.ignore_index, self.reduction, self.label_smoothing = weight, ignore_index, reduction, label_smoothing

    def forward(self, logits, target):
        return F.cross_entropy(
            logits,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(Module):
    """:func:`cnnpy.nll_loss`."""

    def __init__(self, weight=None, ignore_index=-100, reduction="mean"):
        super().__init__()
        self.weight, self.ignore_index, self.reduction = weight, ignore_index, reduction

    def forward(self, input, target):
        return F.nll_loss(input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class _ElementLoss(Module):
    function = staticmethod(F.mse_loss)

    def __init__(self, reduction="mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, input, target):
        return self.function(input, target, reduction=self.reduction)


class MSELoss(_ElementLoss):
    """:func:`cnnpy.mse_loss`."""


class L1Loss(_ElementLoss):
    """:func:`cnnpy.l1_loss`."""

    function = staticmethod(F.l1_loss)


class HuberLoss(Module):
    """:func:`cnnpy.huber_loss`."""

    def __init__(self, reduction="mean", delta=1.0):
        super().__init__()
        self.reduction, self.delta = reduction, delta

    def forward(self, input, target):
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class BCEWithLogitsLoss(_ElementLoss):
    """:func:`cnnpy.binary_cross_entropy_with_logits`."""

    function = staticmethod(F.binary_cross_entropy_with_logits)


class KLDivLoss(_ElementLoss):
    """:func:`cnnpy.kl_div`."""

    function = staticmethod(F.kl_div)
