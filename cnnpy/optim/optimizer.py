"""SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, and clipping."""

import math

import numpy as np

from cnnpy.autograd import Tensor
from cnnpy.functional.update import adadelta_update, adagrad_update, adam_update, rmsprop_update, scale, sgd_update, sum_squares

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "clip_grad_norm"]


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

    def numbers(self, group, state, ahead=1):
        """The scalars of a parameter's update `ahead` steps after `state`, by the names that the core's ``cnn_update`` has for them."""
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

    def numbers(self, group, state, ahead=1):
        return {"rate": group["lr"]} | {k: group[k] for k in ("momentum", "weight_decay", "nesterov")}


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

    def numbers(self, group, state, ahead=1):
        step, (beta1, beta2) = state["step"] + ahead, group["betas"]
        corrections = {"correction1": 1 - beta1**step, "correction2": (1 - beta2**step) ** 0.5}
        return {
            "rate": group["lr"],
            "beta1": beta1,
            "beta2": beta2,
            "epsilon": group["eps"],
            "weight_decay": group["weight_decay"],
        } | corrections


class AdamW(Adam):
    """Adam with decoupled weight decay: ``w -= lr weight_decay w`` beside the step, not inside the gradient.

    References
    ----------
    I. Loshchilov, F. Hutter, Decoupled weight decay regularization, 2019.
    """

    decoupled = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, lr, betas, eps, weight_decay)


class RMSprop(Optimizer):
    """Divides by a running root mean square: ``v = alpha v + (1 - alpha) g^2``, ``w -= lr g / (sqrt(v) + eps)``.

    Parameters
    ----------
    params : iterable of Parameter or of groups
    lr, alpha, eps, weight_decay : float
    momentum : float
        ``b = momentum b + g / D``, ``w -= lr b``.
    centered : bool
        Subtract the square of the running mean of g from v.

    References
    ----------
    T. Tieleman, G. Hinton, lecture 6.5, 2012.
    """

    limits = {
        "lr": (0, math.inf),
        "alpha": (0, 1),
        "eps": (0, math.inf),
        "weight_decay": (0, math.inf),
        "momentum": (0, 1),
        "centered": bool,
    }

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered)

    def _update(self, p, state, group):
        for name, wanted in (("v", True), ("velocity", group["momentum"] > 0), ("average", group["centered"])):
            if wanted and name not in state:
                state[name] = np.zeros(p.shape, p.dtype)
        options = {k: group[k] for k in ("lr", "alpha", "momentum", "eps", "weight_decay")}
        rmsprop_update(p._data, p.grad, state["v"], state.get("velocity"), state.get("average"), **options)

    def numbers(self, group, state, ahead=1):
        return {
            "rate": group["lr"],
            "beta2": group["alpha"],
            "momentum": group["momentum"],
            "epsilon": group["eps"],
            "weight_decay": group["weight_decay"],
        }


class Adagrad(Optimizer):
    """Divides by the root of all squares so far: ``S += g^2``, ``w -= lr / (1 + (t - 1) lr_decay) g / (sqrt(S) + eps)``.

    References
    ----------
    J. Duchi, E. Hazan, Y. Singer, Adaptive subgradient methods, 2011.
    """

    limits = {"lr": (0, math.inf), "lr_decay": (0, math.inf), "eps": (0, math.inf), "weight_decay": (0, math.inf)}

    def __init__(self, params, lr=1e-2, lr_decay=0.0, weight_decay=0.0, eps=1e-10):
        super().__init__(params, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps)

    def _update(self, p, state, group):
        if not state:
            state.update(step=0, total=np.zeros(p.shape, p.dtype))
        state["step"] += 1
        lr = group["lr"] / (1 + (state["step"] - 1) * group["lr_decay"])
        adagrad_update(p._data, p.grad, state["total"], lr=lr, eps=group["eps"], weight_decay=group["weight_decay"])

    def numbers(self, group, state, ahead=1):
        lr = group["lr"] / (1 + (state["step"] + ahead - 1) * group["lr_decay"])
        return {"rate": lr, "epsilon": group["eps"], "weight_decay": group["weight_decay"]}


class Adadelta(Optimizer):
    """Steps in units of the parameter: ``D = sqrt(z + eps) / sqrt(v + eps) g``, v and z running mean squares of g and D.

    References
    ----------
    M. Zeiler, Adadelta: an adaptive learning rate method, 2012.
    """

    limits = {"lr": (0, math.inf), "rho": (0, 1), "eps": (0, math.inf), "weight_decay": (0, math.inf)}

    def __init__(self, params, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)

    def _update(self, p, state, group):
        if not state:
            state.update(v=np.zeros(p.shape, p.dtype), z=np.zeros(p.shape, p.dtype))
        adadelta_update(p._data, p.grad, state["v"], state["z"], **{k: group[k] for k in ("lr", "rho", "eps", "weight_decay")})

    def numbers(self, group, state, ahead=1):
        return {"rate": group["lr"], "beta2": group["rho"], "epsilon": group["eps"], "weight_decay": group["weight_decay"]}


def clip_grad_norm(parameters, max_norm):
    """Scales all gradients so that their common norm is at most `max_norm`; returns the norm before.

    Parameters
    ----------
    parameters : iterable of Parameter
        Those without a gradient are passed over.
    max_norm : float, above 0

    Returns
    -------
    float

    Notes
    -----
    ``g *= min(1, max_norm / (norm + 1e-6))``, the norm over all gradients together. A NaN norm makes every gradient NaN; an infinite one
    makes finite gradients 0 and infinite ones NaN.
    """
    limit = _number("clip_grad_norm", "max_norm", max_norm, 0, math.inf)
    if limit == 0:
        raise ValueError("clip_grad_norm: max_norm is 0, expected a number above 0")
    members = [p for p in parameters if p.grad is not None]
    for p in members:
        if not (p.grad.flags.c_contiguous and p.grad.flags.writeable):
            p.grad = np.array(p.grad, order="C")
    norm = math.sqrt(math.fsum(sum_squares(p.grad) for p in members)) if members else 0.0
    factor = limit / (norm + 1e-6)
    if not factor >= 1:
        for p in members:
            scale(p.grad, factor)
    return norm
