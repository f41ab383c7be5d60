"""What each operation is in ONNX: one rule an operation, from a traced call to nodes of the standard."""

import numpy as np

from cnnpy.autograd import Tensor

__all__ = ["RULES"]

RULES: dict = {}  # operation -> function(graph, call) -> name of the result


def rule(*names):
    def decorate(function):
        for name in names:
            RULES[name] = function
        return function

    return decorate


def _each(value, d):
    return [int(v) for v in value] if isinstance(value, (tuple, list)) else [int(value)] * d


def pads_of(padding, sizes, window, stride, dilation):
    """(before, after) an axis, of any form that padding may have."""
    d = len(sizes)
    extent = [(w - 1) * t for w, t in zip(window, dilation, strict=True)]
    if isinstance(padding, str):
        if padding == "valid":
            return [(0, 0)] * d
        if padding == "full":
            return [(e, e) for e in extent]
        total = [max(0, (-(-n // s) - 1) * s + e + 1 - n) for n, s, e in zip(sizes, stride, extent, strict=True)]
        return [(t // 2, t - t // 2) for t in total]
    if isinstance(padding, (tuple, list)):
        return [(int(p[0]), int(p[1])) if isinstance(p, (tuple, list)) else (int(p), int(p)) for p in padding]
    return [(int(padding),) * 2] * d


def _flat(pads):
    return [b for b, _ in pads] + [a for _, a in pads]


_PAD_MODES = {
    "zeros": "constant",
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "edge": "edge",
    "circular": "wrap",
    "wrap": "wrap",
}


def _pad(g, name, rank, pads, mode, value, dtype):
    if mode not in _PAD_MODES:
        raise ValueError(f"export_onnx: pad has mode {mode!r}, which ONNX lacks")
    kind = _PAD_MODES[mode]
    lead = rank - len(pads)
    ends = g.ints(*([0] * lead), *(b for b, _ in pads), *([0] * lead), *(a for _, a in pads))
    more = [g.constant(np.array(value, dtype))] if kind == "constant" else []
    return g.node("Pad", name, ends, *more, mode=kind)


@rule("conv1d", "conv2d", "conv3d")
def _conv(g, c):
    d = int(c.name[4])
    if c.x.ndim != d + 2:
        raise ValueError(f"export_onnx: {c.name} is called on an unbatched image, expected (N, C, spatial)")
    window, stride, dilation = list(c.weight.shape[2:]), _each(c.stride, d), _each(c.dilation, d)
    pads = pads_of(c.padding, c.x.shape[2:], window, stride, dilation)
    x, weight = g(c.x), g(c.weight)
    if c.padding_mode not in ("zeros", "constant"):
        x, pads = _pad(g, x, d + 2, pads, c.padding_mode, 0, c.x.dtype), [(0, 0)] * d
    if c.flip:
        data = c.weight._data if isinstance(c.weight, Tensor) else np.asarray(c.weight)
        weight = g.constant(np.flip(data, tuple(range(2, d + 2))), g.fresh("flipped"))
    more = [g(c.bias)] if c.bias is not None else []
    return g.node("Conv", x, weight, *more, kernel_shape=window, strides=stride, dilations=dilation, pads=_flat(pads), group=c.groups)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(g, c):
    d = int(c.name[14])
    window, stride, dilation = list(c.weight.shape[2:]), _each(c.stride, d), _each(c.dilation, d)
    pads = pads_of(c.padding, c.x.shape[2:], window, stride, dilation)
    natural = [
        (n - 1) * s - b - a + (w - 1) * t + 1 for n, s, (b, a), w, t in zip(c.x.shape[2:], stride, pads, window, dilation, strict=True)
    ]
    extra = [o - n for o, n in zip(c.result.shape[2:], natural, strict=True)]
    more = [g(c.bias)] if c.bias is not None else []
    return g.node(
        *("ConvTranspose", g(c.x), g(c.weight), *more),
        **{
            "kernel_shape": window,
            "strides": stride,
            "dilations": dilation,
            "pads": _flat(pads),
            "output_padding": extra,
            "group": c.groups,
        },
    )


def _pool(g, c, kind, d, outputs=1, **attributes):
    window = _each(c.kernel_size, d)
    stride = window if c.stride is None else _each(c.stride, d)
    dilation = _each(getattr(c, "dilation", 1), d)
    pads = pads_of(getattr(c, "padding", 0), c.x.shape[2:], window, stride, dilation)
    options = {"kernel_shape": window, "strides": stride, "pads": _flat(pads), "ceil_mode": int(c.ceil_mode)}
    return g.node(kind, g(c.x), outputs=outputs, **options, **attributes)


@rule("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(g, c):
    d = int(c.name[8])
    if not c.return_indices:
        return _pool(g, c, "MaxPool", d, dilations=_each(c.dilation, d))
    return _pool(g, c, "MaxPool", d, 2, dilations=_each(c.dilation, d))


@rule("max_unpool1d", "max_unpool2d", "max_unpool3d")
def _max_unpool(g, c):
    d = int(c.name[10])
    window = _each(c.kernel_size, d)
    stride = window if c.stride is None else _each(c.stride, d)
    pads = pads_of(c.padding, c.x.shape[2:], window, stride, [1] * d)
    natural = [(n - 1) * s - b - a + w for n, s, (b, a), w in zip(c.x.shape[2:], stride, pads, window, strict=True)]
    if list(c.result.shape[2:]) != natural:
        raise ValueError(f"export_onnx: {c.name} makes an image of {tuple(c.result.shape[2:])}, expected the natural size {tuple(natural)}")
    return g.node("MaxUnpool", g(c.x), g(c.indices), kernel_shape=window, strides=stride, pads=_flat(pads))


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(g, c):
    return _pool(g, c, "AveragePool", int(c.name[8]), count_include_pad=int(c.count_include_pad))


@rule("lp_pool1d", "lp_pool2d", "lp_pool3d")
def _lp_pool(g, c):
    if c.norm_type != int(c.norm_type):
        raise ValueError(f"export_onnx: {c.name} has norm_type {c.norm_type}, expected a whole number")
    return _pool(g, c, "LpPool", int(c.name[7]), p=int(c.norm_type))


@rule(*(f"adaptive_{kind}_pool{d}d" for kind in ("avg", "max") for d in (1, 2, 3)))
def _adaptive(g, c):
    kind = "AveragePool" if "avg" in c.name else "MaxPool"
    if getattr(c, "return_indices", False):
        raise ValueError(f"export_onnx: {c.name} returns indices, which ONNX lacks there")
    sizes, out = c.x.shape[2:], c.result.shape[2:]
    if tuple(sizes) == tuple(out):
        return g.node("Identity", g(c.x))
    if all(n == 1 for n in out):
        return g.node(f"Global{kind}", g(c.x))
    if any(n % m for n, m in zip(sizes, out, strict=True)):
        raise ValueError(f"export_onnx: {c.name} from {tuple(sizes)} to {tuple(out)} has windows of several sizes, which ONNX lacks")
    window = [n // m for n, m in zip(sizes, out, strict=True)]
    return g.node(kind, g(c.x), kernel_shape=window, strides=window)


@rule("global_avg_pool", "global_max_pool")
def _global(g, c):
    return g.node("GlobalAveragePool" if "avg" in c.name else "GlobalMaxPool", g(c.x))


_PLAIN = {
    **{"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus"},
    **{"negative": "Neg", "exp": "Exp", "log": "Log", "sqrt": "Sqrt"},
    **{"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "maximum": "Max", "matmul": "MatMul"},
}


def _operand(g, value, dtype):
    """A number beside an array takes its dtype."""
    return g(value) if isinstance(value, Tensor) else g.constant(np.asarray(value, dtype))


@rule(*_PLAIN)
def _plain(g, c):
    return g.node(_PLAIN[c.name], *(_operand(g, v, c.result.dtype) for v in ((c.x,) if hasattr(c, "x") else (c.a, c.b))))


@rule("leaky_relu", "elu", "gelu", "silu", "relu6", "hardtanh", "softmax", "log_softmax", "power")
def _activation(g, c):
    x = g(c.x)
    if c.name == "silu":
        return g.node("Mul", x, g.node("Sigmoid", x))
    if c.name in ("relu6", "hardtanh"):
        low, high = (0, 6) if c.name == "relu6" else (c.min_val, c.max_val)
        return g.node("Clip", x, *(g.constant(np.array(v, c.x.dtype)) for v in (low, high)))
    if c.name == "power":
        return g.node("Pow", x, g.constant(np.array(c.exponent, c.x.dtype)))
    if c.name in ("softmax", "log_softmax"):
        return g.node("Softmax" if c.name == "softmax" else "LogSoftmax", x, axis=int(c.axis))
    if c.name == "gelu":
        return g.node("Gelu", x, approximate=c.approximate)
    return g.node("LeakyRelu", x, alpha=float(c.negative_slope)) if c.name == "leaky_relu" else g.node("Elu", x, alpha=float(c.alpha))


@rule("linear")
def _linear(g, c):
    if c.x.ndim == 2:
        more = [g(c.bias)] if c.bias is not None else []
        return g.node("Gemm", g(c.x), g(c.weight), *more, transB=1)
    y = g.node("MatMul", g(c.x), g.node("Transpose", g(c.weight), perm=[1, 0]))
    return y if c.bias is None else g.node("Add", y, g(c.bias))


@rule("embedding")
def _embedding(g, c):
    return g.node("Gather", g(c.weight), g(c.indices), axis=0)


def _or_constant(g, value, n, number, dtype):
    return g.constant(np.full(n, number, dtype)) if value is None else g(value)


@rule("batch_norm")
def _batch_norm(g, c):
    if c.training:
        raise ValueError("export_onnx: batch_norm is in training mode, expected evaluation mode")
    n, t = c.x.shape[1], c.x.dtype
    scale, bias = _or_constant(g, c.weight, n, 1, t), _or_constant(g, c.bias, n, 0, t)
    return g.node("BatchNormalization", g(c.x), scale, bias, g(c.running_mean), g(c.running_var), epsilon=float(c.eps))


@rule("instance_norm")
def _instance_norm(g, c):
    n, t = c.x.shape[1], c.x.dtype
    return g.node(
        "InstanceNormalization", g(c.x), _or_constant(g, c.weight, n, 1, t), _or_constant(g, c.bias, n, 0, t), epsilon=float(c.eps)
    )


@rule("group_norm")
def _group_norm(g, c):
    n, groups, t = c.x.shape[1], c.num_groups, c.x.dtype
    rows = g.reshape(g(c.x), (c.x.shape[0], groups, -1))
    y = g.node("InstanceNormalization", rows, *(g.constant(np.full(groups, v, t)) for v in (1, 0)), epsilon=float(c.eps))
    y = g.reshape(y, c.x.shape)
    for kind, value in (("Mul", c.weight), ("Add", c.bias)):
        if value is not None:
            y = g.node(kind, y, g.reshape(g(value), (n, *[1] * (c.x.ndim - 2)), batched=False))
    return y


@rule("layer_norm")
def _layer_norm(g, c):
    shape = np.atleast_1d(c.normalized_shape)
    more = [] if c.bias is None else [g(c.bias)]
    return g.node(
        "LayerNormalization", g(c.x), _or_constant(g, c.weight, shape, 1, c.x.dtype), *more, axis=-len(shape), epsilon=float(c.eps)
    )


@rule("rms_norm")
def _rms_norm(g, c):
    axes = len(np.atleast_1d(c.normalized_shape))
    eps = float(np.finfo(c.x.dtype).eps if c.eps is None else c.eps)
    x = g(c.x)
    square = g.node("ReduceMean", g.node("Mul", x, x), g.ints(*range(-axes, 0)))
    y = g.node("Div", x, g.node("Sqrt", g.node("Add", square, g.constant(np.array(eps, c.x.dtype)))))
    return y if c.weight is None else g.node("Mul", y, g(c.weight))


@rule("local_response_norm")
def _local_response_norm(g, c):
    return g.node("LRN", g(c.x), size=int(c.size), alpha=float(c.alpha), beta=float(c.beta), bias=float(c.k))


@rule("reshape")
def _reshape(g, c):
    return g.reshape(g(c.x), c.result.shape, batched=c.x.shape[0] == c.result.shape[0])


@rule("channels_last")
def _same(g, c):
    return g.node("Identity", g(c.x))


@rule("transpose")
def _transpose(g, c):
    axes = range(c.x.ndim)[::-1] if c.axes is None else [a % c.x.ndim for a in c.axes]
    return g.node("Transpose", g(c.x), perm=list(axes))


@rule("sum", "mean", "max")
def _reduce(g, c):
    axes = range(c.x.ndim) if c.axis is None else c.axis if isinstance(c.axis, tuple) else (c.axis,)
    return g.node(f"Reduce{c.name.title()}", g(c.x), g.ints(*axes), keepdims=int(c.keepdims))


_BACKWARDS = -(2**62)


@rule("flip")
def _flip(g, c):
    axes = range(c.x.ndim) if c.axis is None else c.axis if isinstance(c.axis, tuple) else (c.axis,)
    n = len(axes)
    return g.node("Slice", g(c.x), g.ints(*[-1] * n), g.ints(*[_BACKWARDS] * n), g.ints(*axes), g.ints(*[-1] * n))


@rule("getitem")
def _getitem(g, c):
    index = list(c.index) if isinstance(c.index, tuple) else [c.index]
    if Ellipsis in [i for i in index if not isinstance(i, np.ndarray)]:
        at = index.index(Ellipsis)
        index[at : at + 1] = [slice(None)] * (c.x.ndim - len(index) + 1)
    if not all(isinstance(i, (int, np.integer, slice)) and not isinstance(i, bool) for i in index):
        raise ValueError("export_onnx: indexing by anything but integers and slices is not possible")
    y, dropped = g(c.x), []
    parts = []
    for axis, i in enumerate(index):
        if not isinstance(i, slice):
            parts.append((axis, int(i), int(i) + 1 if i != -1 else 2**62, 1))
            dropped.append(axis)
        elif i != slice(None):
            step = 1 if i.step is None else int(i.step)
            start = i.start if i.start is not None else (0 if step > 0 else -1)
            stop = i.stop if i.stop is not None else (2**62 if step > 0 else _BACKWARDS)
            parts.append((axis, int(start), int(stop), step))
    if parts:
        axes, starts, stops, steps = zip(*parts, strict=True)
        y = g.node("Slice", y, g.ints(*starts), g.ints(*stops), g.ints(*axes), g.ints(*steps))
    return g.node("Squeeze", y, g.ints(*dropped)) if dropped else y


@rule("concatenate")
def _concatenate(g, c):
    """Zeros in front or behind are padding, so that the batch stays free."""
    parts, axis = list(c.arrays), c.axis % c.result.ndim
    plain = [not isinstance(p, Tensor) and not np.any(p) for p in parts]
    real = [i for i, p in enumerate(plain) if not p]
    if len(real) == 1 and any(plain) and axis > 0:
        before, after = (int(sum(p.shape[axis] for p in some)) for some in (parts[: real[0]], parts[real[0] + 1 :]))
        return _pad(
            g, g(parts[real[0]]), c.result.ndim, [(before, after), *[(0, 0)] * (c.result.ndim - axis - 1)], "zeros", 0, c.result.dtype
        )
    return g.node("Concat", *(g(p) for p in parts), axis=axis)


@rule("stack")
def _stack(g, c):
    axis = c.axis % c.result.ndim
    return g.node("Concat", *(g.node("Unsqueeze", g(p), g.ints(axis)) for p in c.arrays), axis=axis)


@rule("where")
def _where(g, c):
    return g.node("Where", g.node("Cast", g(c.condition), to=9), *(_operand(g, v, c.result.dtype) for v in (c.a, c.b)))


@rule("pad")
def _pad_rule(g, c):
    return _pad(g, g(c.x), c.x.ndim, [tuple(p) for p in c.pads], c.mode, c.value, c.x.dtype)


@rule("interpolate")
def _interpolate(g, c):
    if c.mode == "area":
        raise ValueError("export_onnx: interpolate has mode 'area', which ONNX lacks; use an adaptive average pool")
    d = c.x.ndim - 2
    kinds = {"nearest": "nearest", "nearest-exact": "nearest", "bicubic": "cubic"}
    rule_name = "asymmetric" if c.mode == "nearest" else "align_corners" if c.align_corners else "half_pixel"
    options = {"mode": kinds.get(c.mode, "linear"), "coordinate_transformation_mode": rule_name, "cubic_coeff_a": -0.75}
    options["nearest_mode"] = "floor" if c.mode == "nearest" else "round_prefer_ceil"
    if c.size is not None:
        sizes = _each(c.size, d)
        ends = [g.node("Slice", g.node("Shape", g(c.x)), g.ints(0), g.ints(2)), g.ints(*sizes)]
        return g.node("Resize", g(c.x), "", "", g.node("Concat", *ends, axis=0), **options)
    factors = [float(f) for f in c.scale_factor] if isinstance(c.scale_factor, (tuple, list)) else [float(c.scale_factor)] * d
    return g.node("Resize", g(c.x), "", g.constant(np.array([1, 1, *factors], np.float32)), **options)


@rule("pixel_shuffle", "pixel_unshuffle")
def _pixel_shuffle(g, c):
    if c.x.ndim != 4:
        raise ValueError(f"export_onnx: {c.name} is called on {c.x.ndim - 2} spatial axes, expected 2")
    n, k, h, w = c.x.shape
    f = int(c.factor)
    if c.name == "pixel_shuffle":
        return g.node("DepthToSpace", g(c.x), blocksize=f, mode="CRD")
    parts = g.node("Transpose", g.reshape(g(c.x), (n, k, h // f, f, w // f, f)), perm=[0, 1, 3, 5, 2, 4])
    return g.reshape(parts, (n, k * f * f, h // f, w // f))
