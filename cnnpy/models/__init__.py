"""Networks: compositions of :mod:`cnnpy.nn`, no arithmetic of their own."""

from cnnpy.models.lenet import lenet5

__all__ = ["lenet5"]
