"""Pictures of training, of what a network has learnt, and of how its operations work; needs matplotlib (``pip install 'cnnpy[plot]'``)."""

from cnnpy.plot.curves import confusion_matrix, training_curves
from cnnpy.plot.graph import computation
from cnnpy.plot.images import filters, image_grid
from cnnpy.plot.inside import feature_maps, grad_cam, gradient_flow, receptive_field, saliency
from cnnpy.plot.report import report
from cnnpy.plot.sequences import attention, lstm_gates
from cnnpy.plot.slide import Slide, kernel_slide

__all__ = [
    "Slide",
    "attention",
    "computation",
    "confusion_matrix",
    "feature_maps",
    "filters",
    "grad_cam",
    "gradient_flow",
    "image_grid",
    "kernel_slide",
    "lstm_gates",
    "receptive_field",
    "report",
    "saliency",
    "training_curves",
]
