"""ONNX files as networks that train: every node becomes a call of :mod:`cnnpy.functional`, every weight a parameter under its name."""

from pathlib import Path

import numpy as np

from cnnpy.autograd import Tensor
from cnnpy.io.onnx_export import onnx_package
from cnnpy.io.onnx_nodes import NODES, Node
from cnnpy.nn.module import Module, Parameter

__all__ = ["OnnxModel", "import_onnx"]

_CONSTANT_INPUTS = {  # inputs that say how to compute, or are counted by statistics: not trained
    **{"BatchNormalization": (3, 4), "Clip": (1, 2), "Pad": (1, 2, 3), "Resize": (1, 2, 3), "Dropout": (1, 2), "Pow": (1,)},
}


class OnnxModel(Module):
    """A network read from an ONNX file: call it like any module, train it, ``state_dict`` it.

    Attributes
    ----------
    nodes : list
        In the order in which they run; ``str`` of one says what it is.
    input_names, output_names : list of str

    Notes
    -----
    In training mode batch norm uses and updates batch statistics, dropout drops. Results are a tensor, or a tuple where the file has several.
    """

    def __init__(self, nodes, weights, inputs, outputs, constants=()):
        super().__init__()
        self.nodes, self.input_names, self.output_names = nodes, inputs, outputs
        self._rng = [0, 0]
        fixed = {n.inputs[i] for n in nodes for i in _CONSTANT_INPUTS.get(n.kind, ()) if i < len(n.inputs)} | set(constants)
        statistics = {n.inputs[i] for n in nodes if n.kind == "BatchNormalization" for i in (3, 4)}
        self._constants = {}
        for name, array in weights.items():
            if name in statistics:
                self.register_buffer(name, np.array(array))
            elif array.dtype in (np.float32, np.float64) and name not in fixed:
                setattr(self, name, Parameter(np.array(array)))
            else:
                self._constants[name] = array
        self._last_use = {name: i for i, n in enumerate(nodes) for name in n.inputs}

    def forward(self, *inputs):
        if len(inputs) != len(self.input_names):
            raise ValueError(f"OnnxModel: {len(inputs)} arrays are given, expected {len(self.input_names)}: {', '.join(self.input_names)}")
        values = {**self._constants, **self._parameters, **{n: getattr(self, n) for n in self._buffers}}
        for name, x in zip(self.input_names, inputs, strict=True):
            floating = not isinstance(x, Tensor) and np.asarray(x).dtype.kind == "f"
            values[name] = Tensor(x) if floating else x
        for i, n in enumerate(self.nodes):
            result = NODES[n.kind](self, n, *(values[name] if name else None for name in n.inputs))
            for name, value in zip(n.outputs, result if isinstance(result, tuple) else (result,), strict=False):
                values[name] = value
            for name in n.inputs:  # memory is free again where the tape does not need it
                if self._last_use[name] == i and name not in self.output_names:
                    values.pop(name, None)
        results = tuple(values[name] for name in self.output_names)
        return results[0] if len(results) == 1 else results

    def extra_repr(self):
        return f"{len(self.nodes)} nodes"


def import_onnx(path, *, max_bytes=1 << 31):
    """Reads an ONNX file as a module.

    Parameters
    ----------
    path : path
    max_bytes : int
        Larger files are refused.

    Returns
    -------
    OnnxModel
        In training mode, as a new module is; ``eval()`` before using it.

    Raises
    ------
    ValueError
        The file is damaged, or it holds nodes that have no counterpart here: the sentence lists all of them. Nothing in a file is executed.
    ImportError
        Without onnx; the sentence names the extra.
    """
    onnx = onnx_package("import_onnx")
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"import_onnx: {path} is not a file")
    if path.stat().st_size > max_bytes:
        raise ValueError(f"import_onnx: {path} has {path.stat().st_size} bytes, more than the {max_bytes} allowed")
    try:
        proto = onnx.load_model_from_string(path.read_bytes())
        outside = [i.name for i in proto.graph.initializer if i.data_location == onnx.TensorProto.EXTERNAL]
        if outside:
            raise ValueError(f"its weights ({outside[0]}, ...) stand in other files; save it in one")
        onnx.checker.check_model(proto)
        nodes = [Node(onnx, n) for n in proto.graph.node]
        weights = {i.name: onnx.numpy_helper.to_array(i) for i in proto.graph.initializer}
    except Exception as error:  # a damaged file raises anything
        raise ValueError(f"import_onnx: {path} is not a valid ONNX file: {_first_line(error)}") from None
    unknown = sorted(
        {
            n.kind if n.domain in ("", "ai.onnx") else f"{n.domain}.{n.kind}"
            for n in nodes
            if n.kind not in NODES or n.domain not in ("", "ai.onnx")
        }
    )
    if unknown:
        raise ValueError(f"import_onnx: {path} holds nodes that have no counterpart here: {', '.join(unknown)}")
    inputs = [i.name for i in proto.graph.input if i.name not in weights]
    own = [n for n in weights if n.startswith("constant_")] if proto.producer_name == "cnnpy" else []
    return OnnxModel(nodes, weights, inputs, [o.name for o in proto.graph.output], own)


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
