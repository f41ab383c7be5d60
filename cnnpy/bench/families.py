"""Workloads of every operation on images beside the plain 2-D layers: other ranks and options of convolution, pools, padding, resizing.

A row is (label, operation, shape of x, shape of the weight or None, options); options are those of :mod:`cnnpy.functional`.
"""

import numpy as np

__all__ = ["ROWS", "flops", "make_ours", "make_torch", "traffic"]

ROWS = [
    ("conv1d 64->64, 4096, k3", "conv1d", (16, 64, 4096), (64, 64, 3), {"padding": 1}),
    ("conv1d 64->64, 4096, k3 dilation 8", "conv1d", (16, 64, 4096), (64, 64, 3), {"padding": 8, "dilation": 8}),
    ("conv3d 64->64, 8x28x28, k3", "conv3d", (2, 64, 8, 28, 28), (64, 64, 3, 3, 3), {"padding": 1}),
    ("conv2d 64->64 @56, k3 dilation 2", "conv2d", (8, 64, 56, 56), (64, 64, 3, 3), {"padding": 2, "dilation": 2}),
    ("conv2d 64->128 @56, k3 stride 2", "conv2d", (8, 64, 56, 56), (128, 64, 3, 3), {"padding": 1, "stride": 2}),
    ("conv2d 128->128 @28, k3 groups 4", "conv2d", (8, 128, 28, 28), (128, 32, 3, 3), {"padding": 1, "groups": 4}),
    ("conv2d 64->64 @56, k3 reflect", "conv2d", (8, 64, 56, 56), (64, 64, 3, 3), {"padding": 1, "padding_mode": "reflect"}),
    ("conv2d 64->192 @27, k5", "conv2d", (8, 64, 27, 27), (192, 64, 5, 5), {"padding": 2}),
    ("conv_transpose1d 64->64, 2048, k4 stride 2", "conv_transpose1d", (16, 64, 2048), (64, 64, 4), {"stride": 2, "padding": 1}),
    ("conv_transpose2d 128->64 @28, k4 stride 2", "conv_transpose2d", (8, 128, 28, 28), (128, 64, 4, 4), {"stride": 2, "padding": 1}),
    ("conv_transpose3d 64->64, 4x14x14, k2 stride 2", "conv_transpose3d", (4, 64, 4, 14, 14), (64, 64, 2, 2, 2), {"stride": 2}),
    ("max_pool1d 64, 4096, 2/2", "max_pool1d", (16, 64, 4096), None, {"kernel_size": 2}),
    ("max_pool2d 64 @112, 3/2", "max_pool2d", (8, 64, 112, 112), None, {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("max_pool2d 64 @112, 2/2", "max_pool2d", (8, 64, 112, 112), None, {"kernel_size": 2}),
    ("max_pool3d 64, 8x28x28, 2/2", "max_pool3d", (4, 64, 8, 28, 28), None, {"kernel_size": 2}),
    ("avg_pool2d 64 @112, 2/2", "avg_pool2d", (8, 64, 112, 112), None, {"kernel_size": 2}),
    ("avg_pool2d 64 @56, 3/1", "avg_pool2d", (8, 64, 56, 56), None, {"kernel_size": 3, "stride": 1, "padding": 1}),
    ("lp_pool2d 64 @56, 2/2", "lp_pool2d", (8, 64, 56, 56), None, {"kernel_size": 2}),
    ("adaptive_avg_pool2d 64 @56 to 7", "adaptive_avg_pool2d", (8, 64, 56, 56), None, {"output_size": 7}),
    ("adaptive_max_pool2d 64 @56 to 7", "adaptive_max_pool2d", (8, 64, 56, 56), None, {"output_size": 7}),
    ("global_avg_pool 512 @28", "global_avg_pool", (8, 512, 28, 28), None, {}),
    ("pad zeros 64 @112, 3", "pad", (8, 64, 112, 112), None, {"pads": ((3, 3), (3, 3)), "mode": "zeros"}),
    ("pad reflect 64 @112, 3", "pad", (8, 64, 112, 112), None, {"pads": ((3, 3), (3, 3)), "mode": "reflect"}),
    ("pad circular 64 @112, 3", "pad", (8, 64, 112, 112), None, {"pads": ((3, 3), (3, 3)), "mode": "circular"}),
    ("interpolate nearest 64 @56 x2", "interpolate", (8, 64, 56, 56), None, {"scale_factor": 2.0}),
    ("interpolate bilinear 64 @56 x2", "interpolate", (8, 64, 56, 56), None, {"scale_factor": 2.0, "mode": "bilinear"}),
    ("interpolate bicubic 64 @56 x2", "interpolate", (8, 64, 56, 56), None, {"scale_factor": 2.0, "mode": "bicubic"}),
    ("interpolate trilinear 64, 4x28x28 x2", "interpolate", (2, 64, 4, 28, 28), None, {"scale_factor": 2.0, "mode": "trilinear"}),
    ("pixel_shuffle 256 @56, 2", "pixel_shuffle", (8, 256, 56, 56), None, {"factor": 2}),
    ("unfold 64 @56, k3", "unfold", (4, 64, 56, 56), None, {"kernel_size": 3, "padding": 1}),
]


def _arrays(row, y_shape=None):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(row[2], np.float32)
    w = None if row[3] is None else rng.standard_normal(row[3], np.float32) * np.float32(0.05)
    dy = None if y_shape is None else rng.standard_normal(y_shape, np.float32)
    return x, w, dy


def flops(row, y_shape):
    """Multiply-adds times two of one pass; 0 for operations that only move and combine data."""
    _, name, x, w, _ = row
    if not name.startswith("conv"):
        return 0.0
    over = x if "transpose" in name else y_shape
    return 2.0 * np.prod(w, dtype=float) * over[0] * np.prod(over[2:], dtype=float)


def traffic(row, y_shape):
    """Bytes of x and y: what a pass must at least move."""
    return 4.0 * (np.prod(row[2], dtype=float) + np.prod(y_shape, dtype=float))


def make_ours(row, which, channels_last):
    """The callable of a pass ('forward', 'dx', 'dw') with arrays in one of the two memory orders."""
    from cnnpy import functional as F

    _, name, _, _, options = row
    order = F.channels_last if channels_last else (lambda a: a)
    x, w, _ = _arrays(row)
    arrays = (order(x),) if w is None else (order(x), w)
    forward, backward = getattr(F, name), getattr(F, name + "_backward")
    if which == "forward":
        return lambda: forward(*arrays, **options)
    y = np.asarray(forward(*arrays, **options))
    dy = _arrays(row, y.shape)[2]
    dy = order(dy) if dy.ndim == x.ndim else dy
    extra = {}
    if "max_pool" in name:  # both sides are given the indices
        extra["cache"] = forward(*arrays, **options, return_cache=True)[-1]
    if name == "lp_pool2d":
        extra["cache"] = forward(*arrays, **options, return_cache=True)[-1]
    needs = {"dx": "x", "dw": "weight"}[which]
    return lambda: getattr(backward(dy, *arrays, **options, needs=(needs,), **extra), needs)


def _torch_call(row):
    """The same operation as a function of torch tensors."""
    import torch
    import torch.nn.functional as T

    _, name, _, _, options = row
    o: dict = dict(options)
    if name.startswith("conv"):
        mode, p = o.pop("padding_mode", None), o.get("padding", 0)
        if mode:
            o["padding"] = 0
            return lambda x, w: T.conv2d(T.pad(x, (p, p, p, p), mode=mode), w, **o)
        return lambda x, w: getattr(T, name)(x, w, **o)
    if name == "pad":
        flat = [v for pair in reversed(o["pads"]) for v in pair]
        mode = {"zeros": "constant"}.get(o["mode"], o["mode"])
        return lambda x: T.pad(x, flat, mode=mode)
    if name == "interpolate":
        o.setdefault("mode", "nearest")
        return lambda x: T.interpolate(x, **o)
    if name == "global_avg_pool":
        return lambda x: T.adaptive_avg_pool2d(x, 1)
    if name == "lp_pool2d":
        return lambda x: T.lp_pool2d(x, 2.0, **o)
    if name == "pixel_shuffle":
        return lambda x: torch.pixel_shuffle(x, o["factor"])
    return lambda x: getattr(T, name)(x, **o)


def make_torch(row, which, channels_last):
    """PyTorch's callable; its backward is that of its own graph, kept between calls."""
    import torch

    x, w, _ = _arrays(row)
    layout = torch.contiguous_format
    if channels_last and x.ndim > 3:
        layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    call = _torch_call(row)
    tensors = [torch.from_numpy(a) for a in (x, w) if a is not None]
    tensors[0] = tensors[0].to(memory_format=layout)
    if which == "forward":

        def forward():
            with torch.inference_mode():
                return call(*tensors)

        return forward
    wanted = tensors[0 if which == "dx" else 1].requires_grad_()
    y = call(*tensors)
    dy = torch.from_numpy(_arrays(row, tuple(y.shape))[2])
    if y.ndim == x.ndim and y.ndim > 3:
        dy = dy.to(memory_format=layout)
    return lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True)[0]
