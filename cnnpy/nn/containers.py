"""Modules made of modules."""

from cnnpy import functional as F
from cnnpy.autograd import Tensor
from cnnpy.nn.module import Module

__all__ = ["Flatten", "Lambda", "ModuleList", "Sequential"]


class Sequential(Module):
    """Modules called one after another; named '0', '1', ... or by the keys of one dict."""

    def __init__(self, *modules):
        super().__init__()
        named = modules[0].items() if len(modules) == 1 and isinstance(modules[0], dict) else enumerate(modules)
        for name, module in named:
            if not isinstance(module, Module):
                raise TypeError(f"Sequential: module {name} is {type(module).__name__}, expected a Module; wrap a function in nn.Lambda")
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
