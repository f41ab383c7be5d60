"""Tensor and the tape. A tape node is one call of an operation: of a pair that :class:`cnnpy._operation.Operation` describes."""

import contextlib
import functools
import itertools
import threading
from typing import Any

import numpy as np

from cnnpy._operation import OPERATIONS, Operation

__all__ = ["OPERATIONS", "Operation", "Tensor", "no_grad", "operation", "tracing"]


def operation(arrays, **description):
    """Decorates a forward function of ndarrays; the result also takes Tensors and records. ``.backward`` registers its pair."""

    def decorate(forward):
        op = Operation(forward, arrays, **description)
        OPERATIONS[op.name] = op

        @functools.wraps(forward)
        def function(*args, **options):
            for a in args[0] if op.variadic else args:
                if isinstance(a, Tensor):
                    return _record(op, args, options)
            if options:
                for a in options.values():
                    if isinstance(a, Tensor):
                        return _record(op, args, options)
            for name, depth in op.nested.items():
                place = op.arrays.index(name)
                a = args[place] if place < len(args) else options.get(name)
                if any(isinstance(leaf, Tensor) for leaf in _leaves(a, depth)):
                    return _record(op, args, options)
            return forward(*args, **options)

        def backward(pair):
            op.backward = pair
            return pair

        call: Any = function
        call.operation = op
        call.backward = backward
        return call

    return decorate


def _leaves(a, depth):
    """The arrays of a nested argument, in order; what is not a list or tuple where one belongs counts as one."""
    if depth and isinstance(a, (list, tuple)):
        for item in a:
            yield from _leaves(item, depth - 1)
    else:
        yield a


def _plain(a, depth=0):
    """The argument with arrays in place of Tensors."""
    if depth and isinstance(a, (list, tuple)):
        return [_plain(item, depth - 1) for item in a]
    return a._data if isinstance(a, Tensor) else a


_ZERO = bytes(8)


def _stand_in(array):
    """An array of the same shape and dtype that holds no memory, in place of one whose numbers nobody will read."""
    return np.ndarray(array.shape, array.dtype, _ZERO, 0, (0,) * array.ndim) if type(array) is np.ndarray else array


def _without_data(tensor):
    """What the tape needs of a tensor whose numbers nobody will read: a leaf itself, of a result only where it came from."""
    if not isinstance(tensor, Tensor) or tensor._node is None:
        return tensor
    place = Tensor._of(_stand_in(tensor._data), tensor.requires_grad)
    place._node, place._slot = tensor._node, tensor._slot
    return place


_state = threading.local()
_order = itertools.count()


@contextlib.contextmanager
def no_grad():
    """Nothing is recorded inside: for evaluation and for updates by hand."""
    before = getattr(_state, "off", False)
    _state.off = True
    try:
        yield
    finally:
        _state.off = before


@contextlib.contextmanager
def tracing(see):
    """Shows every call on Tensors inside the block: ``see(operation, args, options, result)``, args and result as the caller has them."""
    before = getattr(_state, "see", None)
    _state.see = see
    try:
        yield
    finally:
        _state.see = before


class _Node:
    """One recorded call: the pair, what it was given, and where its gradients go."""

    template: Any
    outputs: list
    __slots__ = ("arrays", "cache", "inputs", "names", "number", "op", "options", "outputs", "retained", "template", "versions")

    def __init__(self, op, inputs, names, arrays, options, cache):
        self.inputs: Any = None
        self.op = op
        self.names = names
        self.arrays = arrays
        self.options = options
        self.cache = cache
        self.number = next(_order)
        self.retained = None
        self.versions = [0 if t is None else t._version for t in inputs]
        for t in inputs:  # nothing here needs memory: all of them are pinned, and released again, or none
            if t is not None:
                t._pins += 1
        self.inputs = inputs

    def release(self):
        for t in self.inputs or ():
            if t is not None:
                t._pins -= 1
        self.inputs = self.arrays = self.cache = self.options = None

    def __del__(self):
        if self.inputs:
            self.release()

    def gradients(self, outputs):
        """Calls the backward function. `outputs`: gradients of the results in flat order, None where there is none."""
        op = self.op
        needs = []
        for tensor, version, name in zip(self.inputs, self.versions, self.names, strict=False):
            if tensor is None:
                continue
            if tensor._version != version:
                raise RuntimeError(
                    f"{op.name}: {name} was changed after it was recorded, its gradient would be wrong; change it after backward()"
                )
            if tensor.requires_grad and name in op.differentiable and name not in needs:
                needs.append(name)
        dy = outputs[0] if self.template == 0 else _unflatten(self.template, iter(outputs))
        options = self.options
        if op.caches:
            options = {**options, "cache": self.cache}
        result = op.backward(dy, *self.arrays, **options, needs=needs)
        if op.variadic:
            return result[0]
        if not op.nested:
            return result
        flat: list = []
        for name, gradient in zip(op.differentiable, result, strict=True):
            count = self.names.count(name)
            flat.extend([None] * count if gradient is None else _leaves(gradient, op.nested.get(name, 0)))
        return flat


def _flatten(result, to):
    """Lists the real arrays of a (nested) result and returns its shape as a template."""
    if isinstance(result, tuple):
        return tuple(_flatten(r, to) for r in result)
    if isinstance(result, (np.ndarray, np.floating)) and result.dtype.kind == "f":
        to.append(np.asarray(result))
        return len(to) - 1
    return None


def _unflatten(template, values):
    if isinstance(template, tuple):
        return tuple(_unflatten(t, values) for t in template)
    return None if template is None else next(values)


def _wrap(result, template, tensors):
    if isinstance(template, tuple):
        return tuple(_wrap(r, t, tensors) for r, t in zip(result, template, strict=True))
    return result if template is None else tensors[template]


def _record(op, args, options):
    args = list(args)
    if not op.variadic:
        for i, name in enumerate(op.arrays):  # arrays given by keyword take their place
            if name in options:
                args.extend([None] * (i + 1 - len(args)))
                args[i] = options.pop(name)
    else:
        args = list(args[0])
    if options.get("out") is not None:
        raise TypeError(f"{op.name}: out= takes no part in recording; call it on arrays or inside no_grad()")
    if op.nested:
        arrays = [_plain(a, op.nested.get(n, 0)) for a, n in zip(args, op.arrays, strict=False)]
        leaves = [(leaf, n) for a, n in zip(args, op.arrays, strict=False) for leaf in _leaves(a, op.nested.get(n, 0))]
        inputs, names = [leaf for leaf, _ in leaves], tuple(n for _, n in leaves)
    else:
        arrays = [a._data if isinstance(a, Tensor) else a for a in args]
        inputs, names = args, op.arrays if not op.variadic else op.arrays * len(args)
    given = (arrays,) if op.variadic else arrays
    recording = not getattr(_state, "off", False) and any(isinstance(a, Tensor) and a.requires_grad for a in inputs)
    cache = None
    if recording and op.caches and not options.get("return_cache"):
        result, cache = op.forward(*given, **options, return_cache=True)
    else:
        result = op.forward(*given, **options)
    if type(result) is np.ndarray:
        found, template = [result], 0
    else:
        found = []
        template = _flatten(result, found)
    tensors = [Tensor._of(a, recording) for a in found]
    if recording:
        if op.shape_only:
            given, inputs = [_stand_in(a) for a in given], [_without_data(t) for t in inputs]
        node = _Node(op, [a if isinstance(a, Tensor) else None for a in inputs], names, list(given), options, cache)
        node.template = template
        node.outputs = [(t.shape, t.dtype) for t in tensors]
        for i, t in enumerate(tensors):
            t._node, t._slot = node, i
    wrapped = _wrap(result, template, tensors)
    see = getattr(_state, "see", None)
    if see is not None:
        see(op, args, options, wrapped)
    return wrapped


def _apply(name):
    """A method that is the registered operation `name`."""

    def method(self, *args, **options):
        return _FUNCTIONS[name](self, *args, **options)

    method.__name__ = name
    return method


def _swapped(name):
    def method(self, other):
        return _FUNCTIONS[name](other, self)

    return method


_FUNCTIONS: dict = {}  # filled by cnnpy.functional.array: the functions behind the operators


class Tensor:
    """An ndarray and its place on the tape.

    Parameters
    ----------
    data : array_like
        Becomes float32 or float64, as ``np.result_type(data, np.float32)``; a float array is not copied.
    requires_grad : bool
        Whether calls that take this tensor are recorded and ``backward`` leaves its gradient in ``.grad``, an ndarray.

    While a recorded call still needs a tensor, its ``.data`` is handed out read-only: changing it would make the gradient wrong.

    Examples
    --------
    >>> import numpy as np, cnnpy
    >>> x = cnnpy.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([2., 4., 6.])
    """

    __slots__ = ("__weakref__", "_data", "_node", "_pins", "_slot", "_version", "grad", "requires_grad")
    __array_ufunc__ = None  # NumPy's operators defer to ours

    def __init__(self, data, requires_grad=False):
        if isinstance(data, Tensor):
            data = data._data
        data = np.asarray(data)
        if data.dtype.kind not in "biuf" or data.dtype.itemsize > 8:
            raise TypeError(f"Tensor: data has dtype {data.dtype}, expected a real number type up to float64")
        self._set(np.asarray(data, np.result_type(data, np.float32)), bool(requires_grad))

    def _set(self, data, requires_grad):
        self._data = data
        self.requires_grad = requires_grad
        self.grad = None
        self._node = None
        self._slot = self._version = self._pins = 0

    @classmethod
    def _of(cls, data, requires_grad):
        tensor = Tensor.__new__(Tensor)
        tensor._set(data, requires_grad)
        return tensor

    @property
    def data(self):
        if self._pins and self._data.flags.writeable:
            view = self._data.view()
            view.flags.writeable = False
            return view
        return self._data

    @data.setter
    def data(self, value):
        value = np.asarray(value, self._data.dtype)
        if value.shape != self._data.shape:
            raise ValueError(f"Tensor.data: the value has shape {value.shape}, expected {self._data.shape}")
        self._data = value
        self._version += 1

    shape = property(lambda self: self._data.shape)
    dtype = property(lambda self: self._data.dtype)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: self._data.size)
    T = property(lambda self: self.transpose())

    def __len__(self):
        return len(self._data)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        body = np.array2string(self._data, prefix="Tensor(", separator=", ")
        return f"Tensor({body}{', requires_grad=True' if self.requires_grad else ''})"

    def _repr_html_(self):
        from html import escape

        grad = " requires gradient" if self.requires_grad else ""
        return f"<pre>{escape(np.array2string(self._data, threshold=60, precision=5))}</pre><p>Tensor {self.shape}, {self.dtype}{grad}</p>"

    def __bool__(self):
        return bool(self._data)

    def __float__(self):
        return float(self.item())

    def __array__(self, dtype=None, copy=None):
        if self.requires_grad:
            raise RuntimeError("Tensor: this tensor needs a gradient, which an array would lose; use .detach().numpy()")
        return np.array(self._data, dtype=dtype, copy=copy) if copy is not None else np.asarray(self._data, dtype=dtype)

    def numpy(self):
        """The array itself; only of a tensor that needs no gradient."""
        return self.__array__()

    def item(self):
        if self.size != 1:
            raise ValueError(f"Tensor.item: the tensor has shape {self.shape}, expected one element")
        return self._data.item()

    def retain_grad(self):
        """Makes ``backward`` leave the gradient in ``.grad`` of this result of a recorded call too, not only of leaves."""
        if not self.requires_grad:
            raise RuntimeError("Tensor.retain_grad: the tensor needs no gradient")
        if self._node is not None:
            self._node.retained = {**(self._node.retained or {}), self._slot: self}
        return self

    def detach(self):
        """The same array, off the tape."""
        return Tensor._of(self._data, False)

    def __setitem__(self, index, value):
        if self._node is not None:
            raise RuntimeError("Tensor: the result of a recorded call cannot be changed in place")
        self._data[index] = value._data if isinstance(value, Tensor) else value
        self._version += 1

    def backward(self, grad=None):
        """Leaves the gradients of this tensor in ``.grad`` of every leaf that requires one, adding to what is there.

        Parameters
        ----------
        grad : array_like, optional
            Gradient of the loss with respect to this tensor, of its shape; 1 for a tensor of one element.
        """
        if not self.requires_grad:
            raise RuntimeError("Tensor.backward: no gradient was asked for; set requires_grad=True on an input")
        if grad is None:
            if self.size != 1:
                raise ValueError(f"Tensor.backward: the tensor has shape {self.shape}, expected one element or an explicit grad")
            grad = _FUNCTIONS["ones_like"](self._data)
        grad = np.asarray(grad._data if isinstance(grad, Tensor) else grad)
        if grad.shape != self.shape:
            raise ValueError(f"Tensor.backward: grad has shape {grad.shape}, expected {self.shape}")
        if self._node is None:
            self._accumulate(np.array(grad, self.dtype), fresh=True)
            return
        nodes = _reachable(self._node)
        pending: dict = {self._node: [None] * len(self._node.outputs)}
        pending[self._node][self._slot] = grad.astype(self.dtype, copy=False)
        for node in nodes:
            outputs = pending.pop(node)
            outputs = (
                [np.zeros(s, t) if g is None else g for g, (s, t) in zip(outputs, node.outputs, strict=True)]
                if len(outputs) == 1
                else outputs
            )
            for slot, tensor in (node.retained or {}).items():
                if outputs[slot] is not None:
                    tensor._accumulate(outputs[slot], fresh=False)
            gradients = node.gradients(outputs)
            inputs = [t for t, n in zip(node.inputs, node.names, strict=False) if n in node.op.differentiable]
            for tensor, gradient in zip(inputs, gradients, strict=False):
                if tensor is None or gradient is None or not tensor.requires_grad:
                    continue
                if tensor._node is None:
                    tensor._accumulate(gradient, node.op.fresh)
                else:
                    slots = pending.setdefault(tensor._node, [None] * len(tensor._node.outputs))
                    before = slots[tensor._slot]
                    slots[tensor._slot] = gradient if before is None else _FUNCTIONS["accumulate"](before, gradient)
            node.release()

    def _accumulate(self, gradient, fresh):
        if self.grad is None:
            self.grad = gradient if fresh else _FUNCTIONS["duplicate"](gradient)
        else:
            self.grad = _FUNCTIONS["accumulate"](self.grad, gradient)

    def backward_program(self):
        """The backward pass as text: one call with its shapes a line, in the order in which ``backward`` makes them."""
        if self._node is None:
            return "(nothing recorded)"
        lines = []
        for node in _reachable(self._node):
            arrays, nested = node.arrays, node.op.nested
            names = node.op.arrays if not node.op.variadic else node.names
            given = ", ".join(
                f"{n}[{len(a)}]" if n in nested else f"{n}{np.shape(a)}" for n, a in zip(names, arrays, strict=False) if a is not None
            )
            asked = [n for n, t in zip(node.names, node.inputs, strict=False) if t is not None and t.requires_grad]
            wanted = ", ".join(f"d{n}" for n in (dict.fromkeys(asked) if nested else asked))
            lines.append(f"{wanted} = {node.op.name}_backward(dy{node.outputs[0][0]}, {given})")
        return "\n".join(lines)

    __add__ = _apply("add")
    __radd__ = _swapped("add")
    __sub__ = _apply("subtract")
    __rsub__ = _swapped("subtract")
    __mul__ = _apply("multiply")
    __rmul__ = _swapped("multiply")
    __truediv__ = _apply("divide")
    __rtruediv__ = _swapped("divide")
    __matmul__ = _apply("matmul")
    __rmatmul__ = _swapped("matmul")
    __neg__ = _apply("negative")
    __getitem__ = _apply("getitem")
    sum = _apply("sum")
    mean = _apply("mean")
    max = _apply("max")
    exp = _apply("exp")
    log = _apply("log")
    sqrt = _apply("sqrt")
    flip = _apply("flip")
    relu = _apply("relu")
    tanh = _apply("tanh")
    sigmoid = _apply("sigmoid")

    def __pow__(self, exponent):
        return _FUNCTIONS["power"](self, exponent=exponent)

    def reshape(self, *shape):
        return _FUNCTIONS["reshape"](self, shape=shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)

    def transpose(self, *axes):
        return _FUNCTIONS["transpose"](self, axes=axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None)


def _reachable(root):
    """The nodes behind `root`, newest first."""
    seen, stack = {root}, [root]
    while stack:
        node = stack.pop()
        if node.inputs is None:
            raise RuntimeError(f"{node.op.name}: backward() already went through this call and released it; run the forward pass again")
        for tensor in node.inputs:
            if tensor is not None and tensor._node is not None and tensor._node not in seen:
                seen.add(tensor._node)
                stack.append(tensor._node)
    return sorted(seen, key=lambda node: -node.number)
