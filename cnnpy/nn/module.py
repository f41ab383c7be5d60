"""Module and Parameter."""

from __future__ import annotations

from html import escape

import numpy as np

from cnnpy.autograd import Tensor

__all__ = ["Module", "Parameter"]


class Parameter(Tensor):
    """A Tensor that a module owns and an optimiser changes."""

    __slots__ = ()

    def __init__(self, data, requires_grad=True):
        super().__init__(data, requires_grad)

    def __repr__(self):
        return f"Parameter(shape {self.shape}, {self.dtype})"


class Module:
    """A layer or a network: parameters, buffers, submodules, and ``forward``.

    Assigning a :class:`Parameter` or a Module to an attribute registers it under that name; ``register_buffer`` keeps an array that is
    saved but not trained, and an array assigned to its name later takes its place. Calling the module calls ``forward``.
    """

    _parameters: dict
    _buffers: dict
    _modules: dict
    _forward_hooks: list
    training: bool
    _frozen: bool

    def __init__(self):
        object.__setattr__(self, "_parameters", {})
        object.__setattr__(self, "_buffers", {})
        object.__setattr__(self, "_modules", {})
        object.__setattr__(self, "_forward_hooks", [])
        object.__setattr__(self, "training", True)
        object.__setattr__(self, "_frozen", False)

    def forward(self, *args, **options):
        raise NotImplementedError(f"{type(self).__name__}: forward is not defined")

    def __call__(self, *args, **options):
        result = self.forward(*args, **options)
        for hook in self._forward_hooks:
            hook(self, args, result)
        return result

    def register_forward_hook(self, hook):
        """Calls ``hook(module, args, result)`` after every forward; returns a function that removes it."""
        self._forward_hooks.append(hook)
        return lambda: self._forward_hooks.remove(hook)

    def __setattr__(self, name, value):
        if "_modules" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__}: call super().__init__() before assigning {name}")
        if name in self._parameters and not (value is None or isinstance(value, (Parameter, Module))):
            raise TypeError(
                f"{type(self).__name__}: {name} is a parameter, and {type(value).__name__} was assigned to it, expected a Parameter; "
                f"`{name}.data[...] = array` changes its values"
            )
        is_buffer = name in self._buffers and not isinstance(value, (Parameter, Module))
        if is_buffer and not (value is None or isinstance(value, (np.ndarray, np.generic))):
            raise TypeError(
                f"{type(self).__name__}: {name} is a buffer, and {type(value).__name__} was assigned to it, expected an array or None"
            )
        if is_buffer:  # which keeps its place in the state
            self._buffers[name] = value = None if value is None else np.asarray(value)
            object.__setattr__(self, name, value)
            return
        for registry in (self._parameters, self._buffers, self._modules):
            registry.pop(name, None)
        if isinstance(value, Parameter):
            self._parameters[name] = value
        elif isinstance(value, Module):
            self._modules[name] = value
        object.__setattr__(self, name, value)

    def __delattr__(self, name):
        for registry in (self._parameters, self._buffers, self._modules):
            registry.pop(name, None)
        object.__delattr__(self, name)

    def register_buffer(self, name, array):
        """Keeps an array (or None) that ``state_dict`` holds and the optimiser does not see."""
        setattr(self, name, array)
        self._buffers[name] = array

    def children(self):
        return iter(self._modules.values())

    def named_children(self):
        return iter(self._modules.items())

    def named_modules(self, prefix=""):
        yield prefix, self
        for name, child in self._modules.items():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self):
        return (m for _, m in self.named_modules())

    def named_parameters(self):
        seen = set()
        for prefix, module in self.named_modules():
            for name, parameter in module._parameters.items():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield (f"{prefix}.{name}" if prefix else name), parameter

    def parameters(self):
        return (p for _, p in self.named_parameters())

    def named_buffers(self):
        for prefix, module in self.named_modules():
            for name in module._buffers:
                value = getattr(module, name)
                if value is not None:
                    yield (f"{prefix}.{name}" if prefix else name), value

    def buffers(self):
        return (b for _, b in self.named_buffers())

    def train(self, mode=True):
        """Training mode, for this module and all inside but frozen ones; ``eval()`` is the other."""
        for module in self.modules():
            object.__setattr__(module, "training", bool(mode) and not module._frozen)
        return self

    def eval(self):
        return self.train(False)

    def zero_grad(self):
        for parameter in self.parameters():
            parameter.grad = None

    def freeze(self, frozen=True):
        """Parameters take no gradient any more and modules stay in evaluation mode: statistics and dropout rest too. ``freeze(False)`` undoes it."""
        for parameter in self.parameters():
            parameter.requires_grad = not frozen
        for module in self.modules():
            object.__setattr__(module, "_frozen", bool(frozen))
            object.__setattr__(module, "training", not frozen)
        return self

    def apply(self, function):
        """Calls ``function(module)`` for every module inside, then for this one."""
        for child in self._modules.values():
            child.apply(function)
        function(self)
        return self

    def to(self, dtype):
        """Converts parameters and real buffers to float32 or float64."""
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"Module.to: dtype is {dtype}, expected float32 or float64")
        for parameter in self.parameters():
            parameter._data = parameter._data.astype(dtype)
            parameter._version += 1
            parameter.grad = None
        for module in self.modules():
            for name in list(module._buffers):
                value = getattr(module, name)
                if value is not None and value.dtype.kind == "f":
                    module.register_buffer(name, value.astype(dtype))
        return self

    def state_dict(self):
        """Every parameter and buffer under its dotted name, as arrays that share memory with the module."""
        state = {}
        for prefix, module in self.named_modules():
            dot = f"{prefix}." if prefix else ""
            for name, parameter in module._parameters.items():
                state[dot + name] = parameter._data
            for name in module._buffers:
                if getattr(module, name) is not None:
                    state[dot + name] = getattr(module, name)
        return state

    def load_state_dict(self, state, strict=True):
        """Copies arrays into parameters and buffers by name, all or nothing.

        Raises
        ------
        ValueError
            Names that are missing or unexpected (with ``strict``), or arrays of another shape: all of them are listed.
        """
        own = self.state_dict()
        missing = [n for n in own if n not in state]
        unexpected = [n for n in state if n not in own]
        arrays = {n: np.asarray(state[n]) for n in own if n in state}
        misshapen = [f"{n} has shape {a.shape}, expected {own[n].shape}" for n, a in arrays.items() if a.shape != own[n].shape]
        problems = [*misshapen]
        if strict:
            problems += [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unexpected: {', '.join(unexpected)}"] * bool(unexpected)
        if problems:
            raise ValueError("load_state_dict: " + "; ".join(problems))
        for name, array in arrays.items():
            own[name][...] = array
        for parameter in self.parameters():
            parameter._version += 1
        return self

    def extra_repr(self):
        return ""

    def _repr_html_(self):
        """In Jupyter: the layers with their parameters, one a line."""
        rows = []
        for name, module in self.named_modules():
            own = sum(p.size for p in module._parameters.values())
            if own or not module._modules:
                shapes = ", ".join(f"{n} {'x'.join(map(str, p.shape))}" for n, p in module._parameters.items())
                rows.append((name or "", f"{type(module).__name__}({module.extra_repr()})", shapes, f"{own:,}"))
        total = sum(p.size for p in self.parameters())
        cells = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
        head = "<tr><th>name</th><th>layer</th><th>parameters</th><th>count</th></tr>"
        return f"<table>{head}{cells}</table><p>{escape(type(self).__name__)}: {total:,} parameters</p>"

    def __repr__(self):
        head = f"{type(self).__name__}({self.extra_repr()}"
        if not self._modules:
            return head + ")"
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self._modules.items()]
        return "\n".join([head, *lines, ")"])
