"""Networks as ONNX files: the calls that a forward pass makes, each as the node of the standard that means the same."""

import inspect
from typing import Any

import numpy as np

from cnnpy.autograd import Tensor, no_grad, tracing
from cnnpy.io.atomic import atomic_write
from cnnpy.io.onnx_rules import RULES

__all__ = ["export_onnx", "onnx_package"]

OPSET, IR_VERSION = 20, 9


def onnx_package(function):
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise ImportError(f"{function}: needs onnx; install it with: pip install 'cnnpy[onnx]'") from None
    return onnx


class Call:
    """One call of an operation: ``call.x``, ``call.stride`` ...: its arguments by name; ``result`` is what it returned."""

    def __init__(self, operation, args, options, result):
        signature = inspect.signature(operation.forward)
        given = (list(args),) if operation.variadic else tuple(args)
        bound = signature.bind(*given, **{k: v for k, v in options.items() if k != "return_cache"})
        bound.apply_defaults()
        self.name, self.result = operation.name, result
        self.__dict__.update(bound.arguments)


class Graph:
    """The nodes so far, and the name of every value."""

    def __init__(self, onnx, model, batch):
        self.onnx, self.batch = onnx, batch
        self.nodes: list = []
        self.initializers: dict = {}
        self.names: dict = {}  # id -> name
        self.kept: list = []  # the objects whose ids are in use
        self.known = {id(v): n for n, v in (*model.named_parameters(), *model.named_buffers())}
        self.taken: set = set()

    def give(self, value, name):
        self.names[id(value)] = name
        self.kept.append(value)

    def fresh(self, base):
        number = 0
        while (name := f"{base}_{number}") in self.taken:
            number += 1
        self.taken.add(name)
        return name

    def __call__(self, value):
        """The name of a value of the forward pass: a result, a parameter, a buffer, or a constant."""
        if id(value) not in self.names:
            array = value._data if isinstance(value, Tensor) else np.asarray(value)
            name = self.known.get(id(value))
            self.give(value, self.constant(array, name))
        return self.names[id(value)]

    def constant(self, array, name=None):
        name = name or self.fresh("constant")
        self.initializers[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(np.shape(array)), name)
        return name

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def node(self, kind, *inputs, outputs=1, **attributes):
        """Adds a node; inputs are names. Returns the name of its result, or a list of them."""
        names = [self.fresh(kind.lower()) for _ in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), names, name=names[0], **attributes))
        return names[0] if outputs == 1 else names

    def reshape(self, name, shape, batched=True):
        """A batch in front stays free."""
        shape = [int(n) for n in shape]
        return self.node("Reshape", name, self.ints(0 if batched and shape[0] == self.batch else shape[0], *shape[1:]))


def _values(result):
    return [v for r in result for v in _values(r)] if isinstance(result, tuple) else [result]


def export_onnx(model, path, x, *, dynamic_batch=True):
    """Writes a network as an ONNX file (opset 20), in evaluation mode, its parameters under their own names.

    Parameters
    ----------
    model : cnnpy.nn.Module
        Not changed.
    path : path
        Replaced whole or not at all.
    x : array_like or tuple of int
        An example of the input, or its shape ``(N, ...)`` for float32; integers for a network that begins with an embedding.
    dynamic_batch : bool
        The first axis of the input stays free.

    Returns
    -------
    onnx.ModelProto
        What was written, checked by ``onnx.checker``.

    Raises
    ------
    ValueError
        The network makes a call that ONNX cannot express; the sentence names it.
    ImportError
        Without onnx; the sentence names the extra.

    Notes
    -----
    The forward pass is run once and its calls are written down, so a branch that depends on values is frozen as it was taken. Inputs are ``x``, results ``y``, ``y1`` ...

    References
    ----------
    The ONNX operator schemas, opset 20.
    """
    onnx = onnx_package("export_onnx")
    parameters = list(model.parameters())
    dtype = parameters[0].dtype if parameters else np.dtype(np.float32)
    if isinstance(x, tuple) and all(isinstance(n, (int, np.integer)) for n in x):
        x = np.zeros(x, dtype)
    x = np.asarray(x)
    value: Any
    if x.dtype.kind in "iu":
        value, x_type = np.ascontiguousarray(x, np.int64), onnx.TensorProto.INT64
    else:
        value = Tensor(np.ascontiguousarray(x, dtype))
        x_type = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    graph = Graph(onnx, model, x.shape[0])
    graph.give(value, "x")

    def see(operation, args, options, result):
        if operation.name not in RULES:
            raise ValueError(f"export_onnx: {operation.name} has no counterpart in ONNX")
        names = RULES[operation.name](graph, Call(operation, args, options, result))
        for one, name in zip(_values(result), [names] if isinstance(names, str) else names, strict=False):
            graph.give(one, name)

    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with no_grad(), tracing(see):
            results = _values(model(value))
    finally:
        for module, training in modes:
            object.__setattr__(module, "training", training)
    outputs = []
    for i, result in enumerate(results):
        if id(result) not in graph.names:
            raise ValueError("export_onnx: a result of the model is not made by recorded operations")
        name = "y" if i == 0 else f"y{i}"
        graph.nodes.append(onnx.helper.make_node("Identity", [graph(result)], [name]))
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(result.dtype))
        outputs.append(onnx.helper.make_tensor_value_info(name, kind, _shape(result.shape, x.shape[0], dynamic_batch)))
    described = onnx.helper.make_tensor_value_info("x", x_type, _shape(x.shape, x.shape[0], dynamic_batch))
    body = onnx.helper.make_graph(graph.nodes, type(model).__name__, [described], outputs, list(graph.initializers.values()))
    proto = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="cnnpy")
    onnx.checker.check_model(proto, full_check=True)
    atomic_write(path, [proto.SerializeToString()])
    return proto


def _shape(shape, batch, dynamic):
    return ["N" if dynamic and i == 0 and n == batch else int(n) for i, n in enumerate(shape)]
