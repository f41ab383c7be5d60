"""Modules made of modules."""

from cnnpy import functional as F
from cnnpy.autograd import Tensor
from cnnpy.nn.module import Module

__all__ = ["Concat", "Flatten", "Join", "Lambda", "ModuleList", "Residual", "Sequential"]


class Sequential(Module):
    """Modules called one after another; named '0', '1', ... or by the keys of one dict."""

    def __init__(self, *modules):
        super().__init__()
        named = modules[0].items() if len(modules) == 1 and isinstance(modules[0], dict) else enumerate(modules)
        for name, module in named:
            _check_module("Sequential", f"module {name}", module)
            setattr(self, str(name), module)

    def forward(self, x):
        for module in self._modules.values():
            x = module(x)
        return x

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules.values())

    def __getitem__(self, index):
        modules = list(self._modules.values())[index]
        return Sequential(*modules) if isinstance(index, slice) else modules


class ModuleList(Module):
    """A list whose modules are registered; it has no forward of its own."""

    def __init__(self, modules=()):
        super().__init__()
        for module in modules:
            self.append(module)

    def append(self, module):
        setattr(self, str(len(self._modules)), module)
        return self

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules.values())

    def __getitem__(self, index):
        return list(self._modules.values())[index]


def _check_module(owner, name, module):
    if not isinstance(module, Module):
        raise TypeError(f"{owner}: {name} is {type(module).__name__}, expected a Module; wrap a function in nn.Lambda")


class Residual(Module):
    """``activation(body(x) + shortcut(x))``; without a shortcut x itself is added, without an activation the sum is the result.

    With the body's last weights at zero a block without an activation is the identity, one with a ReLU the identity where x >= 0 only.

    Parameters
    ----------
    body : Module
    shortcut : Module, optional
        Brings x to the body's shape, where that differs.
    activation : Module, optional

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning for image recognition, 2016.
    """

    def __init__(self, body, shortcut=None, activation=None):
        super().__init__()
        for name, module in (("body", body), ("shortcut", shortcut), ("activation", activation)):
            if module is not None or name == "body":
                _check_module("Residual", name, module)
        self.body = body
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, x):
        y = self.body(x)
        side = x if self.shortcut is None else self.shortcut(x)
        if y.shape != side.shape:
            raise ValueError(f"Residual: body gives shape {y.shape} and the shortcut {side.shape}, expected the same")
        y = F.array.add(y, side)
        return y if self.activation is None else self.activation(y)


class Concat(Module):
    """The results of several modules for one input, joined along an axis.

    Parameters
    ----------
    *bodies : Module
    axis : int
        1: channels.
    """

    def __init__(self, *bodies, axis=1):
        super().__init__()
        if not bodies:
            raise ValueError("Concat: no modules given, expected at least one")
        for i, module in enumerate(bodies):
            _check_module("Concat", f"module {i}", module)
            setattr(self, str(i), module)
        self.axis = axis

    def forward(self, x):
        return F.concatenate([module(x) for module in self._modules.values()], axis=self.axis)

    def extra_repr(self):
        return f"axis={self.axis}"


class Join(Module):
    """Joins its inputs along an axis: the meeting of two paths, where :class:`Concat` makes several paths of one input."""

    def __init__(self, axis=1):
        super().__init__()
        self.axis = axis

    def forward(self, *inputs):
        return F.concatenate(list(inputs), axis=self.axis)

    def extra_repr(self):
        return f"axis={self.axis}"


class Lambda(Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)

    def extra_repr(self):
        return getattr(self.function, "__name__", repr(self.function))


class Flatten(Module):
    """``(N, C, H, W)`` to ``(N, C*H*W)``, features in C order whatever the memory order."""

    def forward(self, x):
        shape = (len(x), -1) if len(x) else (0, _product(x.shape[1:]))
        return x.reshape(shape) if isinstance(x, Tensor) else F.array.reshape(x, shape=shape)


def _product(values):
    result = 1
    for v in values:
        result *= v
    return result
