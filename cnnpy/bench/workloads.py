"""What is measured. A workload makes a callable for one side; sizes are those of real networks."""

import numpy as np

__all__ = ["CALLS", "CONV", "SIDES", "make"]

# batch, channels, filters, size, window, stride, groups
CONV = [
    (1, 64, 64, 224, 3, 1, 1),
    (1, 128, 128, 112, 3, 1, 1),
    (1, 256, 256, 56, 3, 1, 1),
    (1, 512, 512, 28, 3, 1, 1),
    (1, 512, 512, 14, 3, 1, 1),
    (8, 64, 64, 56, 3, 1, 1),
    (8, 256, 256, 14, 3, 1, 1),
    (8, 512, 512, 7, 3, 1, 1),
    (128, 16, 16, 32, 3, 1, 1),
    (8, 128, 128, 56, 3, 2, 1),
    (8, 256, 64, 56, 1, 1, 1),
    (8, 1024, 256, 14, 1, 1, 1),
    (8, 512, 2048, 7, 1, 1, 1),
    (8, 3, 64, 224, 7, 2, 1),
    (32, 6, 16, 14, 5, 1, 1),
    (8, 256, 256, 28, 3, 1, 256),
]
PASSES = ("forward", "dx", "dw")
CALLS = ("relu of 8 numbers", "conv2d of 5x5")
SIDES = ("cnnpy", "torch nchw", "torch nhwc")


def conv_flops(n, c, k, size, window, stride, groups):
    out = (size + 2 * (window // 2) - window) // stride + 1
    return 2.0 * n * out * out * k * (c // groups) * window * window


def _conv_arrays(n, c, k, size, window, stride, groups):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, c, size, size), np.float32)
    w = rng.standard_normal((k, c // groups, window, window), np.float32) * np.float32(0.05)
    out = (size + 2 * (window // 2) - window) // stride + 1
    return x, w, rng.standard_normal((n, k, out, out), np.float32)


def _our_conv(shape, which):
    from cnnpy import functional as F

    x, w, dy = _conv_arrays(*shape)
    x, dy = F.channels_last(x), F.channels_last(dy)
    options = {"stride": shape[5], "padding": shape[4] // 2, "groups": shape[6]}
    if which == "forward":
        return lambda: F.conv2d(x, w, **options)
    needs = ("x",) if which == "dx" else ("weight",)
    return lambda: getattr(F.conv2d_backward(dy, x, w, **options, needs=needs), needs[0])


def _torch_conv(shape, which, layout):
    import torch

    x, w, dy = (torch.from_numpy(a).to(memory_format=layout) for a in _conv_arrays(*shape))
    s, p, g = shape[5], shape[4] // 2, shape[6]
    if which == "forward":

        def forward():
            with torch.inference_mode():
                return torch.conv2d(x, w, None, s, p, 1, g)

        return forward
    mask = [which == "dx", which == "dw", False]
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(dy, x, w, None, [s, s], [p, p], [1, 1], False, [0, 0], g, mask)[0 if which == "dx" else 1]


def _our_lenet(batch):
    import cnnpy
    from cnnpy import functional as F

    model = cnnpy.models.lenet5(rng=0)
    optimizer = cnnpy.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x = np.random.default_rng(0).standard_normal((batch, 1, 28, 28), np.float32)
    y = np.arange(batch) % 10

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.data

    return step


def _torch_lenet(batch, layout):
    import torch
    from torch import nn

    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
    ).to(memory_format=layout)
    import cnnpy

    ours = cnnpy.models.lenet5(rng=0)  # the same initial weights
    with torch.no_grad():
        for theirs, own in zip(model.parameters(), ours.parameters(), strict=True):
            theirs.copy_(torch.from_numpy(own.data))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((batch, 1, 28, 28), np.float32)).to(memory_format=layout)
    y = torch.arange(batch) % 10

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _probe(threads):
    from cnnpy.functional.runtime import fma_probe

    return lambda: fma_probe(200_000)


def _stream():
    a, b = np.zeros(1 << 24, np.float32), np.zeros(1 << 24, np.float32)
    return lambda: np.copyto(b, a)


def _call(name):
    from cnnpy import functional as F

    x = np.arange(8, dtype=np.float32)
    image, kernel = np.ones((1, 1, 5, 5), np.float32), np.ones((1, 1, 3, 3), np.float32)
    one = (lambda: F.relu(x)) if name.startswith("relu") else (lambda: F.conv2d(image, kernel))

    def many():
        for _ in range(1000):
            one()

    return many


def make(side, workload, threads):
    """The callable of one side ('cnnpy', 'torch nchw', 'torch nhwc') for a workload tuple."""
    kind, *rest = workload
    if side == "cnnpy":
        import cnnpy

        cnnpy.set_num_threads(threads)
        makers: dict = {"conv": _our_conv, "lenet": _our_lenet, "probe": lambda: _probe(threads), "stream": _stream, "call": _call}
        return makers[kind](*rest)
    import torch

    torch.set_num_threads(threads)
    layout = torch.channels_last if side.endswith("nhwc") else torch.contiguous_format
    theirs: dict = {"conv": _torch_conv, "lenet": _torch_lenet}
    return theirs[kind](*rest, layout)
