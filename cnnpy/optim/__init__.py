"""Optimisers. The arithmetic of a step is one pass of the C core over each parameter."""

from cnnpy.optim.optimizer import SGD, Adam, AdamW, Optimizer

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
