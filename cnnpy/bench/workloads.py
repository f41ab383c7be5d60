"""What is measured. A workload makes a callable for one side; sizes are those of real networks."""

import numpy as np

from cnnpy.bench import families, networks, sequences, training

__all__ = ["CALLS", "CONV", "OURS", "SIDES", "make"]

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
PROBE_ROUNDS = 200_000
PASSES = ("forward", "dx", "dw")
CALLS = ("relu of 8 numbers", "conv2d of 5x5")
OURS = ("cnnpy nhwc", "cnnpy nchw")  # memory orders
SIDES = {
    "torch": ("torch nchw", "torch nhwc"),
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "torch-compile": ("torch compile",),
}


def conv_flops(n, c, k, size, window, stride, groups):
    out = (size + 2 * (window // 2) - window) // stride + 1
    return 2.0 * n * out * out * k * (c // groups) * window * window


def _conv_arrays(n, c, k, size, window, stride, groups):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, c, size, size), np.float32)
    w = rng.standard_normal((k, c // groups, window, window), np.float32) * np.float32(0.05)
    out = (size + 2 * (window // 2) - window) // stride + 1
    return x, w, rng.standard_normal((n, k, out, out), np.float32)


def _our_conv(shape, which, channels_last):
    from cnnpy import functional as F

    x, w, dy = _conv_arrays(*shape)
    if channels_last:
        x, dy = F.channels_last(x), F.channels_last(dy)
    options = {"stride": shape[5], "padding": shape[4] // 2, "groups": shape[6]}
    if which == "forward":
        return lambda: F.conv2d(x, w, **options)
    needs = ("x",) if which == "dx" else ("weight",)
    return lambda: getattr(F.conv2d_backward(dy, x, w, **options, needs=needs), needs[0])


def _torch_conv(shape, which, channels_last):
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
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


def _onnxruntime_conv(shape, which):
    """Inference only: other passes raise NotImplementedError and are left out of the row."""
    if which != "forward":
        raise NotImplementedError(which)
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    x, w, _ = _conv_arrays(*shape)
    pad, stride = shape[4] // 2, shape[5]
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[pad] * 4, strides=[stride] * 2, group=shape[6])
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "conv",
        [value("x", TensorProto.FLOAT, x.shape)],
        [value("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def _our_lenet(batch, channels_last):
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


def _torch_lenet(batch, channels_last):
    import torch
    from torch import nn

    layout = torch.channels_last if channels_last else torch.contiguous_format
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


def _probe(channels_last):
    from cnnpy.functional.runtime import fma_probe

    return lambda: fma_probe(PROBE_ROUNDS)


def _stream(channels_last):
    from cnnpy import functional as F

    x, y = np.zeros(1 << 24, np.float32), np.zeros(1 << 24, np.float32)
    return lambda: F.relu(x, out=y)


def _call(name, channels_last):
    from cnnpy import functional as F

    x = np.arange(8, dtype=np.float32)
    image, kernel = np.ones((1, 1, 5, 5), np.float32), np.ones((1, 1, 3, 3), np.float32)
    one = (lambda: F.relu(x)) if name.startswith("relu") else (lambda: F.conv2d(image, kernel))

    def many():
        for _ in range(1000):
            one()

    return many


_threads = 1


def make(side, workload, threads):
    """The callable of one side (of OURS or SIDES) for a workload tuple."""
    global _threads
    _threads = threads
    kind, *rest = workload
    channels_last = side.endswith("nhwc")
    if side in OURS:
        import cnnpy

        cnnpy.set_num_threads(threads)
        makers: dict = {
            "conv": _our_conv,
            "family": families.make_ours,
            "training": training.make_ours,
            "sequence": sequences.make_ours,
            "lenet": _our_lenet,
            "network": networks.make_ours,
            "probe": _probe,
            "stream": _stream,
            "call": _call,
        }
        return makers[kind](*rest, channels_last)
    if side in ("onnxruntime", "openvino"):
        if kind == "network":
            return (networks.make_onnxruntime if side == "onnxruntime" else networks.make_openvino)(rest[0], threads)
        if kind != "conv" or side == "openvino":
            raise NotImplementedError(kind)
        return _onnxruntime_conv(*rest)
    import torch

    torch.set_num_threads(threads)
    if side == "torch compile":
        if kind != "network":
            raise NotImplementedError(kind)
        return networks.make_torch(rest[0], channels_last=True, compiled=True)
    theirs: dict = {"conv": _torch_conv, "family": families.make_torch, "training": training.make_torch, "lenet": _torch_lenet}
    theirs |= {"sequence": sequences.make_torch, "network": networks.make_torch}
    return theirs[kind](*rest, channels_last)
