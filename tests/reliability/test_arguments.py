"""Bad arguments: every function, every argument, every corner value of its kind, forward and backward.

What is expected is an exception of the right class whose text names the function and the argument, nothing changed, and a right next call;
or a result equal to the reference, where the value turns out to be legal.
"""

import inspect

import numpy as np
import pytest

from tests.reliability.cases import CASES
from tests.reliability.flat import FLAT as OPERATIONS
from tests.reliability.flat import Flat

CORE = [
    n
    for n in CASES
    if n.startswith(("conv", "max_", "avg_pool", "pad", "unfold", "fold", "adaptive", "global", "lp_", "interpolate", "pixel"))
    or n.endswith(("_norm", "_loss"))
    or n.startswith("dropout")
    or n in "relu sigmoid tanh softmax log_softmax linear cross_entropy embedding kl_div binary_cross_entropy_with_logits".split()
    or n in "relu6 hardtanh leaky_relu elu silu gelu softplus".split()
    or n.endswith(("_cell", "_attention"))
    or n in ("rnn", "lstm", "gru")
]


class Lying:
    """Claims to be an array and is none."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no array here")


class LyingIndex:
    def __index__(self):
        raise RuntimeError("no integer here")


BAD_ARRAYS = {
    "None": None,
    "complex": np.ones((1, 1), complex),
    "object": np.array([[None]], object),
    "str": np.array(["a"]),
    "datetime": np.array(["2020-01-01"], "datetime64[D]"),
    "longdouble": np.ones((1, 1), np.longdouble),
    "structured": np.zeros(2, [("a", "f4")]),
    "ragged": [[1.0, 2.0], [3.0]],
    "masked": np.ma.array([1.0, 2.0]),
    "string": "nothing",
    "a set": {1, 2},
}
BAD_INTEGERS = [
    0,
    -1,
    2**31,
    2**63 - 1,
    2**64,
    10**30,
    -(2**63),
    True,
    1.0,
    float("nan"),
    "2",
    None,
    (),
    (1,) * 7,
    [1.5],
    b"1",
    LyingIndex(),
]
BAD_STRINGS = ["sam", "SAME", "", b"same", 3.5, {}]
INTEGER_OPTIONS = {
    "stride",
    "dilation",
    "groups",
    "kernel_size",
    "axis",
    "ignore_index",
    "output_padding",
    "output_size",
    "pads",
    "factor",
    "size",
}
LEGAL = {("stride", "None"), ("axis", "0"), ("axis", "-1"), ("ignore_index", "0"), ("ignore_index", "-1"), ("padding", "0")}


def sample(name):
    rng = np.random.default_rng(3)
    while True:
        arrays, options = CASES[name](rng, np.float32)
        if all(not isinstance(a, np.ndarray) or a.size > 1 for a in arrays) and ("padding_mode" not in options or arrays[2] is not None):
            return arrays, {k: v for k, v in options.items() if k not in ("return_indices",)}


def check(function, name, argument, value, *args, **options):
    """The call raises TypeError, ValueError or MemoryError and names itself; a legal value may pass."""
    try:
        function(*args, **options)
    except (TypeError, ValueError, MemoryError) as error:
        text = str(error)
        assert name.removesuffix("_backward") in text, f"{name}, {argument}={value!r}: the message does not name the function: {text}"
        assert (
            not isinstance(error, MemoryError) or "no memory" in text or "too large" in text or "too many" in text or "memory limit" in text
        )
        return True
    except RuntimeError as error:
        assert isinstance(value, (Lying, LyingIndex)), error
        return True
    return False


@pytest.mark.parametrize("name", CORE)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_arrays(name, direction):
    op = OPERATIONS[name]
    arrays, options = sample(name)
    lead = () if direction == "forward" else (np.ones_like(np.asarray(op.forward(*arrays, **options))),)
    function = getattr(op, direction)
    label = name if direction == "forward" else f"{name}_backward"
    given = (*lead, *arrays)
    names = (*(["dy"] if lead else []), *op.arrays)
    wanted = function(*given, **options)
    for i, argument in enumerate(names):
        if given[i] is None:
            continue
        for kind, bad in {**BAD_ARRAYS, "lying": Lying()}.items():
            if bad is None and argument in op.optional:
                continue
            refused = check(function, label, argument, bad, *given[:i], bad, *given[i + 1 :], **options)
            assert refused, f"{label}: {argument} as {kind} was accepted"
        for axis in range(np.ndim(given[i])):  # one longer along one axis: refused, or legal where the axis is free
            longer = np.concatenate([given[i], np.take(given[i], [0], axis)], axis)
            check(function, label, argument, f"axis {axis} + 1", *given[:i], longer, *given[i + 1 :], **options)
        for wrong in (np.asarray(given[i])[None, None, None, None], np.float32(1)):
            check(function, label, argument, "rank", *given[:i], wrong, *given[i + 1 :], **options)
    assert [np.asarray(a).tobytes() for a in flat(function(*given, **options))] == [np.asarray(a).tobytes() for a in flat(wanted)]


def flat(result):
    return [r for r in (result if isinstance(result, tuple) else (result,)) if r is not None]


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in CORE
        if not isinstance(OPERATIONS[n], Flat)
        and set(inspect.signature(OPERATIONS[n].forward).parameters) & (INTEGER_OPTIONS | {"padding"})
    ],
)
def test_options(name):
    op = OPERATIONS[name]
    arrays, options = sample(name)
    dy = np.ones_like(np.asarray(op.forward(*arrays, **options)))
    wanted = np.asarray(op.forward(*arrays, **options)).tobytes()
    accepts = inspect.signature(op.forward).parameters
    for option in (INTEGER_OPTIONS | {"padding"}) & set(accepts):
        for bad in BAD_INTEGERS:
            for function, label, lead in ((op.forward, name, ()), (op.backward, f"{name}_backward", (dy,))):
                refused = check(function, label, option, bad, *lead, *arrays, **{**options, option: bad})
                if isinstance(bad, (bool, float, str, bytes, tuple, list)) or bad in (2**64, 10**30, -(2**63)):
                    assert refused, f"{label}: {option}={bad!r} was accepted"
                if not refused and label == name:
                    free = {"stride", "ignore_index", "axis", "padding", "output_padding", "output_size", "size"}
                    assert (option, str(bad)) in LEGAL or bad == 2**31 or option in free, (option, bad)
    for option in {"padding", "padding_mode", "reduction", "algorithm", "mode"} & set(accepts):
        for bad in BAD_STRINGS:
            assert check(op.forward, name, option, bad, *arrays, **{**options, option: bad}), f"{name}: {option}={bad!r} was accepted"
    for option in {"flip", "ceil_mode", "count_include_pad"} & set(accepts):
        for bad in (1, 0, None, "yes", 1.0):
            assert check(op.forward, name, option, bad, *arrays, **{**options, option: bad}), f"{name}: {option}={bad!r} was accepted"
    with pytest.raises(TypeError):
        op.forward(*arrays, **options, nothing=1)
    assert np.asarray(op.forward(*arrays, **options)).tobytes() == wanted


def test_the_sentences_of_the_contract():
    from cnnpy import functional as F

    x = np.zeros((2, 4, 8, 8), np.float32)
    with pytest.raises(ValueError) as e:
        F.conv2d(x, np.zeros((8, 3, 3, 3)))
    assert str(e.value) == "conv2d: weight has shape (8, 3, 3, 3), expected (C_out, 4, kh, kw) because x has 4 channels and groups=1"
    with pytest.raises(ValueError) as e:
        F.conv2d(x[:, :, :2], np.zeros((8, 4, 3, 3)))
    assert str(e.value) == (
        "conv2d: no output along axis 2: input 2 + padding (0, 0) is smaller than the kernel's extent 3; try padding='same'"
    )
    with pytest.raises(ValueError, match=r"conv2d: groups is 3, expected a divisor of the 4 channels of x"):
        F.conv2d(x, np.zeros((8, 4, 3, 3)), groups=3)
    with pytest.raises(ValueError, match=r"max_pool2d: padding \(2, 2\) along axis 2 is more than half"):
        F.max_pool2d(x, 2, padding=2)
    with pytest.raises(ValueError, match=r"cross_entropy: target holds 9 at position 1, expected 0 to 3"):
        F.cross_entropy(np.zeros((2, 4)), [0, 9])
    with pytest.raises(ValueError, match="lies on no cell"):
        F.max_pool1d(np.zeros((1, 1, 2)), 2, dilation=4, padding=2)


def test_memory_limit_refuses_before_allocating():
    import cnnpy

    x = np.broadcast_to(np.float32(1), (1 << 10, 1 << 10, 1 << 10, 1 << 12))
    with pytest.raises(MemoryError, match="relu"):
        cnnpy.relu(x)
    cnnpy.set_memory_limit(1 << 20)
    try:
        with pytest.raises(MemoryError, match="conv2d: the result of shape"):
            cnnpy.conv2d(np.zeros((1, 1, 1000, 1000), np.float32), np.zeros((1, 1, 1, 1), np.float32))
    finally:
        cnnpy.set_memory_limit(None)
    assert cnnpy.relu(np.float32(3)) == 3


def test_dtype_rule():
    from cnnpy import functional as F

    for given, wanted in [("float16", "float32"), ("float32", "float32"), ("float64", "float64"), ("int8", "float32"), ("int32", "float64"),
                          ("int64", "float64"), ("bool", "float32"), ("uint16", "float32")]:  # fmt: skip
        assert F.relu(np.ones(3, given)).dtype == wanted
    assert F.linear(np.ones((2, 3), np.float32), np.ones((4, 3), np.float64)).dtype == np.float64
