"""Tools: check a gradient or a worked example, measure rounding errors, compute sizes and receptive fields,
summarise a model, look into a recurrent one."""

from cnnpy.tools.accuracy import AccuracyReport, accuracy_report
from cnnpy.tools.attribution import grad_cam, saliency
from cnnpy.tools.capture import capture
from cnnpy.tools.example import ExampleReport, check_example
from cnnpy.tools.exercises import Checked, check_exercise
from cnnpy.tools.geometry import ReceptiveField, output_shape, receptive_field
from cnnpy.tools.gradients import gradcheck
from cnnpy.tools.recurrent import gradient_over_distance, sample_characters
from cnnpy.tools.steps import LSTMSteps, PoolSteps, SlideSteps, lstm_steps, pool_steps, slide_steps
from cnnpy.tools.summary import Summary, summary

__all__ = [
    "AccuracyReport",
    "Checked",
    "ExampleReport",
    "LSTMSteps",
    "PoolSteps",
    "ReceptiveField",
    "SlideSteps",
    "Summary",
    "accuracy_report",
    "capture",
    "check_example",
    "check_exercise",
    "grad_cam",
    "gradcheck",
    "gradient_over_distance",
    "lstm_steps",
    "output_shape",
    "pool_steps",
    "receptive_field",
    "saliency",
    "sample_characters",
    "slide_steps",
    "summary",
]
