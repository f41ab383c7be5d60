"""Pictures of training and of what a network has learnt; needs matplotlib (``pip install 'cnnpy[plot]'``)."""

from cnnpy.plot.curves import confusion_matrix, training_curves
from cnnpy.plot.images import filters, image_grid
from cnnpy.plot.report import report

__all__ = ["confusion_matrix", "filters", "image_grid", "report", "training_curves"]
