"""Trajectories of every optimiser and schedule against PyTorch's, in float64 (the bench extra)."""

import numpy as np
import pytest

from cnnpy import optim
from cnnpy.nn import Parameter

torch = pytest.importorskip("torch", reason="PyTorch is not installed: it comes with the bench extra")

OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.02}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.02}),
    ("RMSprop", {"lr": 0.02, "alpha": 0.9, "momentum": 0.5, "centered": True, "weight_decay": 0.01}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.01}),
    ("Adadelta", {"lr": 0.7, "rho": 0.8, "weight_decay": 0.01}),
]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=lambda v: v if isinstance(v, str) else ",".join(v))
def test_trajectory(name, options, rng):
    """30 steps: rounding of a few operations a step, so 1e-12."""
    start = rng.normal(size=(7, 5))
    own, other = Parameter(start.copy()), torch.nn.Parameter(torch.from_numpy(start.copy()))
    ours, theirs = getattr(optim, name)([own], **options), getattr(torch.optim, name)([other], **options)
    for step in range(30):
        gradient = rng.normal(size=start.shape) + 0.3 * np.asarray(own._data)
        own.grad, other.grad = gradient.copy(), torch.from_numpy(gradient.copy())
        ours.step()
        theirs.step()
        np.testing.assert_allclose(own._data, other.detach().numpy(), rtol=1e-12, atol=1e-12, err_msg=f"step {step}")
    assert not np.allclose(own._data, start)


S = torch.optim.lr_scheduler
SCHEDULES = [
    (lambda o: optim.StepLR(o, 4, gamma=0.3), lambda o: S.StepLR(o, 4, gamma=0.3)),
    (lambda o: optim.MultiStepLR(o, [3, 9], gamma=0.3), lambda o: S.MultiStepLR(o, [3, 9], gamma=0.3)),
    (lambda o: optim.ExponentialLR(o, 0.9), lambda o: S.ExponentialLR(o, 0.9)),
    (lambda o: optim.CosineLR(o, 15, eta_min=0.01), lambda o: S.CosineAnnealingLR(o, 15, eta_min=0.01)),
    (lambda o: optim.WarmupLR(o, 5, 0.2), lambda o: S.LinearLR(o, 0.2, 1.0, 5)),
]


@pytest.mark.parametrize(("ours", "theirs"), SCHEDULES, ids=["step", "multi-step", "exponential", "cosine", "warm-up"])
def test_schedule(ours, theirs):
    own, other = optim.SGD([Parameter(np.zeros(1))], lr=0.5), torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    a, b = ours(own), theirs(other)
    for _ in range(14):
        assert own.lr == pytest.approx(other.param_groups[0]["lr"], rel=1e-12)
        own.step()
        other.step()
        a.step()
        b.step()


def test_reduce_on_plateau():
    own, other = optim.SGD([Parameter(np.zeros(1))], lr=0.5), torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    a, b = optim.ReduceLROnPlateau(own, factor=0.3, patience=2), S.ReduceLROnPlateau(other, factor=0.3, patience=2)
    for value in (3, 2, 2, 2, 2, 2, 1.5, 1.6, 1.6, 1.6, 1.6):
        a.step(value)
        b.step(value)
        assert own.lr == pytest.approx(other.param_groups[0]["lr"], rel=1e-12)


def test_clip_grad_norm(rng):
    gradients = [rng.normal(size=s) for s in ((3, 4), (7,))]
    own = [Parameter(np.zeros(g.shape)) for g in gradients]
    other = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gradients]
    for p, q, g in zip(own, other, gradients, strict=True):
        p.grad, q.grad = g.copy(), torch.from_numpy(g.copy())
    assert optim.clip_grad_norm(own, 1.5) == pytest.approx(float(torch.nn.utils.clip_grad_norm_(other, 1.5)), rel=1e-12)
    for p, q in zip(own, other, strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-6)  # PyTorch adds 1e-6 to the norm
