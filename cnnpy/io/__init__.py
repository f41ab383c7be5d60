"""Files: arrays saved so that neither a crash nor a power loss costs them, and read so that nothing in them is executed."""

from cnnpy.io import onnx_recurrent as _onnx_recurrent  # noqa: F401  its rules and nodes register themselves
from cnnpy.io.atomic import atomic_write
from cnnpy.io.npz import load_npz, save_npz
from cnnpy.io.onnx_export import export_onnx
from cnnpy.io.onnx_import import import_onnx
from cnnpy.io.pth import load_pth
from cnnpy.io.tensors import load, load_metadata, save
from cnnpy.io.weights import load_torchvision, load_weights, read_weights, write_weights

__all__ = [
    "atomic_write",
    "export_onnx",
    "import_onnx",
    "load",
    "load_metadata",
    "load_npz",
    "load_pth",
    "load_torchvision",
    "load_weights",
    "read_weights",
    "save",
    "save_npz",
    "write_weights",
]
