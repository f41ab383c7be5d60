"""Every backward function against numeric differentiation, and against the adjoint identity where the function is linear."""

import numpy as np
import pytest

from cnnpy.tools import gradcheck
from tests.reliability.cases import CASES, EXACT, LINEAR
from tests.reliability.flat import FLAT as OPERATIONS
from tests.reliability.flat import function_of

CURVED = {
    *(f"lp_pool{d}d" for d in (1, 2, 3)),
    "softmax",
    "log_softmax",
    "cross_entropy",
    "tanh",
    "sigmoid",
    "exp",
    "log",
    "divide",
    "sqrt",
    "power",
    *"batch_norm group_norm instance_norm layer_norm rms_norm local_response_norm elu silu gelu softplus".split(),
    *"mse_loss huber_loss binary_cross_entropy_with_logits".split(),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_gradcheck(name, rng, budget):
    call, op = function_of(name), OPERATIONS[name]
    for _ in range(budget(4, 200, 1000)):
        arrays, options = CASES[name](rng, np.float64, integers=False, small=True)
        if op.variadic:
            error = gradcheck(lambda *a: call(list(a), **options), *arrays[0], entries=20)  # noqa: B023
        elif set(op.arrays) != set(op.differentiable) or any(a is None for a in arrays):
            fixed = [
                None if a is not None and np.asarray(a).dtype.kind == "f" and n in op.differentiable else (a,)
                for a, n in zip(arrays, op.arrays, strict=True)
            ]
            free = [a for a, f in zip(arrays, fixed, strict=True) if f is None]

            def run(*tensors, fixed=fixed, options=options):
                given = iter(tensors)
                return call(*(next(given) if f is None else f[0] for f in fixed), **options)

            error = gradcheck(run, *free, entries=20)
        else:
            error = gradcheck(lambda *a: call(*a, **options), *arrays, entries=20)  # noqa: B023
        assert error < (1e-6 if name in CURVED else 1e-7), options


@pytest.mark.parametrize("name", sorted(LINEAR))
def test_adjoint_on_integers(name, isa, rng, budget):
    """<dy, A x> = <A' dy, x>, exactly, in every array in which the function is linear."""
    op = OPERATIONS[name]
    for _ in range(budget(8, 70, 350)):
        arrays, options = CASES[name](rng, np.float64)
        arrays = tuple(None if n == "bias" else a for a, n in zip(arrays, op.arrays, strict=True))
        y = op.forward(*arrays, **options)
        dy = rng.integers(-4, 5, y.shape).astype(np.float64)
        gradients = op.backward(dy, *arrays, **options)
        for field in LINEAR[name]:
            x = arrays[op.arrays.index(field)]
            assert np.sum(dy * y) == np.sum(getattr(gradients, field) * x), (field, options)


@pytest.mark.parametrize("name", sorted(n for n in CASES if not OPERATIONS[n].variadic))  # gradients of the others are one list
def test_needs_and_repeated_backward(name, rng):
    """`needs` computes the same gradients one at a time; a second call gives the same bits."""
    op = OPERATIONS[name]
    arrays, options = CASES[name](rng, np.float32, integers=False)
    y = op.forward(*arrays, **options)
    dy = rng.normal(size=y.shape).astype(np.float32)
    whole, again = op.backward(dy, *arrays, **options), op.backward(dy, *arrays, **options)
    for field, a, b in zip(whole._fields, whole, again, strict=True):
        single = op.backward(dy, *arrays, **options, needs=(field,))
        assert all(v is None for n, v in zip(single._fields, single, strict=True) if n != field)
        if a is None:
            assert b is None and getattr(single, field) is None
            continue
        assert a.tobytes() == b.tobytes() == getattr(single, field).tobytes()
    with pytest.raises(ValueError, match="needs holds 'nothing'"):
        op.backward(dy, *arrays, **options, needs=("nothing",))


def test_planted_error_is_found():
    """The detector itself: a gradient of the wrong sign does not pass."""
    op = OPERATIONS["tanh"]
    right = op.backward
    try:
        op.backward = lambda dy, x, **o: op.Gradients(-right(dy, x, **o).x)
        from cnnpy import functional as F

        assert gradcheck(F.tanh, np.array([0.2, 0.7])) > 1e-2
    finally:
        op.backward = right


def test_cases_cover_exact_names():
    assert set(CASES) >= EXACT


@pytest.mark.parametrize("name", sorted(n for n in CASES if OPERATIONS[n].backward is not None and not OPERATIONS[n].variadic))
def test_nothing_needed_nothing_computed(name, rng):
    """``needs=()``: a gradient of everything is None; a name that is no array is refused."""
    op = OPERATIONS[name]
    arrays, options = CASES[name](rng, np.float64, small=True)
    y = op.forward(*arrays, **options)
    dy = tuple(np.ones_like(part) for part in y) if isinstance(y, tuple) else np.ones_like(y, np.float64)
    assert all(g is None for g in op.backward(dy, *arrays, **options, needs=()))
    with pytest.raises(ValueError, match="needs holds 'z'"):
        op.backward(dy, *arrays, **options, needs=("z",))
