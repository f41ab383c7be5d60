"""Tools: check a gradient, summarise a model."""

from cnnpy.tools.gradients import gradcheck
from cnnpy.tools.summary import Summary, summary

__all__ = ["Summary", "gradcheck", "summary"]
