"""SGD, Adam and AdamW."""

import math

import numpy as np

from cnnpy.autograd import Tensor
from cnnpy.functional.update import adam_update, sgd_update

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


def _number(function, name, value, low, high):
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{function}: {name} is {type(value).__name__}, expected a real number")
    if not low <= value <= high:
        raise ValueError(f"{function}: {name} is {value!r}, expected a number from {low} to {high}")
    return float(value)


class Optimizer:
    """What all optimisers share: parameter groups, state, ``zero_grad``, ``state_dict``.

    Parameters
    ----------
    params : iterable of Parameter, or of dicts {'params': ..., option: value}
    """

    limits: dict = {}

    def __init__(self, params, **defaults):
        self.defaults = self._checked(defaults)
        params = list(params)
        groups = params if params and isinstance(params[0], dict) else [{"params": params}]
        self.param_groups = []
        seen = set()
        for group in groups:
            options = {**self.defaults, **self._checked({k: v for k, v in group.items() if k != "params"})}
            members = list(group["params"])
            for p in members:
                if not isinstance(p, Tensor):
                    raise TypeError(f"{type(self).__name__}: params holds {type(p).__name__}, expected Parameters")
                if id(p) in seen:
                    raise ValueError(f"{type(self).__name__}: params holds a parameter twice")
                seen.add(id(p))
            self.param_groups.append({"params": members, **options})
        if not seen:
            raise ValueError(f"{type(self).__name__}: params is empty")
        self.state = {}

    def _checked(self, options):
        for name, value in options.items():
            if name not in self.limits:
                raise TypeError(f"{type(self).__name__}: unexpected option {name!r}")
            limit = self.limits[name]
            if limit is bool:
                if not isinstance(value, bool):
                    raise TypeError(f"{type(self).__name__}: {name} is {type(value).__name__}, expected True or False")
            elif name == "betas":
                options[name] = tuple(_number(type(self).__name__, name, b, *limit) for b in value)
            else:
                options[name] = _number(type(self).__name__, name, value, *limit)
        return options

    @property
    def lr(self):
        """The learning rate now; setting it sets it for every group."""
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value):
        value = _number(type(self).__name__, "lr", value, *self.limits["lr"])
        for group in self.param_groups:
            group["lr"] = value

    def _parameters(self):
        return [p for group in self.param_groups for p in group["params"]]

    def zero_grad(self):
        for p in self._parameters():
            p.grad = None

    def step(self):
        """Updates every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if not (p._data.flags.c_contiguous and p._data.flags.writeable):
                    p._data = np.array(p._data, order="C")
                self._update(p, self.state.setdefault(id(p), {}), group)
                p._version += 1

    def _update(self, p, state, group):
        raise NotImplementedError

    def state_dict(self):
        """Options, and state by the parameter's number; arrays are copies."""
        numbers = {id(p): i for i, p in enumerate(self._parameters())}
        return {
            "groups": [
                {k: v for k, v in g.items() if k != "params"} | {"params": [numbers[id(p)] for p in g["params"]]} for g in self.param_groups
            ],
            "state": {
                numbers[key]: {k: np.array(v) if isinstance(v, np.ndarray) else v for k, v in s.items()} for key, s in self.state.items()
            },
        }

    def load_state_dict(self, state):
        params = self._parameters()
        sizes = [len(g["params"]) for g in self.param_groups]
        if [len(g["params"]) for g in state["groups"]] != sizes:
            raise ValueError(f"{type(self).__name__}.load_state_dict: the groups have other sizes than {sizes}")
        loaded = {}
        for number, values in state["state"].items():
            p = params[int(number)]
            for key, value in values.items():
                if isinstance(value, np.ndarray) and value.shape != p.shape:
                    raise ValueError(
                        f"{type(self).__name__}.load_state_dict: {key} of parameter {number} has shape {value.shape}, expected {p.shape}"
                    )
            loaded[id(p)] = {k: np.array(v, p.dtype, order="C") if isinstance(v, np.ndarray) else v for k, v in values.items()}
        for group, saved in zip(self.param_groups, state["groups"], strict=True):
            group.update(self._checked({k: v for k, v in saved.items() if k in self.limits}))
        self.state = loaded


class SGD(Optimizer):
    """Stochastic gradient descent: ``v = momentum v + g``, ``w -= lr v``; Nesterov: ``w -= lr (g + momentum v)``; ``g`` includes ``weight_decay w``.

    Parameters
    ----------
    params : iterable of Parameter or of groups
    lr : float
    momentum, weight_decay : float
    nesterov : bool
    """

    limits = {"lr": (0, math.inf), "momentum": (0, 1), "weight_decay": (0, math.inf), "nesterov": bool}

    def __init__(self, params, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov is True, expected a momentum above 0 with it")
        super().__init__(params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

    def _update(self, p, state, group):
        velocity, first = None, False
        if group["momentum"]:
            first = "velocity" not in state
            velocity = state.setdefault("velocity", np.empty_like(p._data)) if first else state["velocity"]
        options = {k: group[k] for k in ("lr", "momentum", "weight_decay", "nesterov")}
        sgd_update(p._data, p.grad, velocity, first=first, **options)


class Adam(Optimizer):
    """Adam: moments ``m``, ``v`` of the gradient, corrected for their start at 0; ``w -= lr m / (sqrt(v) + eps)``.

    References
    ----------
    D. Kingma, J. Ba, Adam: a method for stochastic optimization, 2015.
    """

    limits = {"lr": (0, math.inf), "betas": (0, 1), "eps": (0, math.inf), "weight_decay": (0, math.inf)}
    decoupled = False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _update(self, p, state, group):
        if not state:
            state.update(step=0, m=np.zeros(p.shape, p.dtype), v=np.zeros(p.shape, p.dtype))
        state["step"] += 1
        options = {k: group[k] for k in ("lr", "betas", "eps", "weight_decay")}
        adam_update(p._data, p.grad, state["m"], state["v"], step=state["step"], decoupled=self.decoupled, **options)


class AdamW(Adam):
    """Adam with decoupled weight decay: ``w -= lr weight_decay w`` beside the step, not inside the gradient.

    References
    ----------
    I. Loshchilov, F. Hutter, Decoupled weight decay regularization, 2019.
    """

    decoupled = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, lr, betas, eps, weight_decay)
