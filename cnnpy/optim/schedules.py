"""Learning rates that change: every schedule sets its optimiser's rates at once and again at every ``step()``."""

import math

from cnnpy.optim.optimizer import Optimizer

__all__ = ["CosineLR", "ExponentialLR", "MultiStepLR", "OneCycleLR", "ReduceLROnPlateau", "Schedule", "StepLR", "WarmupLR"]


class Schedule:
    """A rate that is a function of the number of steps done: ``lr = rate(base, t)``, t = 0 at the start.

    Parameters
    ----------
    optimizer : Optimizer
        Its rates now are the base rates, a group each.
    """

    def __init__(self, optimizer):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: optimizer is {type(optimizer).__name__}, expected an Optimizer")
        self.optimizer, self.t = optimizer, 0
        self.base = [group["lr"] for group in optimizer.param_groups]
        self._set()

    def rate(self, base, t):
        raise NotImplementedError

    def _set(self):
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = self.rate(base, self.t)

    def step(self):
        """One step on: after every epoch, or every batch, as the schedule's numbers are meant."""
        self.t += 1
        self._set()

    def state_dict(self):
        return {"t": self.t, "base": list(self.base)}

    def load_state_dict(self, state):
        if len(state["base"]) != len(self.base):
            raise ValueError(f"{type(self).__name__}.load_state_dict: the state has {len(state['base'])} rates, expected {len(self.base)}")
        self.t, self.base = int(state["t"]), [float(b) for b in state["base"]]
        self._set()


def _integer(owner, name, value, low=1):
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{owner}: {name} is {type(value).__name__}, expected an int")
    if value < low:
        raise ValueError(f"{owner}: {name} is {value}, expected at least {low}")
    return value


class StepLR(Schedule):
    """``lr gamma^floor(t / step_size)``."""

    def __init__(self, optimizer, step_size, gamma=0.1):
        self.step_size, self.gamma = _integer("StepLR", "step_size", step_size), gamma
        super().__init__(optimizer)

    def rate(self, base, t):
        return base * self.gamma ** (t // self.step_size)


class MultiStepLR(Schedule):
    """``lr gamma^(number of milestones <= t)``."""

    def __init__(self, optimizer, milestones, gamma=0.1):
        self.milestones, self.gamma = [_integer("MultiStepLR", "milestones", m, 0) for m in milestones], gamma
        super().__init__(optimizer)

    def rate(self, base, t):
        return base * self.gamma ** sum(m <= t for m in self.milestones)


class ExponentialLR(Schedule):
    """``lr gamma^t``."""

    def __init__(self, optimizer, gamma):
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, base, t):
        return base * self.gamma**t


class CosineLR(Schedule):
    """``eta_min + (lr - eta_min) (1 + cos(pi t / t_max)) / 2``.

    References
    ----------
    I. Loshchilov, F. Hutter, SGDR: stochastic gradient descent with warm restarts, 2017.
    """

    def __init__(self, optimizer, t_max, eta_min=0.0):
        self.t_max, self.eta_min = _integer("CosineLR", "t_max", t_max), eta_min
        super().__init__(optimizer)

    def rate(self, base, t):
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * t / self.t_max)) / 2


class WarmupLR(Schedule):
    """A linear rise to lr: from ``lr / steps`` at t = 0 to lr at ``t = steps - 1``; from ``lr start_factor`` to lr at ``t = steps`` if given."""

    def __init__(self, optimizer, steps, start_factor=None):
        self.steps, self.start_factor = _integer("WarmupLR", "steps", steps), start_factor
        super().__init__(optimizer)

    def rate(self, base, t):
        if self.start_factor is None:
            return base * min(1.0, (t + 1) / self.steps)
        return base * (self.start_factor + (1 - self.start_factor) * min(t, self.steps) / self.steps)


class OneCycleLR(Schedule):
    """Half cosines: from ``max_lr / 25`` up to max_lr at ``t = 0.3 total_steps - 1``, then down to ``max_lr / 250000`` at the last step.

    References
    ----------
    L. Smith, N. Topin, Super-convergence, 2018.
    """

    def __init__(self, optimizer, max_lr, total_steps, pct_start=0.3, div_factor=25.0, final_div_factor=1e4):
        self.max_lr, self.total_steps = max_lr, _integer("OneCycleLR", "total_steps", total_steps)
        self.pct_start, self.div_factor, self.final_div_factor = pct_start, div_factor, final_div_factor
        super().__init__(optimizer)

    def rate(self, base, t):
        if t >= self.total_steps:
            raise ValueError(f"OneCycleLR: step {t} of {self.total_steps}, expected no more steps than total_steps")
        top, low = self.pct_start * self.total_steps - 1, self.max_lr / self.div_factor
        if t <= top:
            return self._between(low, self.max_lr, t / top if top > 0 else 1.0)
        return self._between(self.max_lr, low / self.final_div_factor, (t - top) / (self.total_steps - 1 - top))

    @staticmethod
    def _between(a, b, share):
        return b + (a - b) / 2 * (1 + math.cos(math.pi * share))


class ReduceLROnPlateau(Schedule):
    """Multiplies the rate by `factor` when a number has not become better for more than `patience` steps; ``step(value)``.

    Parameters
    ----------
    optimizer : Optimizer
    mode : {'min', 'max'}
        What better is.
    factor, threshold, min_lr : float
        Better is below ``best (1 - threshold)``, or above ``best (1 + threshold)``.
    patience : int
    """

    def __init__(self, optimizer, mode="min", factor=0.1, patience=10, threshold=1e-4, min_lr=0.0):
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau: mode is {mode!r}, expected 'min' or 'max'")
        self.mode, self.factor, self.patience = mode, factor, _integer("ReduceLROnPlateau", "patience", patience, 0)
        self.threshold, self.min_lr, self.best, self.waited, self.scale = threshold, min_lr, None, 0, 1.0
        super().__init__(optimizer)

    def rate(self, base, t):
        return max(self.min_lr, base * self.scale)

    def step(self, value=None):
        if value is None:
            raise TypeError("ReduceLROnPlateau: step() got no value, expected the number to watch")
        value = float(value)
        sign = 1 if self.mode == "min" else -1
        if self.best is None or sign * value < sign * self.best * (1 - sign * self.threshold):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        if self.waited > self.patience:
            self.scale, self.waited = self.scale * self.factor, 0
        super().step()

    def state_dict(self):
        return {**super().state_dict(), "best": self.best, "waited": self.waited, "scale": self.scale}

    def load_state_dict(self, state):
        self.best, self.waited, self.scale = state["best"], int(state["waited"]), float(state["scale"])
        super().load_state_dict(state)
