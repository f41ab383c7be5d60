"""Workloads of whole networks: inference, and training steps of SGD with momentum. Ours run as compiled programs.

A row is (label, network, batch, mode); modes are 'inference' and 'training'. All sides have the same weights and inputs; dropout is off, because
the libraries draw other masks. PyTorch's networks are written out here; ONNX Runtime and OpenVINO run what ``export_onnx`` writes.
"""

from typing import Any

import numpy as np

__all__ = ["ROWS", "make_onnxruntime", "make_openvino", "make_ours", "make_torch"]

ROWS = [
    ("LeNet batch 1", "lenet5", 1, "inference"),
    ("LeNet batch 64", "lenet5", 64, "inference"),
    ("ResNet-20 batch 128", "resnet20", 128, "inference"),
    ("AlexNet batch 8", "alexnet", 8, "inference"),
    ("VGG16 batch 1", "vgg16", 1, "inference"),
    ("VGG16 batch 4", "vgg16", 4, "inference"),
    ("ResNet-50 batch 1", "resnet50", 1, "inference"),
    ("ResNet-50 batch 8", "resnet50", 8, "inference"),
    ("LeNet batch 1", "lenet5", 1, "training"),
    ("LeNet batch 64", "lenet5", 64, "training"),
    ("ResNet-20 batch 128", "resnet20", 128, "training"),
    ("AlexNet batch 8", "alexnet", 8, "training"),
    ("VGG16 batch 4", "vgg16", 4, "training"),
    ("ResNet-50 batch 8", "resnet50", 8, "training"),
    ("LSTM T100 B32 I512 H512", "lstm", 32, "training"),
]

_INPUTS = {"lenet5": (1, 28, 28), "resnet20": (3, 32, 32), "alexnet": (3, 224, 224), "vgg16": (3, 224, 224), "resnet50": (3, 224, 224)}
STEPS = 100  # of the recurrent row
# The rate of training steps. A new ResNet-50 with batch norms over 8 images is chaotic: at 1e-3 its fourth loss in float32 is a percent away
# from that in float64, so no two sides can be compared; at 1e-4 rounding has not grown so far in five steps.
_RATES = {"resnet50": 1e-4}
_RATE = 1e-3


def _arrays(network, batch):
    rng = np.random.default_rng(0)
    if network == "lstm":
        return rng.standard_normal((batch, STEPS, 512), np.float32), rng.standard_normal((batch, STEPS, 512), np.float32)
    return rng.standard_normal((batch, *_INPUTS[network]), np.float32), np.arange(batch) % 10


def _our_model(network):
    from cnnpy import models, nn

    if network == "lstm":

        class Layer(nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm = nn.LSTM(512, 512, rng=0)

            def forward(self, x):
                return self.lstm(x)[0]

        return Layer()
    model = getattr(models, network)(rng=0)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0
    return model


def make_ours(row, channels_last):
    import cnnpy
    from cnnpy import functional as F

    _, network, batch, mode = row
    model, (x, y) = _our_model(network), _arrays(network, batch)
    if mode == "inference":
        predict = cnnpy.compile(model)
        return lambda: predict(x)
    optimizer = cnnpy.optim.SGD(model.parameters(), lr=_RATES.get(network, _RATE), momentum=0.9)
    step = cnnpy.compile_step(model, F.mse_loss if network == "lstm" else F.cross_entropy, optimizer)
    return lambda: step(x, y)


def _torch_vgg(nn):
    layers, c = [], 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        layers += [nn.Conv2d(c, width, 3, padding=1), nn.ReLU(inplace=True)] if width else [nn.MaxPool2d(2)]
        c = width or c
    head = [nn.Linear(25088, 4096), nn.ReLU(inplace=True), nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, 1000)]
    return nn.Sequential(*layers, nn.Flatten(), *head)


def _torch_alexnet(nn):
    r = {"inplace": True}
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(**r), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(**r), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(**r), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(**r)),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(**r), nn.MaxPool2d(3, 2), nn.Flatten()),
        *(nn.Linear(9216, 4096), nn.ReLU(**r), nn.Linear(4096, 4096), nn.ReLU(**r), nn.Linear(4096, 1000)),
    )


def _torch_lenet(nn):
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
    )


def _torch_resnet(nn, small):
    """The order of parameters is that of ours: a block's own convolutions with their norms, then its shortcut's."""
    import torch

    Module: Any = nn.Module

    class Block(Module):
        def __init__(self, c, k, stride):
            super().__init__()
            out = k if small else 4 * k
            shapes = [(c, k, 3, stride), (k, k, 3, 1)] if small else [(c, k, 1, 1), (k, k, 3, stride), (k, out, 1, 1)]
            self.body = nn.ModuleList()
            for i, o, window, s in shapes:
                self.body += [nn.Conv2d(i, o, window, s, window // 2, bias=False), nn.BatchNorm2d(o)]
            self.side = None
            self.stride, self.more = stride, out - c
            if not small and (stride > 1 or c != out):
                self.side = nn.Sequential(nn.Conv2d(c, out, 1, stride, bias=False), nn.BatchNorm2d(out))

        def forward(self, x):
            y = x
            for i, layer in enumerate(self.body):
                y = layer(y)
                if i % 2 and i + 1 < len(self.body):
                    y = torch.relu_(y)
            if self.side is not None:
                x = self.side(x)
            elif self.more:
                front = self.more // 2
                x = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, front, self.more - front))
            return torch.relu_(y + x)

    widths, depths = ((16, 32, 64), (3, 3, 3)) if small else ((64, 128, 256, 512), (3, 4, 6, 3))
    c = widths[0]
    layers = [
        nn.Conv2d(3, c, 3, padding=1, bias=False) if small else nn.Conv2d(3, c, 7, 2, 3, bias=False),
        nn.BatchNorm2d(c),
        nn.ReLU(inplace=True),
    ]
    layers += [] if small else [nn.MaxPool2d(3, 2, 1)]
    for i, (k, depth) in enumerate(zip(widths, depths, strict=True)):
        for j in range(depth):
            layers.append(Block(c, k, 2 if i and not j else 1))
            c = k if small else 4 * k
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 10 if small else 1000))


def _torch_model(network):
    import torch

    nn: Any = torch.nn

    if network == "lstm":

        class Layer(nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm = nn.LSTM(512, 512, batch_first=True)

            def forward(self, x):
                return self.lstm(x)[0]

        model: Any = Layer()
    else:
        makers = {"vgg16": _torch_vgg, "alexnet": _torch_alexnet, "lenet5": _torch_lenet}
        model = makers[network](nn) if network in makers else _torch_resnet(nn, network == "resnet20")
    with torch.no_grad():
        for theirs, own in zip(model.parameters(), _our_model(network).parameters(), strict=True):
            theirs.copy_(torch.from_numpy(own._data))
    return model


def make_torch(row, channels_last, compiled=False):
    import torch

    _, network, batch, mode = row
    if channels_last and network == "lstm":
        raise NotImplementedError(network)
    x, y = (torch.from_numpy(a) for a in _arrays(network, batch))
    model = _torch_model(network)
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    model = model.train(mode == "training")
    call = torch.compile(model) if compiled else model
    if mode == "inference":

        def infer():
            with torch.inference_mode():
                return call(x)

        return infer
    optimizer = torch.optim.SGD(model.parameters(), _RATES.get(network, _RATE), momentum=0.9)
    loss = torch.nn.functional.mse_loss if network == "lstm" else torch.nn.functional.cross_entropy

    def step():
        optimizer.zero_grad(set_to_none=True)
        value = loss(call(x), y)
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def _exported(row, folder):
    from pathlib import Path

    from cnnpy.io import export_onnx

    _, network, batch, mode = row
    if mode != "inference":
        raise NotImplementedError(mode)
    path = Path(folder) / "model.onnx"
    model, (x, _) = _our_model(network), _arrays(network, batch)
    model.eval()
    export_onnx(model, path, x.shape, dynamic_batch=False)
    return path, x


def make_onnxruntime(row, threads):
    import tempfile

    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path, x = _exported(row, folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})[0]


def make_openvino(row, threads):
    import tempfile

    import openvino

    core = openvino.Core()
    with tempfile.TemporaryDirectory() as folder:
        path, x = _exported(row, folder)
        options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        request = core.compile_model(core.read_model(str(path)), "CPU", options).create_infer_request()
    return lambda: next(iter(request.infer([x], share_inputs=True, share_outputs=True).values()))
