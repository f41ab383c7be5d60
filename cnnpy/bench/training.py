"""Workloads of what stands around convolutions in training: norms, activations, dropout, losses, optimisers; forward and backward together.

A row is (label, kind, shape, options). Of optimisers the shape is None: they update the tensors of ResNet-18; PyTorch's second side is then its fused form.
"""

import numpy as np

__all__ = ["ROWS", "UPDATES", "make_ours", "make_torch", "traffic"]

ROWS = [
    ("batch norm + ReLU, 64 @56", "batch_norm_relu", (8, 64, 56, 56), {}),
    ("batch norm + ReLU, 16 @32", "batch_norm_relu", (128, 16, 32, 32), {}),
    ("batch norm + ReLU, 512 @7", "batch_norm_relu", (32, 512, 7, 7), {}),
    ("layer norm of 512", "layer_norm", (3200, 512), {}),
    ("group norm, 32 groups, 256 @28", "group_norm", (8, 256, 28, 28), {"groups": 32}),
    ("ReLU, 64 @112", "relu", (8, 64, 112, 112), {}),
    ("GELU, 64 @56", "gelu", (8, 64, 56, 56), {}),
    ("tanh, 64 @56", "tanh", (8, 64, 56, 56), {}),
    ("sigmoid, 64 @56", "sigmoid", (8, 64, 56, 56), {}),
    ("SiLU, 64 @56", "silu", (8, 64, 56, 56), {}),
    ("softmax of 1000", "softmax", (1024, 1000), {}),
    ("dropout, 64 @56", "dropout", (8, 64, 56, 56), {}),
    ("softmax cross-entropy of 10", "cross_entropy", (4096, 10), {}),
    ("softmax cross-entropy of 1000", "cross_entropy", (1024, 1000), {}),
    ("SGD, momentum, weight decay", "SGD", None, {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}),
    ("SGD, Nesterov", "SGD", None, {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    ("Adam", "Adam", None, {"lr": 1e-3}),
    ("AdamW", "AdamW", None, {"lr": 1e-3}),
    ("RMSprop", "RMSprop", None, {"lr": 1e-3}),
    ("Adagrad", "Adagrad", None, {"lr": 1e-3}),
    ("Adadelta", "Adadelta", None, {"lr": 1.0}),
]

UPDATES = {"SGD": 5, "Adam": 7, "AdamW": 7, "RMSprop": 5, "Adagrad": 5, "Adadelta": 7}  # read and written, of the parameters' size


def _sizes():
    from cnnpy import models

    return [p.shape for p in models.resnet18(rng=0).parameters()]


def traffic(row):
    """Bytes that a step must move: of an operation x and dy read, y and dx written."""
    _, kind, shape, _ = row
    if shape is None:
        return 4.0 * UPDATES[kind] * sum(int(np.prod(s)) for s in _sizes())
    return 16.0 * float(np.prod(shape))


def _arrays(shape):
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape, np.float32), rng.standard_normal(shape, np.float32)


def _our_optimizer(kind, options):
    from cnnpy import optim
    from cnnpy.nn import Parameter

    rng = np.random.default_rng(0)
    parameters = [Parameter(rng.standard_normal(s, np.float32)) for s in _sizes()]
    for p in parameters:
        p.grad = rng.standard_normal(p.shape, np.float32)
    optimizer = getattr(optim, kind)(parameters, **options)
    return lambda: (optimizer.step(), parameters[0]._data.ravel()[:100].copy())[1]


def make_ours(row, channels_last):
    """The callable of a row with arrays in one of the two memory orders."""
    from cnnpy import functional as F

    _, kind, shape, options = row
    if shape is None:
        return _our_optimizer(kind, options)
    x, dy = _arrays(shape)
    if channels_last and len(shape) == 4:
        x, dy = F.channels_last(x), F.channels_last(dy)
    c = shape[1]
    weight, bias = np.ones(c, np.float32), np.zeros(c, np.float32)
    if kind == "batch_norm_relu":
        mean, var = np.zeros(c, np.float32), np.ones(c, np.float32)

        def step():
            y, cache = F.batch_norm(x, mean, var, weight, bias, training=True, return_cache=True)
            F.relu(y)
            dz = F.relu_backward(dy, y).x
            return F.batch_norm_backward(dz, x, mean, var, weight, bias, training=True, cache=cache).x

        return step
    if kind == "layer_norm":

        def step():
            _, cache = F.layer_norm(x, c, weight, bias, return_cache=True)
            return F.layer_norm_backward(dy, x, c, weight, bias, cache=cache).x

        return step
    if kind == "group_norm":

        def step():
            _, cache = F.group_norm(x, options["groups"], weight, bias, return_cache=True)
            return F.group_norm_backward(dy, x, options["groups"], weight, bias, cache=cache).x

        return step
    if kind == "dropout":

        def step():
            F.dropout(x, 0.5, rng=3)
            return F.dropout_backward(dy, x, 0.5, rng=3).x

        return step
    if kind == "cross_entropy":
        y = np.arange(shape[0]) % c

        def step():
            F.cross_entropy(x, y)
            return F.cross_entropy_backward(np.float32(1), x, y).logits

        return step
    forward, backward = getattr(F, kind), getattr(F, kind + "_backward")
    if kind in ("tanh", "sigmoid", "softmax"):

        def step():
            _, cache = forward(x, return_cache=True)
            return backward(dy, x, cache=cache).x

        return step
    return lambda: (forward(x), backward(dy, x).x)[1]


def _torch_optimizer(kind, options, fused):
    import torch

    rng = np.random.default_rng(0)
    parameters = [torch.nn.Parameter(torch.from_numpy(rng.standard_normal(s, np.float32))) for s in _sizes()]
    for p in parameters:
        p.grad = torch.from_numpy(rng.standard_normal(tuple(p.shape), np.float32))
    if fused and kind not in ("SGD", "Adam", "AdamW", "Adagrad"):
        raise NotImplementedError(kind)
    optimizer = getattr(torch.optim, kind)(parameters, **options, **({"fused": True} if fused else {}))
    return lambda: (optimizer.step(), parameters[0].detach().flatten()[:100].clone())[1]


def make_torch(row, channels_last):
    """PyTorch's callable: its operations and its own graph."""
    import torch
    import torch.nn.functional as T

    _, kind, shape, options = row
    if shape is None:
        return _torch_optimizer(kind, options, channels_last)
    layout = torch.channels_last if channels_last and len(shape) == 4 else torch.contiguous_format
    x, dy = (torch.from_numpy(a).to(memory_format=layout) for a in _arrays(shape))
    x.requires_grad_()
    c = shape[1]
    weight, bias = torch.nn.Parameter(torch.ones(c)), torch.nn.Parameter(torch.zeros(c))
    target = torch.arange(shape[0]) % c
    mean, var = torch.zeros(c), torch.ones(c)
    inputs = [x, weight, bias] if kind in ("batch_norm_relu", "layer_norm", "group_norm") else [x]
    forward = {
        "batch_norm_relu": lambda: T.relu(T.batch_norm(x, mean, var, weight, bias, training=True), inplace=True),
        "layer_norm": lambda: T.layer_norm(x, (c,), weight, bias),
        "group_norm": lambda: T.group_norm(x, options["groups"], weight, bias),
        "dropout": lambda: T.dropout(x, 0.5),
        "cross_entropy": lambda: T.cross_entropy(x, target),
        "softmax": lambda: T.softmax(x, 1),
    }.get(kind, lambda: getattr(T, kind)(x))
    gradient = None if kind == "cross_entropy" else dy
    return lambda: torch.autograd.grad(forward(), inputs, gradient)[0]
