"""What each node of ONNX is here: one function a kind of node, from its inputs to its results."""

import math

import numpy as np

from cnnpy import functional as F
from cnnpy.autograd import Tensor
from cnnpy.nn.module import Parameter

__all__ = ["NODES", "Node"]

NODES: dict = {}  # kind of node -> function(model, node, *inputs) -> result or tuple of results


def node(*kinds):
    def decorate(function):
        for kind in kinds:
            NODES[kind] = function
        return function

    return decorate


class Node:
    """One node of the file: kind, names of inputs and outputs, attributes as Python values."""

    def __init__(self, onnx, proto):
        self.kind, self.name = proto.op_type, proto.name
        self.inputs, self.outputs = list(proto.input), list(proto.output)
        self.domain = proto.domain
        self.attributes = {}
        for a in proto.attribute:
            value = onnx.helper.get_attribute_value(a)
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            elif isinstance(value, onnx.TensorProto):
                value = onnx.numpy_helper.to_array(value)
            self.attributes[a.name] = value

    def get(self, name, default=None):
        return self.attributes.get(name, default)

    def __str__(self):
        return f"{self.kind} {self.name or self.outputs[0]}".strip()


def _array(value):
    return value._data if isinstance(value, Tensor) else np.asarray(value)


def _ints(value):
    return [int(v) for v in np.ravel(_array(value))]


def _window(n, x, window):
    """stride, padding and dilation of convolutions and pools."""
    d = len(window)
    if x.ndim != d + 2:
        raise ValueError(f"import_onnx: {n} gets an array of shape {tuple(x.shape)}, expected {d} spatial axes")
    stride, dilation = list(n.get("strides", [1] * d)), list(n.get("dilations", [1] * d))
    pads, automatic = n.get("pads", [0] * 2 * d), n.get("auto_pad", "NOTSET")
    pairs = list(zip(pads[:d], pads[d:], strict=True))
    if automatic == "VALID":
        pairs = [(0, 0)] * d
    elif automatic.startswith("SAME"):
        extent = [(w - 1) * t + 1 for w, t in zip(window, dilation, strict=True)]
        total = [max(0, (-(-s // t) - 1) * t + e - s) for s, t, e in zip(x.shape[2:], stride, extent, strict=True)]
        pairs = [(t // 2, t - t // 2) if automatic == "SAME_UPPER" else (t - t // 2, t // 2) for t in total]
    return {"stride": stride, "padding": pairs, "dilation": dilation}


def _named(stem, d):
    return getattr(F, stem.format(d=d))


@node("Conv")
def _conv(model, n, x, w, b=None):
    d = w.ndim - 2
    return _named("conv{d}d", d)(x, w, b, groups=n.get("group", 1), **_window(n, x, w.shape[2:]))


@node("ConvTranspose")
def _conv_transpose(model, n, x, w, b=None):
    d = w.ndim - 2
    if n.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or "output_shape" in n.attributes:
        raise ValueError(f"import_onnx: {n} has auto_pad or output_shape, expected explicit pads")
    options = _window(n, x, w.shape[2:])
    return _named("conv_transpose{d}d", d)(x, w, b, groups=n.get("group", 1), output_padding=n.get("output_padding", [0] * d), **options)


@node("MaxPool")
def _max_pool(model, n, x):
    window = list(n.get("kernel_shape"))
    wanted = len(n.outputs) > 1
    found = _named("max_pool{d}d", len(window))(
        x, window, ceil_mode=bool(n.get("ceil_mode", 0)), return_indices=wanted, **_window(n, x, window)
    )
    if not wanted:
        return found
    y, indices = found  # ours count within an image plane, the standard's through the whole array
    if n.get("storage_order", 0):  # and along its columns
        sizes = x.shape[2:]
        indices = np.ravel_multi_index(np.unravel_index(_array(indices), sizes), sizes, order="F")
    planes = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *[1] * len(window))
    return y, indices + planes * math.prod(x.shape[2:])


@node("MaxUnpool")
def _max_unpool(model, n, x, indices, output_shape=None):
    window = list(n.get("kernel_shape"))
    o = _window(n, x, window)
    natural = [(m - 1) * s - b - a + w for m, s, (b, a), w in zip(x.shape[2:], o["stride"], o["padding"], window, strict=True)]
    sizes = natural if output_shape is None else _ints(output_shape)[2:]
    planes = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *[1] * len(window))
    inner = _array(indices) - planes * math.prod(natural)  # they count in the natural size, whatever the result's
    if any(b != a for b, a in o["padding"]):
        raise ValueError(f"import_onnx: {n} crops unevenly, which max_unpool lacks")
    if any(s < m for s, m in zip(sizes, natural, strict=True)):
        raise ValueError(f"import_onnx: {n} has output_shape {tuple(sizes)}, expected at least {tuple(natural)}")
    if np.any((inner < 0) | (inner >= math.prod(natural))):
        raise ValueError(f"import_onnx: {n} has an index outside an image of {tuple(natural)}")
    inner = np.ravel_multi_index(np.unravel_index(inner, natural), sizes)
    padding = [b for b, _ in o["padding"]]
    return _named("max_unpool{d}d", len(window))(x, inner, window, stride=o["stride"], padding=padding, output_size=sizes)


@node("AveragePool")
def _average_pool(model, n, x):
    window = list(n.get("kernel_shape"))
    o = _window(n, x, window)
    if any(t != 1 for t in o.pop("dilation")):
        raise ValueError(f"import_onnx: {n} has dilations, which average pooling lacks here")
    counted = bool(n.get("count_include_pad", 0))
    return _named("avg_pool{d}d", len(window))(x, window, ceil_mode=bool(n.get("ceil_mode", 0)), count_include_pad=counted, **o)


@node("LpPool")
def _lp_pool(model, n, x):
    window = list(n.get("kernel_shape"))
    o = _window(n, x, window)
    if any(p != (0, 0) for p in o["padding"]) or any(t != 1 for t in o["dilation"]):
        raise ValueError(f"import_onnx: {n} has pads or dilations, which Lp pooling lacks here")
    return _named("lp_pool{d}d", len(window))(x, window, norm_type=n.get("p", 2), stride=o["stride"], ceil_mode=bool(n.get("ceil_mode", 0)))


@node("GlobalAveragePool", "GlobalMaxPool")
def _global(model, n, x):
    return F.global_avg_pool(x) if n.kind == "GlobalAveragePool" else F.global_max_pool(x)


@node("BatchNormalization")
def _batch_norm(model, n, x, scale, bias, mean, var):
    if len(n.outputs) > 1:
        raise ValueError(f"import_onnx: {n} gives its statistics, which are buffers here")
    return F.batch_norm(x, mean, var, scale, bias, training=model.training, momentum=1 - n.get("momentum", 0.9), eps=n.get("epsilon", 1e-5))


@node("InstanceNormalization")
def _instance_norm(model, n, x, scale, bias):
    return F.instance_norm(x, scale, bias, eps=n.get("epsilon", 1e-5))


@node("LayerNormalization")
def _layer_norm(model, n, x, scale, bias=None):
    axis, eps = n.get("axis", -1) % x.ndim, n.get("epsilon", 1e-5)
    y = F.layer_norm(x, tuple(x.shape[axis:]), scale, bias, eps=eps)
    if len(n.outputs) == 1:
        return y
    axes = tuple(range(axis, x.ndim))
    mean = x.mean(axes, keepdims=True)
    away = x - mean
    return y, mean, 1.0 / ((away * away).mean(axes, keepdims=True) + eps).sqrt()


@node("LRN")
def _lrn(model, n, x):
    return F.local_response_norm(x, n.get("size"), alpha=n.get("alpha", 1e-4), beta=n.get("beta", 0.75), k=n.get("bias", 1.0))


_ELEMENTWISE = {
    **{"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus"},
    **{"Exp": "exp", "Log": "log"},
}


@node(*_ELEMENTWISE)
def _elementwise(model, n, x):
    return getattr(F, _ELEMENTWISE[n.kind])(x)


@node("LeakyRelu")
def _leaky(model, n, x):
    return F.leaky_relu(x, negative_slope=n.get("alpha", 0.01))


@node("Elu")
def _elu(model, n, x):
    return F.elu(x, alpha=n.get("alpha", 1.0))


@node("Gelu")
def _gelu(model, n, x):
    return F.gelu(x, approximate=n.get("approximate", "none"))


@node("Softmax", "LogSoftmax")
def _softmax(model, n, x):
    return (F.softmax if n.kind == "Softmax" else F.log_softmax)(x, axis=n.get("axis", -1))


@node("Clip")
def _clip(model, n, x, low=None, high=None):
    low = n.get("min", -math.inf) if low is None else float(_array(low))
    high = n.get("max", math.inf) if high is None else float(_array(high))
    if not isinstance(x, Tensor):
        return np.clip(x, low, high)
    if low > high:
        return -F.maximum(-F.maximum(x, np.array(low, x.dtype)), np.array(-high, x.dtype))
    if math.isinf(low) or math.isinf(high):
        y = x if math.isinf(low) else F.maximum(x, np.array(low, x.dtype))
        return y if math.isinf(high) else -F.maximum(-y, np.array(-high, x.dtype))
    return F.hardtanh(x, min_val=low, max_val=high)


_ARITHMETIC = {
    **{"Add": lambda a, b: a + b, "Sub": lambda a, b: a - b, "Mul": lambda a, b: a * b},
    **{
        "Equal": lambda a, b: _array(a) == _array(b),
        "Less": lambda a, b: _array(a) < _array(b),
        "Greater": lambda a, b: _array(a) > _array(b),
    },
}


@node(*_ARITHMETIC)
def _arithmetic(model, n, a, b):
    return _ARITHMETIC[n.kind](a, b)


@node("Div")
def _div(model, n, a, b):
    if _array(a).dtype.kind not in "iu":
        return a / b
    a, b = _array(a), _array(b)  # towards 0
    return a // b + ((a % b != 0) & ((a < 0) != (b < 0)))


@node("Max", "Min")
def _max(model, n, *values):
    result = values[0]
    for v in values[1:]:
        result = F.maximum(result, v) if n.kind == "Max" else -F.maximum(-result, -v)
    return result


@node("Neg")
def _neg(model, n, x):
    return -x


@node("Sqrt")
def _sqrt(model, n, x):
    return x.sqrt() if isinstance(x, Tensor) else np.sqrt(x)


@node("Reciprocal")
def _reciprocal(model, n, x):
    return 1.0 / x


@node("Pow")
def _pow(model, n, x, exponent):
    if _array(exponent).size != 1:
        raise ValueError(f"import_onnx: {n} has an array of exponents, expected one number")
    e = float(np.ravel(_array(exponent))[0])
    return x * x if e == 2 else x**e


@node("Where")
def _where(model, n, condition, a, b):
    return F.where(_array(condition), a, b)


@node("MatMul")
def _matmul(model, n, a, b):
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError(f"import_onnx: {n} multiplies arrays of shapes {tuple(a.shape)} and {tuple(b.shape)}, expected two axes at least")
    return F.matmul(a, b)


@node("Gemm")
def _gemm(model, n, a, b, c=None):
    alpha, beta = n.get("alpha", 1.0), n.get("beta", 1.0)
    if n.get("transA", 0):
        a = F_transpose(a)
    if n.get("transB", 0) and alpha == 1 and beta == 1 and (c is None or c.ndim == 1):
        return F.linear(a, b, c)
    y = F.matmul(a, F_transpose(b) if n.get("transB", 0) else b)
    y = y if alpha == 1 else y * alpha
    return y if c is None else y + (c if beta == 1 else c * beta)


def F_transpose(x, axes=None):
    return x.transpose(*axes) if axes is not None else x.transpose()


@node("Concat")
def _concat(model, n, *values):
    return F.concatenate(list(values), axis=n.get("axis"))


@node("Split")
def _split(model, n, x, sizes=None):
    axis = n.get("axis", 0) % x.ndim
    if sizes is None:
        each = -(-x.shape[axis] // n.get("num_outputs", len(n.outputs)))
        ends = np.minimum(np.arange(1, len(n.outputs) + 1) * each, x.shape[axis])
    else:
        ends = np.cumsum(_ints(sizes))
    begins = [0, *ends[:-1]]
    return tuple(x[(slice(None),) * axis + (slice(int(b), int(e)),)] for b, e in zip(begins, ends, strict=True))


@node("Reshape")
def _reshape(model, n, x, shape):
    wanted = _ints(shape)
    if not n.get("allowzero", 0):
        wanted = [x.shape[i] if v == 0 else v for i, v in enumerate(wanted)]
    return x.reshape(tuple(wanted))


@node("Flatten")
def _flatten(model, n, x):
    axis = n.get("axis", 1)
    axis = axis % x.ndim if axis < 0 else axis
    return x.reshape((math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@node("Transpose")
def _transpose(model, n, x):
    return F_transpose(x, n.get("perm"))


def _axes_of(n, axes):
    return _ints(axes) if axes is not None else n.get("axes")


@node("Squeeze")
def _squeeze(model, n, x, axes=None):
    chosen = _axes_of(n, axes)
    drop = [i for i, s in enumerate(x.shape) if s == 1] if chosen is None else [a % x.ndim for a in chosen]
    return x.reshape(tuple(s for i, s in enumerate(x.shape) if i not in drop))


@node("Unsqueeze")
def _unsqueeze(model, n, x, axes=None):
    chosen = _axes_of(n, axes)
    rank = x.ndim + len(chosen)
    new, rest = {a % rank for a in chosen}, iter(x.shape)
    return x.reshape(tuple(1 if i in new else next(rest) for i in range(rank)))


@node("Slice")
def _slice(model, n, x, starts=None, ends=None, axes=None, steps=None):
    starts, ends = (n.get(name) if v is None else _ints(v) for name, v in (("starts", starts), ("ends", ends)))
    axes = _axes_of(n, axes) or list(range(len(starts)))
    index = [slice(None)] * x.ndim
    for a, begin, end, step in zip(axes, starts, ends, [1] * len(starts) if steps is None else _ints(steps), strict=True):
        size = x.shape[a]
        if step < 0:
            begin = min(begin, size - 1) if begin >= 0 else begin
            end = None if end < -size else end
        index[a % x.ndim] = slice(begin, end, step)
    return x[tuple(index)]


@node("Pad")
def _pad(model, n, x, pads=None, value=None, axes=None):
    ends = n.get("pads") if pads is None else _ints(pads)
    half = len(ends) // 2
    at = [a % x.ndim for a in _ints(axes)] if axes is not None else list(range(half))
    pairs = [(0, 0)] * x.ndim
    for a, before, after in zip(at, ends[:half], ends[half:], strict=True):
        pairs[a] = (before, after)
    mode = {"constant": "zeros", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[n.get("mode", "constant")]
    number = float(n.get("value", 0.0)) if value is None else float(_array(value))
    if any(p != (0, 0) for p in pairs[:2]):
        if mode != "zeros" or any(v < 0 for p in pairs[:2] for v in p):
            raise ValueError(f"import_onnx: {n} pads batch or channels other than with a number")
        for a in (0, 1):
            around = [np.full((*x.shape[:a], k, *x.shape[a + 1 :]), number, x.dtype) for k in pairs[a]]
            if pairs[a] != (0, 0):
                x = F.concatenate([around[0], x, around[1]], axis=a)
    return F.pad(x, pairs[2:], mode=mode, value=number) if any(p != (0, 0) for p in pairs[2:]) else x


@node("Resize", "Upsample")
def _resize(model, n, x, *more):
    scales, sizes = (more[0], None) if n.kind == "Upsample" else ([*more, None, None, None])[1:3]
    if scales is not None and not _array(scales).size:
        scales = None
    mode, rule = n.get("mode", "nearest"), n.get("coordinate_transformation_mode", "half_pixel" if n.kind == "Resize" else "asymmetric")
    d = x.ndim - 2
    if "axes" in n.attributes or n.get("antialias", 0) or n.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise ValueError(f"import_onnx: {n} has axes, antialias or keep_aspect_ratio_policy, which interpolate lacks")
    kind = {"linear": {1: "linear", 2: "bilinear", 3: "trilinear"}.get(d), "cubic": "bicubic" if d == 2 else None}.get(mode)
    if mode == "nearest":
        floor = rule == "asymmetric" and n.get("nearest_mode", "round_prefer_floor" if n.kind == "Resize" else "floor") == "floor"
        rounding = n.get("nearest_mode", "round_prefer_floor")
        ratios = _array(scales)[2:] if scales is not None else _array(sizes)[2:] / np.array(x.shape[2:])
        whole = all(r >= 1 and r == int(r) for r in np.ravel(ratios))  # no cell's middle falls between two: both roundings agree
        exact = rule == "half_pixel" and (rounding == "round_prefer_ceil" or (rounding == "round_prefer_floor" and whole))
        kind = "nearest" if floor else "nearest-exact" if exact else None
    elif rule not in ("half_pixel", "pytorch_half_pixel", "align_corners") or (mode == "cubic" and n.get("cubic_coeff_a", -0.75) != -0.75):
        kind = None
    if kind is None:
        raise ValueError(f"import_onnx: {n} has mode {mode} with {rule}, which interpolate lacks")
    if sizes is not None:
        factors = {"size": _ints(sizes)[2:]}
        results = factors["size"]
    else:
        factors = {"scale_factor": [float(v) for v in np.ravel(_array(scales))[2:]]}
        results = [s * v for s, v in zip(x.shape[2:], factors["scale_factor"], strict=True)]
    if rule == "align_corners" and any(abs(r - round(r)) > 1e-4 for r in results):
        raise ValueError(f"import_onnx: {n} aligns the corners of {results} cells, which interpolate lacks")
    if rule == "pytorch_half_pixel" and any(r < 2 <= s for r, s in zip(results, x.shape[2:], strict=True)):
        raise ValueError(f"import_onnx: {n} has a size of 1 with {rule}, which interpolate lacks")
    return F.interpolate(x, mode=kind, align_corners=rule == "align_corners", **factors)


@node("DepthToSpace")
def _depth_to_space(model, n, x):
    f = n.get("blocksize")
    if n.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, f)
    b, c, h, w = x.shape
    parts = F_transpose(x.reshape((b, f, f, c // (f * f), h, w)), (0, 3, 4, 1, 5, 2))
    return parts.reshape((b, c // (f * f), h * f, w * f))


@node("ReduceSum", "ReduceMean", "ReduceMax")
def _reduce(model, n, x, axes=None):
    chosen = _axes_of(n, axes)
    if not chosen:
        if n.get("noop_with_empty_axes", 0):
            return x
        chosen = range(x.ndim)
    x = x if isinstance(x, Tensor) else Tensor(x)
    return getattr(x, n.kind[6:].lower())(tuple(a % x.ndim for a in chosen), keepdims=bool(n.get("keepdims", 1)))


@node("Dropout")
def _dropout(model, n, x, ratio=None, training=None):
    p = n.get("ratio", 0.5) if ratio is None else float(_array(ratio))
    if not model.training or p == 0:
        return (x, np.ones(x.shape, bool)) if len(n.outputs) > 1 else x
    seed, call = model._rng
    model._rng = [seed, call + 1]
    key = seed << 31 | (call & 0x7FFFFFFF)
    y = F.dropout(x, p, rng=key)
    return (y, F.dropout(np.ones(x.shape, x.dtype), p, rng=key) != 0) if len(n.outputs) > 1 else y


@node("Identity")
def _identity(model, n, x):
    return x


@node("Constant")
def _constant(model, n):
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if name in n.attributes:
            kind = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}.get(name)
            return np.asarray(n.attributes[name], kind)
    raise ValueError(f"import_onnx: {n} holds no number")


@node("ConstantOfShape")
def _constant_of_shape(model, n, shape):
    value = np.ravel(n.get("value", np.zeros(1, np.float32)))
    return np.full(_ints(shape), value[0], value.dtype)


@node("Shape")
def _shape(model, n, x):
    return np.array(x.shape[n.get("start", 0) : n.get("end", None)], np.int64)


_CASTS = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64}


@node("Cast")
def _cast(model, n, x):
    to = _CASTS.get(n.get("to"))
    if to is None:
        raise ValueError(f"import_onnx: {n} casts to a type that is not computed in here")
    if isinstance(x, Tensor):
        if x.dtype != to:
            raise ValueError(f"import_onnx: {n} changes the dtype of values from {x.dtype} to {np.dtype(to)}")
        return x
    return np.asarray(x).astype(to)


@node("Expand")
def _expand(model, n, x, shape):
    target = np.broadcast_shapes(tuple(x.shape), tuple(_ints(shape)))
    return x + np.zeros(target, x.dtype) if isinstance(x, Tensor) else np.broadcast_to(x, target)


@node("Gather")
def _gather(model, n, x, indices):
    axis, at = n.get("axis", 0), _array(indices)
    if isinstance(x, Parameter) and axis == 0 and x.ndim == 2:
        return F.embedding(np.where(at < 0, at + x.shape[0], at), x)
    if not isinstance(x, Tensor):
        return np.take(x, at, axis=axis)
    if at.ndim:
        return x[(*[slice(None)] * (axis % x.ndim), at)]
    return x[(*[slice(None)] * (axis % x.ndim), int(at))]
