"""One description a function: how to sample valid arguments. Every generator of this folder walks over ``CASES``.

A case makes ``(arrays, options)`` for a random generator; `integers` asks for whole numbers small enough that every sum is exact.
"""

import numpy as np

from tests.reference.conv import axes


def numbers(rng, shape, dtype, integers=True, low=-4, high=4):
    if integers:
        return rng.integers(low, high + 1, shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def apart(rng, shape, dtype, integers):
    """Distinct values: maxima without ties, for differentiation."""
    if integers:
        return numbers(rng, shape, dtype)
    count = int(np.prod(shape))
    return ((rng.permutation(count) - count / 2) / max(1, count) * 3 + 0.001).reshape(shape).astype(dtype)


def order(rng, x):
    """The array in a random memory order."""
    if x.ndim < 3 or rng.integers(2):
        return x
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


def conv(d):
    def make(rng, dtype, integers=True, small=False):
        groups = int(rng.choice([1, 1, 1, 2, 3]))
        most = 3 if small else (40 if rng.integers(4) == 0 else 9)
        c, k = groups * int(rng.integers(1, most)), groups * int(rng.integers(1, most))
        if not small and rng.integers(5) == 0:  # depthwise, around whole vectors
            groups = c = k = int(rng.choice([7, 8, 9, 16, 17, 33, 70]))
        n = int(rng.choice([1, 2, 3] if small else [0, 1, 2, 3, 5]))
        window = tuple(int(w) for w in rng.integers(1, 4 if d < 3 else 3, d))
        dilation, stride = (tuple(int(v) for v in rng.integers(1, 3, d)) for _ in range(2))
        if rng.integers(3) == 0:
            stride = tuple(int(v) for v in rng.integers(1, 4, d))
        extents = [(w - 1) * g + 1 for w, g in zip(window, dilation, strict=True)]
        sizes = [e + int(rng.integers(0, (5 if small else 14) if d < 3 else 4)) for e in extents]
        kind = rng.integers(4)
        padding = ["same", "full", "valid"][rng.integers(3)] if kind == 0 else int(rng.integers(0, 3)) if kind == 1 else None
        if kind == 2:
            padding = tuple(int(v) for v in rng.integers(0, 3, d))
        if kind == 3:
            padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (d, 2)))
        mode = str(rng.choice(["zeros", "zeros", "reflect", "symmetric", "replicate", "circular"]))
        x = order(rng, numbers(rng, (n, c, *sizes), dtype, integers))
        w = numbers(rng, (k, c // groups, *window), dtype, integers)
        b = numbers(rng, (k,), dtype, integers) if rng.integers(2) else None
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "padding_mode": mode}
        return (x, w, b), options | {"flip": bool(rng.integers(2))}

    return make


def conv_transpose(d):
    def make(rng, dtype, integers=True, small=False):
        groups = int(rng.choice([1, 1, 1, 2, 3]))
        most = 3 if small else (20 if rng.integers(4) == 0 else 7)
        c, k = int(rng.integers(1, most)), int(rng.integers(1, most))
        window = tuple(int(w) for w in rng.integers(1, 4 if d < 3 else 3, d))
        stride, dilation = (tuple(int(v) for v in rng.integers(1, 4 if d < 3 else 3, d)) for _ in range(2))
        sizes = [int(v) for v in rng.integers(2, 8 if d < 3 else 4, d)]
        pads = []
        for m, w, s, g in zip(sizes, window, stride, dilation, strict=True):
            room = (m - 1) * s + (w - 1) * g
            before = int(rng.integers(0, min(2, room) + 1))
            pads.append((before, int(rng.integers(0, min(2, room - before) + 1))))
        options = {"stride": stride, "padding": tuple(pads), "dilation": dilation, "groups": groups}
        options["output_padding"] = tuple(int(rng.integers(0, max(s, g))) for s, g in zip(stride, dilation, strict=True))
        x = order(rng, numbers(rng, (int(rng.choice([1, 2])), c * groups, *sizes), dtype, integers))
        w = numbers(rng, (c * groups, k, *window), dtype, integers)
        return (x, w, numbers(rng, (k * groups,), dtype, integers) if rng.integers(2) else None), options

    return make


def padding(rng, dtype, integers=True, small=False):
    d = int(rng.integers(1, 4))
    x = order(rng, numbers(rng, tuple(int(v) for v in rng.integers(1, 6 if small or d == 3 else 12, d + 2)), dtype, integers))
    pads = [tuple(int(v) for v in rng.integers(-(m // 3), 2 * m + 2 if d < 3 else 3, 2)) for m in x.shape[2:]]
    return (x,), {"pads": pads, "mode": str(rng.choice(["zeros", "reflect", "symmetric", "replicate", "circular"]))}


def unfolding(rng, dtype, integers=True, small=False):
    d = int(rng.integers(1, 4))
    window = tuple(int(v) for v in rng.integers(1, 4, d))
    dilation = tuple(int(v) for v in rng.integers(1, 3, d))
    sizes = [(w - 1) * g + 1 + int(rng.integers(0, 6 if d < 3 else 3)) for w, g in zip(window, dilation, strict=True)]
    x = order(rng, numbers(rng, (int(rng.integers(1, 3)), int(rng.integers(1, 4)), *sizes), dtype, integers))
    return (x,), {
        "kernel_size": window,
        "stride": tuple(int(v) for v in rng.integers(1, 3, d)),
        "padding": int(rng.integers(0, 3)),
        "dilation": dilation,
    }


def folding(rng, dtype, integers=True, small=False):
    from tests.reference.conv import unfold_forward

    (x,), options = unfolding(rng, dtype, integers, small)
    columns = numbers(rng, unfold_forward(x, **options).shape, dtype, integers)
    return (columns,), {"output_size": tuple(x.shape[2:]), **options}


def pool(d, average):
    def make(rng, dtype, integers=True, small=False):
        n, c = int(rng.integers(1, 4)), int(rng.integers(1, 4 if small else 40))
        window = tuple(int(w) for w in rng.integers(1, 4, d))
        dilation = (1,) * d if average else tuple(int(v) for v in rng.integers(1, 3, d))
        extents = [(w - 1) * g + 1 for w, g in zip(window, dilation, strict=True)]
        sizes = [e + int(rng.integers(0, 8 if d < 3 else 3)) for e in extents]
        stride = None if rng.integers(2) else tuple(int(v) for v in rng.integers(1, 4, d))
        options = {"stride": stride, "ceil_mode": bool(rng.integers(2))}
        if average:
            options["count_include_pad"] = bool(rng.integers(2))
        else:
            options["dilation"] = dilation
        limits = [min(e // 2, 1 if not average and g > 1 else e) for e, g in zip(extents, dilation, strict=True)]
        options["padding"] = tuple((int(rng.integers(0, m + 1)), int(rng.integers(0, m + 1))) for m in limits)
        if not average and any(g > 1 for g in dilation):
            options["padding"], options["ceil_mode"] = 0, False
        return (order(rng, apart(rng, (n, c, *sizes), dtype, integers)),), {"kernel_size": window, **options}

    return make


def spatial(rng, d, low=1, high=9):
    return tuple(int(v) for v in rng.integers(low, high if d < 3 else 5, d))


def adaptive(d):
    def make(rng, dtype, integers=True, small=False):
        x = order(rng, apart(rng, (int(rng.integers(1, 4)), int(rng.integers(1, 4 if small else 40)), *spatial(rng, d)), dtype, integers))
        return (x,), {"output_size": spatial(rng, d)}

    return make


def global_pool(rng, dtype, integers=True, small=False):
    d = int(rng.integers(1, 4))
    return (order(rng, apart(rng, (2, int(rng.integers(1, 30)), *spatial(rng, d)), dtype, integers)),), {}


def lp_pool(d):
    def make(rng, dtype, integers=True, small=False):
        window = tuple(int(v) for v in rng.integers(1, 4, d))
        sizes = [w + int(rng.integers(0, 6 if d < 3 else 3)) for w in window]
        x = order(rng, apart(rng, (int(rng.integers(1, 3)), int(rng.integers(1, 4 if small else 30)), *sizes), dtype, False))
        stride = None if rng.integers(2) else tuple(int(v) for v in rng.integers(1, 4, d))
        return (x,), {
            "kernel_size": window,
            "norm_type": float(rng.choice([1, 2, 3, 2.5])),
            "stride": stride,
            "ceil_mode": bool(rng.integers(2)),
        }

    return make


def unpool(d):
    def make(rng, dtype, integers=True, small=False):
        sizes, window = spatial(rng, d, 1, 6), int(rng.integers(1, 4))
        x = order(rng, numbers(rng, (int(rng.integers(1, 3)), int(rng.integers(1, 5)), *sizes), dtype, integers))
        plane = [m * window for m in sizes]
        options = {"kernel_size": window}
        if window > 1 and rng.integers(2):
            plane = [p + 1 for p in plane]
            options["output_size"] = tuple(plane)
        return (x, rng.integers(0, int(np.prod(plane)), x.shape)), options

    return make


def interpolation(rng, dtype, integers=True, small=False):
    mode = str(rng.choice(["nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area"]))
    d = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}.get(mode, int(rng.integers(1, 4)))
    x = order(rng, numbers(rng, (int(rng.integers(1, 3)), int(rng.integers(1, 4 if small else 24)), *spatial(rng, d)), dtype, integers))
    options = {"mode": mode, "align_corners": bool(rng.integers(2)) if mode not in ("nearest", "nearest-exact", "area") else False}
    if rng.integers(2):
        options["size"] = spatial(rng, d, 1, 12)
    else:
        options["scale_factor"] = tuple(float(v) for v in rng.choice([1.0, 1.5, 2.0, 3.0, 2.3], d))
    return (x,), options


def shuffling(inverse):
    def make(rng, dtype, integers=True, small=False):
        d, f = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        sizes, c = spatial(rng, d, 1, 5), int(rng.integers(1, 3))
        shape = (2, c, *(m * f for m in sizes)) if inverse else (2, c * f**d, *sizes)
        return (order(rng, numbers(rng, shape, dtype, integers)),), {"factor": f}

    return make


def random_shape(rng, low=1, high=4):
    return tuple(int(v) for v in rng.integers(1, 7, rng.integers(low, high + 1)))


def unary(positive=False, away=0.0):
    def make(rng, dtype, integers=True, small=False):
        shape = random_shape(rng) if small or rng.integers(3) else (int(rng.integers(1, 3000)),)
        x = order(rng, numbers(rng, shape, dtype, integers))
        if positive:
            x = np.abs(x) + np.asarray(1, dtype)
        if away and not integers:
            x = x + np.copysign(np.asarray(away, dtype), x)
        return (x,), {}

    return make


def along_axis(rng, dtype, integers=True, small=False):
    (x,), _ = unary()(rng, dtype, integers, True)
    return (x,), {"axis": int(rng.integers(-x.ndim, x.ndim))}


def reduction(rng, dtype, integers=True, small=False):
    x = apart(rng, random_shape(rng), dtype, integers)
    axis = None if rng.integers(2) else int(rng.integers(-x.ndim, x.ndim))
    return (x,), {"axis": axis, "keepdims": bool(rng.integers(2))}


def binary(nonzero=False):
    def make(rng, dtype, integers=True, small=False):
        shape = random_shape(rng)
        other = tuple(1 if rng.integers(3) == 0 else n for n in shape)[int(rng.integers(0, len(shape))) :]
        a, b = apart(rng, shape, dtype, integers), numbers(rng, other, dtype, integers)
        if nonzero:
            b = np.abs(b) + np.asarray(1, dtype)
        return ((a, b) if rng.integers(2) or nonzero else (b, a)), {}

    return make


def linear(rng, dtype, integers=True, small=False):
    lead = random_shape(rng, 0, 2)
    i, o = (int(v) for v in rng.integers(1, 6 if small else 70, 2))
    b = numbers(rng, (o,), dtype, integers) if rng.integers(2) else None
    return (numbers(rng, (*lead, i), dtype, integers), numbers(rng, (o, i), dtype, integers), b), {}


def matmul(rng, dtype, integers=True, small=False):
    m, k, n = (int(v) for v in rng.integers(1, 5 if small else 50, 3))
    lead = [(), (3,), (2, 3)][rng.integers(3)]
    a, b = numbers(rng, (*lead, m, k), dtype, integers), numbers(rng, (*lead, k, n), dtype, integers)
    if lead and rng.integers(2):
        b = b[(0,) * len(lead)]
    return (a, np.asfortranarray(b) if rng.integers(2) else b), {}


def cross_entropy(rng, dtype, integers=True, small=False):
    n, c = int(rng.integers(1, 9)), int(rng.integers(2, 20))
    inner = () if rng.integers(2) else (int(rng.integers(1, 4)),)
    logits = numbers(rng, (n, c, *inner), dtype, integers)
    options = {"reduction": str(rng.choice(["mean", "sum", "none"])), "label_smoothing": float(rng.choice([0.0, 0.1]))}
    if rng.integers(2):
        options["weight"] = rng.uniform(0.5, 2, c).astype(dtype)
    if rng.integers(3) == 0:
        q = rng.uniform(0.1, 1, (n, c, *inner))
        return (logits, (q / q.sum(axis=1, keepdims=True)).astype(dtype)), options
    target = rng.integers(0, c, (n, *inner))
    if target.size > 1 and rng.integers(2):
        target.flat[0] = options.setdefault("ignore_index", -1)
    return (logits, target), options


def reshaping(rng, dtype, integers=True, small=False):
    x = numbers(rng, (int(rng.integers(1, 4)), 6, int(rng.integers(1, 4))), dtype, integers)
    return (order(rng, x),), {"shape": (x.shape[0] * 2, -1)}


def transposing(rng, dtype, integers=True, small=False):
    x = numbers(rng, random_shape(rng), dtype, integers)
    return (x,), {"axes": None if rng.integers(2) else tuple(int(a) for a in rng.permutation(x.ndim))}


def flipping(rng, dtype, integers=True, small=False):
    x = numbers(rng, random_shape(rng), dtype, integers)
    return (x,), {"axis": None if rng.integers(2) else int(rng.integers(x.ndim))}


def indexing(rng, dtype, integers=True, small=False):
    x = numbers(rng, (5, 4), dtype, integers)
    choices = [
        2,
        (slice(None), 1),
        slice(1, 4),
        ([0, 0, 3],),
        (Ellipsis, None, slice(None, None, 2)),
        np.array([True, False, True, True, False]),
    ]
    return (x,), {"index": choices[rng.integers(len(choices))]}


def joining(rng, dtype, integers=True, small=False):
    shape = random_shape(rng)
    return ([numbers(rng, shape, dtype, integers) for _ in range(int(rng.integers(1, 4)))],), {"axis": int(rng.integers(len(shape)))}


def choosing(rng, dtype, integers=True, small=False):
    shape = random_shape(rng)
    return (rng.integers(0, 2, shape).astype(bool), numbers(rng, shape, dtype, integers), numbers(rng, shape[-1:], dtype, integers)), {}


def image(rng, dtype, integers=True, small=False):
    d = int(rng.integers(1, 4))
    return (order(rng, numbers(rng, tuple(int(v) for v in rng.integers(1, 9, d + 2)), dtype, integers)),), {}


def per_channel(rng, c, dtype, count=1):
    """Weights and biases, or None."""
    return tuple(rng.normal(size=c).astype(dtype) if rng.integers(3) else None for _ in range(count))


def feature_shape(rng, small, spatial_axes=None):
    d = int(rng.integers(0, 4)) if spatial_axes is None else spatial_axes
    return (
        int(rng.integers(2, 5)),
        int(rng.integers(1, 5 if small else 40)),
        *(int(v) for v in rng.integers(1, 4 if small or d == 3 else 7, d)),
    )


def batch_norm(rng, dtype, integers=True, small=False):
    x = order(rng, rng.normal(size=feature_shape(rng, small)).astype(dtype) * dtype(2) + dtype(1))
    c, training = x.shape[1], bool(rng.integers(2))
    running = (None, None) if training else (rng.normal(size=c).astype(dtype), rng.uniform(0.5, 2, c).astype(dtype))
    return (x, *running, *per_channel(rng, c, dtype, 2)), {"training": training, "eps": float(rng.choice([1e-5, 1e-3]))}


def group_norm(rng, dtype, integers=True, small=False):
    groups = int(rng.integers(1, 4))
    n, c, *rest = feature_shape(rng, small, int(rng.integers(1, 4)))
    x = order(rng, rng.normal(size=(n, c * groups, *rest, 2)[: 3 + len(rest) - 1]).astype(dtype))
    return (x, groups, *per_channel(rng, x.shape[1], dtype, 2)), {"eps": 1e-3}


def instance_norm(rng, dtype, integers=True, small=False):
    n, c, *rest = feature_shape(rng, small, int(rng.integers(1, 4)))
    x = order(rng, rng.normal(size=(n, c, *(v + 1 for v in rest))).astype(dtype))
    return (x, *per_channel(rng, c, dtype, 2)), {"eps": 1e-3}


def layer_norm(bias):
    def make(rng, dtype, integers=True, small=False):
        x = rng.normal(size=(*random_shape(rng, 0, 2), int(rng.integers(2, 70)))).astype(dtype)
        d = int(rng.integers(1, x.ndim + 1))
        shape = x.shape[-d:]
        given = shape[0] if d == 1 and rng.integers(2) else shape
        extra = tuple(rng.normal(size=shape).astype(dtype) if rng.integers(3) else None for _ in range(2 if bias else 1))
        return (x, given, *extra), {"eps": 1e-3}

    return make


def local_response(rng, dtype, integers=True, small=False):
    x = order(rng, rng.normal(size=feature_shape(rng, small)).astype(dtype))
    return (x,), {
        "size": int(rng.integers(1, 7)),
        "alpha": float(rng.choice([1e-4, 1.0])),
        "beta": 0.75,
        "k": float(rng.choice([1.0, 2.0])),
    }


def dropping(d):
    def make(rng, dtype, integers=True, small=False):
        shape = random_shape(rng) if d == 0 else feature_shape(rng, True, d)
        options = {"p": float(rng.choice([0.0, 0.25, 0.5, 1.0])), "rng": int(rng.integers(0, 1000)), "training": bool(rng.integers(4))}
        return (order(rng, numbers(rng, shape, dtype, integers)),), options

    return make


def with_options(**choices):
    def make(rng, dtype, integers=True, small=False):
        x = rng.normal(size=random_shape(rng)).astype(dtype) * dtype(3)
        return (order(rng, x),), {name: rng.choice(values).item() for name, values in choices.items()}

    return make


def away_from(*points):
    """Real numbers not too near a kink."""

    def make(rng, dtype, integers=True, small=False):
        x = rng.normal(size=random_shape(rng)) * 3
        for point in points:
            near = np.abs(x - point) < 0.01
            x[near] = point + 0.02
        return (order(rng, x.astype(dtype)),), {}

    return make


def embedding(rng, dtype, integers=True, small=False):
    rows, width = int(rng.integers(1, 9)), int(rng.integers(1, 80))
    return (rng.integers(0, rows, random_shape(rng, 1, 3)), numbers(rng, (rows, width), dtype, integers)), {}


def pairwise(kind):
    def make(rng, dtype, integers=True, small=False):
        shape = random_shape(rng)
        x = rng.normal(size=shape) * 2
        t = rng.normal(size=shape) * 2 if kind == "real" else rng.uniform(0, 1, shape)
        options = {"reduction": str(rng.choice(["mean", "sum", "none"]))}
        if kind == "real":
            t = np.where(np.abs(np.abs(x - t) - np.round(np.abs(x - t))) < 0.02, t + 0.1, t)  # kinks lie at 0 and 1
        return (order(rng, x.astype(dtype)), order(rng, t.astype(dtype))), options

    return make


def nll(rng, dtype, integers=True, small=False):
    (logits, target), options = cross_entropy(rng, dtype, integers, small)
    del options["label_smoothing"]
    if target.dtype.kind == "f":
        target = target.argmax(axis=1)
    return (logits, target), options


def power(rng, dtype, integers=True, small=False):
    (x,), _ = unary(positive=True)(rng, dtype, integers, True)
    return (x,), {"exponent": int(rng.integers(1, 4))}


def weight_set(rng, dtype, integers, gates, inputs, units, outputs, bias):
    low = 2 if integers else 4
    shapes = [(gates * units, inputs), (gates * units, outputs), (gates * units,), (gates * units,)]
    return [numbers(rng, s, dtype, integers, -low, low) if len(s) == 2 or bias else None for s in shapes]


def scaled(arrays, factor):
    return [None if a is None else (a * factor).astype(a.dtype) for a in arrays]


def recurrent(kind, gates):
    """x, h0, c0 of an LSTM, then two sets of weights: two layers, two directions, or one of either and no second set."""

    def make(rng, dtype, integers=True, small=False):
        n, t = int(rng.choice([1, 2, 3, 5])), int(rng.integers(1, 4 if small else 7))
        f, h = (int(v) for v in rng.integers(1, 4 if small else 40, 2))
        form, projected = str(rng.choice(["one", "layers", "directions"])), kind == "lstm" and h > 1 and rng.integers(3) == 0
        p = int(rng.integers(1, h)) if projected else h
        sets, states = (1, 1) if form == "one" else (2, 2)
        options = {"num_layers": 2 if form == "layers" else 1, "bidirectional": form == "directions", "batch_first": bool(rng.integers(2))}
        if kind == "rnn":
            options["nonlinearity"] = str(rng.choice(["tanh", "relu"]))
        if kind == "lstm":
            options["proj_size"] = p if projected else 0
        if rng.integers(2):
            options["lengths"] = [int(v) for v in rng.integers(1, t + 1, n)]
        bias = bool(rng.integers(2))
        weights = []
        for k in range(2):
            inputs = p if k and form == "layers" else f
            group = weight_set(rng, dtype, False, gates, inputs, h, p, bias) if k < sets else [None] * 4
            if kind == "lstm":
                group.append(rng.normal(size=(p, h)).astype(dtype) if projected and k < sets else None)
            weights += scaled(group, 1 / np.sqrt(h))
        x = rng.normal(size=(n, t, f) if options["batch_first"] else (t, n, f)).astype(dtype)
        given = bool(rng.integers(2))
        initial = [rng.normal(size=(states, n, p)).astype(dtype) if given else None]
        if kind == "lstm":
            initial.append(rng.normal(size=(states, n, h)).astype(dtype) if given else None)
        return (x, *initial, *weights), options

    return make


def one_step(kind, gates):
    def make(rng, dtype, integers=True, small=False):
        n, f, h = int(rng.integers(1, 5)), *(int(v) for v in rng.integers(1, 5 if small else 40, 2))
        weights = scaled(weight_set(rng, dtype, False, gates, f, h, h, bool(rng.integers(2))), 1 / np.sqrt(h))
        states = [rng.normal(size=(n, h)).astype(dtype) for _ in range(2 if kind == "lstm" else 1)]
        options = {"nonlinearity": str(rng.choice(["tanh", "relu"]))} if kind == "rnn" else {}
        return (rng.normal(size=(n, f)).astype(dtype), *states, *weights), options

    return make


def convolved_step(rng, dtype, integers=True, small=False):
    n, c, k, m, w = (int(v) for v in rng.integers(1, 4 if small else 7, 5))
    size = int(rng.choice([1, 3]))
    x, h, cell = (order(rng, rng.normal(size=(n, channels, m, w)).astype(dtype)) for channels in (c, k, k))
    filters = [(rng.normal(size=(4 * k, channels, size, size)) / np.sqrt(channels * size * size)).astype(dtype) for channels in (c, k)]
    return (x, h, cell, *filters, rng.normal(size=4 * k).astype(dtype) if rng.integers(2) else None), {}


def masking(rng, dtype, scores):
    """None, or a mask that broadcasts to the scores: bool with at least one key a row, or real."""
    kind = rng.integers(4)
    if kind == 0:
        return None
    shape = tuple(1 if rng.integers(3) == 0 else n for n in scores)[int(rng.integers(0, len(scores) - 1)) :]
    if kind == 1:
        return rng.normal(size=shape).astype(dtype)
    mask = rng.integers(0, 2, shape).astype(bool)
    mask[..., 0] = True
    return mask


def dot_attention(rng, dtype, integers=True, small=False):
    lead = [(), (2,), (2, 3)][rng.integers(3)]
    m, n, e, w = (int(v) for v in rng.integers(1, 6 if small else 70, 4))
    if not small and rng.integers(4) == 0:
        n += 300
    if small:
        lead = lead[:1]
    q, k, v = (rng.normal(size=(*lead, *s)).astype(dtype) for s in ((m, e), (n, e), (n, w)))
    options = {"is_causal": bool(rng.integers(3) == 0), "scale": None if rng.integers(2) else 0.5}
    return (q, k, v, masking(rng, dtype, (*lead, m, n))), options


def head_attention(rng, dtype, integers=True, small=False):
    heads, n = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    m, s, e, w, dq, dk, dv, out = (int(v) for v in rng.integers(1, 4 if small else 20, 8))
    e, w = e * heads, w * heads
    shapes = [(n, m, dq), (n, s, dk), (n, s, dv), (e, dq), (e, dk), (w, dv), (out, w)]
    arrays = [(rng.normal(size=a) / (1 if len(a) == 3 else np.sqrt(a[1]))).astype(dtype) for a in shapes]  # scores of some units
    bias = [rng.normal(size=a).astype(dtype) for a in (e, e, w, out)] if rng.integers(2) else [None] * 4
    mask = masking(rng, dtype, (n, heads, m, s))
    return (*arrays, mask, *bias), {"num_heads": heads, "is_causal": bool(rng.integers(3) == 0)}


def small_network_attention(rng, dtype, integers=True, small=False):
    n = int(rng.integers(1, 3))
    m, s, w, h, dq, dk = (int(v) for v in rng.integers(1, 4 if small else 20, 6))
    shapes = [(n, m, dq), (n, s, dk), (n, s, w), (h, dq), (h, dk), (h,)]
    arrays = [(rng.normal(size=a) / (np.sqrt(a[-1]) if len(a) < 3 else 1)).astype(dtype) for a in shapes]
    return (*arrays, masking(rng, dtype, (n, m, s))), {}


CASES = {f"conv{d}d": conv(d) for d in (1, 2, 3)}
CASES |= {f"conv_transpose{d}d": conv_transpose(d) for d in (1, 2, 3)}
CASES |= {"pad": padding, "unfold": unfolding, "fold": folding}
CASES |= {f"max_pool{d}d": pool(d, False) for d in (1, 2, 3)}
CASES |= {f"avg_pool{d}d": pool(d, True) for d in (1, 2, 3)}
CASES |= {f"adaptive_{kind}_pool{d}d": adaptive(d) for kind in ("avg", "max") for d in (1, 2, 3)}
CASES |= {f"lp_pool{d}d": lp_pool(d) for d in (1, 2, 3)} | {f"max_unpool{d}d": unpool(d) for d in (1, 2, 3)}
CASES |= {"global_avg_pool": global_pool, "global_max_pool": global_pool, "interpolate": interpolation}
CASES |= {"pixel_shuffle": shuffling(False), "pixel_unshuffle": shuffling(True)}
CASES |= {"relu": unary(away=0.05), "sigmoid": unary(), "tanh": unary(), "softmax": along_axis, "log_softmax": along_axis}
CASES |= {"exp": unary(), "log": unary(positive=True), "sqrt": unary(positive=True), "negative": unary(), "power": power}
CASES |= {"add": binary(), "subtract": binary(), "multiply": binary(), "divide": binary(nonzero=True), "maximum": binary()}
CASES |= {"linear": linear, "matmul": matmul, "cross_entropy": cross_entropy, "sum": reduction, "mean": reduction, "max": reduction}
CASES |= {"reshape": reshaping, "transpose": transposing, "flip": flipping, "getitem": indexing, "concatenate": joining, "stack": joining}
CASES |= {"where": choosing, "channels_last": image}

CASES |= {"batch_norm": batch_norm, "group_norm": group_norm, "instance_norm": instance_norm, "local_response_norm": local_response}
CASES |= {"layer_norm": layer_norm(True), "rms_norm": layer_norm(False), "embedding": embedding, "nll_loss": nll}
CASES |= {"dropout": dropping(0)} | {f"dropout{d}d": dropping(d) for d in (1, 2, 3)}
CASES |= {
    "relu6": away_from(0, 6),
    "hardtanh": away_from(-1, 1),
    "silu": away_from(),
    "softplus": away_from(),
    "elu": with_options(alpha=[1.0, 0.5]),
}
CASES |= {"leaky_relu": with_options(negative_slope=[0.01, 0.25]), "gelu": with_options(approximate=["none", "tanh"])}
CASES |= {name: pairwise("real") for name in ("mse_loss", "l1_loss", "huber_loss")}
CASES |= {name: pairwise("share") for name in ("binary_cross_entropy_with_logits", "kl_div")}

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
CASES |= {kind: recurrent(kind, g) for kind, g in GATES.items()} | {f"{kind}_cell": one_step(kind, g) for kind, g in GATES.items()}

CASES |= {"scaled_dot_product_attention": dot_attention, "multi_head_attention": head_attention}
CASES |= {"convlstm_cell": convolved_step}
CASES |= {"additive_attention": small_network_attention}

# Integer operands give exactly representable results: compared with threshold 0.
EXACT = {
    *(f"conv{d}d" for d in (1, 2, 3)),
    *(f"conv_transpose{d}d" for d in (1, 2, 3)),
    *(f"max_pool{d}d" for d in (1, 2, 3)),
    *(f"{kind}{d}d" for kind in ("adaptive_max_pool", "max_unpool") for d in (1, 2, 3)),
    *"embedding pad unfold fold global_max_pool pixel_shuffle pixel_unshuffle".split(),
    *"relu linear matmul add subtract multiply maximum negative sum max reshape transpose flip getitem concatenate stack where channels_last".split(),
}
# Linear in these arrays, the others fixed (a bias left out): the adjoint identity holds exactly on integers.
LINEAR = {
    **{f"conv{d}d": ("x", "weight") for d in (1, 2, 3)},
    **{f"conv_transpose{d}d": ("x", "weight") for d in (1, 2, 3)},
    **dict.fromkeys(("pad", "pixel_shuffle", "pixel_unshuffle"), ("x",)),
    **{f"max_unpool{d}d": () for d in (1, 2, 3)},
    "unfold": ("x",),
    "fold": ("cols",),
    "linear": ("x", "weight"),
    "matmul": ("a", "b"),
    "sum": ("x",),
    **dict.fromkeys(("reshape", "transpose", "flip", "getitem", "channels_last", "negative"), ("x",)),
}
__all__ = ["CASES", "EXACT", "LINEAR", "axes"]
