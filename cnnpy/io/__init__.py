"""Files: arrays saved so that neither a crash nor a power loss costs them, and read so that nothing in them is executed."""

from cnnpy.io.atomic import atomic_write
from cnnpy.io.pth import load_pth
from cnnpy.io.tensors import load, load_metadata, save

__all__ = ["atomic_write", "load", "load_metadata", "load_pth", "save"]
