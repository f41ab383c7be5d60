"""Operations step by step, as numbers: what the animations, the terminal demonstrations and the lessons show."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cnnpy import functional as F

__all__ = ["LSTMSteps", "PoolSteps", "SlideSteps", "equation", "lstm_steps", "number_text", "pool_steps", "slide_steps"]

KINDS = ("forward", "transposed", "backward")


@dataclass
class SlideSteps:
    """A kernel that slides over an input: made by :func:`slide_steps`.

    Attributes
    ----------
    kind : str
    padded, kernel, output : ndarray
        The input with its padding (of 'transposed' and 'backward' without), the kernel as it is laid on the input, the finished result.
    steps : list of dict
        ``cell`` (of the output; of 'transposed' and 'backward' of the input), ``window`` (the cells under the kernel), ``products`` (pairs of
        factors), ``total``, and with 'transposed' and 'backward' ``partial``: the sums so far.
    before : list of pairs
        Padding before and after each axis.
    title : str
    """

    kind: str
    padded: np.ndarray
    kernel: np.ndarray
    steps: list
    output: np.ndarray
    before: list
    title: str


@dataclass
class PoolSteps:
    """A window that slides over an input and keeps its maximum or mean: made by :func:`pool_steps`.

    Attributes
    ----------
    kind : str
    x, output : ndarray
    steps : list of dict
        ``cell``, ``window``, ``values``, ``total`` (the result) and, of the maximum, ``chosen``: where it stands.
    """

    kind: str
    x: np.ndarray
    output: np.ndarray
    steps: list


@dataclass
class LSTMSteps:
    """The gates and states of an LSTM over time, each (T, hidden_size): made by :func:`lstm_steps`."""

    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    c: np.ndarray
    h: np.ndarray
    names: ClassVar = ("input gate i", "forget gate f", "candidate g", "output gate o", "cell c", "hidden h")

    def __iter__(self):
        return iter((self.i, self.f, self.g, self.o, self.c, self.h))


def number_text(value):
    """A number in few characters."""
    return f"{value:.4g}"


def _factor(value):
    return f"({number_text(value)})" if value < 0 else number_text(value)


def equation(kind, step):
    """What a step of :func:`slide_steps` computes, as a line of text; of more than nine products the first nine."""
    if kind != "forward":
        return f"{number_text(step['total'])} times the kernel is added to the window of {step['cell']}"
    terms = " + ".join(f"{_factor(a)}·{_factor(k)}" for a, k in step["products"][:9]) + (" + ..." if len(step["products"]) > 9 else "")
    return f"output{step['cell']} = {terms} = {number_text(step['total'])}"


def _plane(function, name, a):
    a = np.asarray(a, np.float64)
    while a.ndim > 2 and a.shape[0] == 1:
        a = a[0]
    if a.ndim != 2 or not a.size:
        raise ValueError(f"{function}: {name} has shape {a.shape}, expected (H, W), or axes of length 1 before them")
    return a


def _padding(padding, x, extent, stride):
    """Pairs of padding before and after the two axes."""
    pairs = []
    for axis in range(2):
        if padding == "full":
            pairs.append((extent[axis] - 1, extent[axis] - 1))
        elif padding == "valid":
            pairs.append((0, 0))
        elif padding == "same":
            total = max((-(-x.shape[axis] // stride[axis]) - 1) * stride[axis] + extent[axis] - x.shape[axis], 0)
            pairs.append((total // 2, total - total // 2))
        else:
            p = padding if np.ndim(padding) == 0 else padding[axis]
            pairs.append((p, p) if np.ndim(p) == 0 else tuple(p))
    return pairs


def slide_steps(x, kernel, *, stride=1, padding=0, dilation=1, flip=False, kind="forward", function="tools.slide_steps"):
    """Every step of a kernel that slides over an input: the cells of the window, the products, their sum.

    Parameters
    ----------
    x : array_like, shape (H, W)
        The input; of 'transposed' and 'backward' what is scattered: an input of a transposed convolution, a gradient of a convolution's output.
    kernel : array_like, shape (R, S)
    stride, dilation : int or (int, int)
    padding : int, pairs, 'valid', 'same' or 'full'
        As of :func:`cnnpy.conv2d`; of 'transposed' and 'backward' an int or two.
    flip : bool
        Read the kernel backwards: the convolution of mathematics.
    kind : {'forward', 'transposed', 'backward'}
        'backward' is the gradient of the input: what a transposed convolution computes.

    Returns
    -------
    SlideSteps

    Examples
    --------
    >>> import numpy as np
    >>> from cnnpy import tools
    >>> slide = tools.slide_steps(np.arange(1.0, 26).reshape(5, 5), [[1, 0, -1]] * 3)
    >>> len(slide.steps), slide.steps[0]["total"]
    (9, -6.0)
    """
    if kind not in KINDS:
        raise ValueError(f"{function}: kind is {kind!r}, expected one of {', '.join(KINDS)}")
    x, kernel = _plane(function, "x", x), _plane(function, "kernel", kernel)
    s, d = ((v, v) if np.ndim(v) == 0 else tuple(v) for v in (stride, dilation))
    used = kernel[::-1, ::-1] if flip else kernel
    taps = [(r, c) for r in range(kernel.shape[0]) for c in range(kernel.shape[1])]
    extent = [(n - 1) * k + 1 for n, k in zip(kernel.shape, d, strict=True)]
    options = f"stride {s[0]}" if s[0] == s[1] else f"stride {s}"
    options += f", padding {padding}" + (f", dilation {d[0]}" if d != (1, 1) else "") + (", kernel flipped" if flip else "")

    def window_of(i, j):
        return [(i * s[0] + r * d[0], j * s[1] + c * d[1]) for r, c in taps]

    if kind == "forward":
        output = F.conv2d(x[None, None], kernel[None, None], stride=stride, padding=padding, dilation=dilation, flip=flip)[0, 0]
        before = _padding(padding, x, extent, s)
        padded = np.pad(x, before)
        steps = []
        for i, j in np.ndindex(output.shape):
            window = window_of(i, j)
            products = [(padded[w], used[t]) for w, t in zip(window, taps, strict=True)]
            steps.append({"cell": (i, j), "window": window, "products": products, "total": float(output[i, j])})
        title = f"convolution{' (flipped)' if flip else ', as networks have it'}: {options}"
        return SlideSteps(kind, padded, used, steps, output, before, title)
    p = (padding, padding) if np.ndim(padding) == 0 else tuple(padding)
    if any(isinstance(v, str) or np.ndim(v) for v in p):
        raise ValueError(f"{function}: padding is {padding!r}, expected an int or two with kind={kind!r}")
    sizes = [(n - 1) * s[a] + extent[a] for a, n in enumerate(x.shape)]
    sums, steps = np.zeros(sizes), []
    for i, j in np.ndindex(x.shape):
        window = window_of(i, j)
        for w, t in zip(window, taps, strict=True):
            sums[w] += x[i, j] * used[t]
        steps.append({"cell": (i, j), "window": window, "products": [], "total": float(x[i, j]), "partial": sums.copy()})
    output = sums[p[0] : sizes[0] - p[0], p[1] : sizes[1] - p[1]]
    name = "transposed convolution" if kind == "transposed" else "gradient of the input"
    return SlideSteps(kind, x, used, steps, output, [(v, v) for v in p], f"{name}: {options}")


def pool_steps(x, size=2, *, stride=None, kind="max"):
    """Every step of a pool: the window, its values, the maximum (and where it stands) or the mean.

    Parameters
    ----------
    x : array_like, shape (H, W)
    size : int or (int, int)
    stride : int or (int, int), optional
        The size by default.
    kind : {'max', 'average'}

    Returns
    -------
    PoolSteps
    """
    if kind not in ("max", "average"):
        raise ValueError(f"tools.pool_steps: kind is {kind!r}, expected 'max' or 'average'")
    x = _plane("tools.pool_steps", "x", x)
    k = (size, size) if np.ndim(size) == 0 else tuple(size)
    s = k if stride is None else (stride, stride) if np.ndim(stride) == 0 else tuple(stride)
    output = (F.max_pool2d if kind == "max" else F.avg_pool2d)(x[None, None], k, stride=s)[0, 0]
    steps = []
    for i, j in np.ndindex(output.shape):
        window = [(i * s[0] + r, j * s[1] + c) for r in range(k[0]) for c in range(k[1])]
        values = [float(x[w]) for w in window]
        step = {"cell": (i, j), "window": window, "values": values, "total": float(output[i, j])}
        if kind == "max":
            step["chosen"] = window[int(np.argmax(values))]
        steps.append(step)
    return PoolSteps(kind, x, output, steps)


def _sigmoid(a):
    return 1 / (1 + np.exp(-a))


def lstm_steps(layer, x, *, function="tools.lstm_steps"):
    """The gates and states of an LSTM at every time step, by its formulas in float64.

    Parameters
    ----------
    layer : cnnpy.nn.LSTM
        One layer in one direction, with biases, without a projection.
    x : array_like, shape (T, input_size)
        One sequence.

    Returns
    -------
    LSTMSteps
        ``i, f, o = sigmoid(...)``, ``g = tanh(...)``, ``c = f * c + i * g``, ``h = o * tanh(c)``.
    """
    x = np.asarray(x, np.float64)
    plain = getattr(layer, "gates", None) == 4 and layer.num_layers == 1 and not layer.bidirectional and not layer.proj_size
    if not plain or not hasattr(layer, "bias_ih_l0"):
        raise ValueError(f"{function}: layer is no plain LSTM, expected one layer in one direction with biases and without a projection")
    if x.ndim != 2 or x.shape[1] != layer.input_size or not len(x):
        raise ValueError(f"{function}: x has shape {x.shape}, expected (T, {layer.input_size})")
    w, v, b = (np.asarray(getattr(layer, n)._data, np.float64) for n in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"))
    b = b + np.asarray(layer.bias_hh_l0._data, np.float64)
    h = c = np.zeros(v.shape[1])
    steps = []
    for row in x:
        i, f, g, o = np.split(w @ row + v @ h + b, 4)
        i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        c = f * c + i * g
        h = o * np.tanh(c)
        steps.append((i, f, g, o, c, h))
    gates = [np.array(a) for a in zip(*steps, strict=True)]
    return LSTMSteps(*gates)
