"""The binding by itself: every function of ``cnnpy._core`` with one argument at a time replaced by what it cannot use.

The package asks for nothing like that. The core still ends no process: it refuses with one of Python's exceptions, or the value turns out to be usable.
"""

import gc

import numpy as np
import pytest

import cnnpy
from cnnpy import _core, nn, optim
from tests.reliability.cases import CASES
from tests.reliability.flat import FLAT as OPERATIONS

# What works upon the whole process, or on the program that is being recorded.
# Programs are left out too where they work on arrays: those that are bound to them are as long as their maker says.
LEFT_OUT = {"choose_isa", "set_memory_limit", "set_num_threads", "probe", "record_begin", "record_end", "trim_memory"}
REFUSALS = (TypeError, ValueError, OverflowError, MemoryError)


class Failing:
    """Raises wherever it is asked for something."""

    def __index__(self):
        raise LookupError("asked for an integer")

    def __float__(self):
        raise LookupError("asked for a number")

    def __bool__(self):
        raise LookupError("asked for a truth")

    def __array__(self, dtype=None, copy=None):
        raise LookupError("asked for an array")


BAD = [
    None, object(), Failing(), "x", "\ud800", b"x", -1, 0, 3, 2**31, 2**62, 2**64, -(2**63), 1.5, float("nan"), (), (1,), (None,), ("x",), (0, 0), (1, 2, 3),
    (2**62, 2**62), (-1, -1), (Failing(),), [], [1], {}, np.float32(1), np.zeros(0, np.float32), np.zeros(3, np.float32), np.zeros(3, np.int64),
    np.zeros((1,) * 12, np.float32), np.zeros((2, 3), np.complex64), np.array([None]), np.zeros(6, np.float64)[::2], np.zeros((2, 2), ">f4"),
]  # fmt: skip


def calls_of(function, calls):
    """Runs it with every function of the core noting its arguments, those of a call without keywords."""
    originals = {name: getattr(_core, name) for name in dir(_core) if not name.startswith("_") and callable(getattr(_core, name))}

    def noting(name):
        def note(*args, **options):
            key = (name, len(args), tuple(type(a) for a in args))
            bound = name.startswith("program_") and name != "program_new"
            if not options and not bound and name not in LEFT_OUT and key not in calls:
                calls[key] = args
            return originals[name](*args, **options)

        return note

    try:
        for name in originals:
            if not isinstance(originals[name], type):
                setattr(_core, name, noting(name))
        function()
    finally:
        for name, original in originals.items():
            setattr(_core, name, original)


def network_steps():
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((4, 2, 8, 8), np.float32), np.arange(4) % 3
    for make in (optim.SGD, optim.Adam, optim.RMSprop, optim.Adagrad, optim.Adadelta):
        model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3))
        step = cnnpy.compile_step(model, nn.CrossEntropyLoss(), make(model.parameters(), lr=0.01))
        for _ in range(3):
            step(x, target)
    cnnpy.compile(model.eval())(x)


def recorded():
    calls: dict = {}
    for name, op in OPERATIONS.items():
        if name in CASES:
            arrays, options = CASES[name](np.random.default_rng(3), np.float32)

            def both(op=op, arrays=arrays, options=options):
                y = op.forward(*arrays, **options)
                op.backward(np.ones_like(np.asarray(y)), *arrays, **options)

            calls_of(both, calls)
    calls_of(network_steps, calls)
    return calls


@pytest.fixture(scope="module")
def calls():
    return recorded()


def copied(value):
    """The same value, arrays anew: a call may write into what it is given."""
    if isinstance(value, np.ndarray):
        return value.copy(order="K")
    return type(value)(copied(v) for v in value) if type(value) in (tuple, list) else value


def refused(name, args):
    """Whether the core refuses the call, with a sentence."""
    try:
        getattr(_core, name)(*args)
    except REFUSALS as error:
        assert str(error), f"{name} refuses without a word"
        return True
    except LookupError as error:  # what Failing raises passes as it is
        assert str(error).startswith("asked for"), f"{name}: {error!r}"
        return True
    return False


def test_one_argument_at_a_time(calls):
    assert len({name for name, *_ in calls}) >= 75
    count = 0
    for (name, *_), args in calls.items():
        for i in range(len(args)):
            for bad in BAD:
                given = [copied(a) for a in args]
                given[i] = bad
                count += refused(name, given)
    assert count > 10_000
    gc.collect()


def test_too_many(calls):
    for (name, *_), args in calls.items():
        assert not args or refused(name, [*(copied(a) for a in args), None]), f"{name} took {len(args) + 1} arguments"


def oddly(value):
    """The same numbers in every other place of an array twice as long; arrays inside of tuples too."""
    if isinstance(value, np.ndarray) and value.ndim:
        room = np.zeros((*value.shape[:-1], 2 * value.shape[-1]), value.dtype)
        room[..., ::2] = value
        return room[..., ::2]
    return type(value)(oddly(v) for v in value) if type(value) in (tuple, list) else value


def holds_arrays(value):
    return isinstance(value, np.ndarray) or (type(value) in (tuple, list) and any(holds_arrays(v) for v in value))


def bits(value):
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return [bits(v) for v in value] if isinstance(value, (tuple, list)) else value


def test_arrays_that_lie_oddly(calls):
    """The same bits, or the sentence that says which arrays must not lie so."""
    taken = 0
    for (name, *_), args in calls.items():
        if name.startswith(("program_", "record_")) or not holds_arrays(args):
            continue
        wanted = bits(getattr(_core, name)(*copied(list(args))))
        for i, argument in enumerate(args):
            if not holds_arrays(argument):
                continue
            given = copied(list(args))
            given[i] = oddly(argument)
            try:
                result = getattr(_core, name)(*given)
            except (TypeError, ValueError) as error:
                assert "contiguous" in str(error) or "dense" in str(error) or "expected" in str(error), f"{name}, argument {i}: {error}"
                continue
            taken += 1
            if result is not None and name != "record_place":
                assert bits(result) == wanted, f"{name}, argument {i} in every other place: another result"
    assert taken > 120


@pytest.mark.parametrize("limit", [1, 700, 6000])
def test_a_limit_of_memory(limit, calls):
    """Requests above it are refused wherever a call makes them; nothing stays taken, and the next call is right."""
    refusals = 0
    gc.collect()
    for (name, *_), args in calls.items():
        if name.startswith(("program_", "record_")) or not holds_arrays(args):
            continue
        for given in (copied(list(args)), [oddly(a) for a in args]):
            _core.trim_memory()
            used = _core.configuration()["memory_used"]
            _core.set_memory_limit(limit)
            try:
                getattr(_core, name)(*given)
            except MemoryError as error:
                assert str(limit) in str(error) or "memory" in str(error), f"{name}: {error}"
                refusals += 1
            except (TypeError, ValueError):
                pass
            finally:
                _core.set_memory_limit(None)
            assert _core.configuration()["memory_used"] == used, name
    assert refusals > (200 if limit == 1 else 0)


def test_a_name_that_is_no_text():
    x = np.ones(3, np.float32)
    assert refused("embedding_forward", (np.zeros((1,) * 40, int), np.ones((2, 3), np.float32)))
    with pytest.raises(TypeError, match="the function's name is int, expected str"):
        _core.shape_of(3, x)
    with pytest.raises(ValueError, match="surrogates"):
        _core.dropout("\ud800", x, 0.5, 1, False)


def test_state_that_an_update_needs():
    w, g = np.ones(3, np.float32), np.ones(3, np.float32)
    with pytest.raises(TypeError, match="first state is NoneType"):
        _core.rmsprop_update(w, g, None, None, None, 0.1, 0.9, 0.0, 1e-8, 0.0)
    with pytest.raises(TypeError, match="second state is NoneType"):
        _core.rmsprop_update(w, g, w.copy(), None, None, 0.1, 0.9, 0.5, 1e-8, 0.0)
    with pytest.raises(TypeError, match="velocity is None, expected a numpy"):
        _core.sgd_update(w, g, None, 0.1, 0.9, 0.0, False, False)
    assert (w == 1).all()


def test_lines_of_a_program_that_are_none(calls):
    lines, sources, packs = next(args for (name, *_), args in calls.items() if name == "program_new")
    with pytest.raises(TypeError, match="line 0 is int, expected tuple"):
        _core.program_new([1], 1, 0)
    entry, dtype, problem, arrays, work = lines[0]
    place = next(k for k, a in enumerate(arrays) if a is not None)
    wrong = [(bad, dtype, problem, arrays, work) for bad in (-1, 10**4, "x", None)]
    wrong += [(entry, bad, problem, arrays, work) for bad in (-1, 2, "x")]
    wrong += [(entry, dtype, bad, arrays, work) for bad in (problem[:-1], problem + b"x", bytearray(problem), "x", None)]
    wrong += [(entry, dtype, problem, bad, work) for bad in (arrays[:-1], (*arrays, None), list(arrays), None)]
    wrong += [(entry, dtype, problem, arrays, bad) for bad in ("x", None)]
    wrong += [(entry, dtype, problem, arrays), ()]
    for bad in (3, "x", (), (0,), (-1, 0), (sources, 0), (0, -1), ("x", 0), (0, "x"), [0, 0]):
        wrong.append((entry, dtype, problem, (*arrays[:place], bad, *arrays[place + 1 :]), work))
    for line in wrong:
        assert refused("program_new", ([line, *lines[1:]], sources, packs)), line
    assert _core.program_new(list(lines), sources, packs)


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_what_works_upon_the_process(name):
    for bad in ((object(),), (Failing(),), (1.5,), (None, None), (b"x", 1)):
        if name != "trim_memory":  # which takes anything
            assert refused(name, bad), f"{name}{bad}"


def test_a_program_whose_arrays_are_not_there(calls):
    program, *_ = _core.program_new(*next(args for (name, *_), args in calls.items() if name == "program_new"))
    with pytest.raises(ValueError, match="is not bound"):
        _core.program_run(program, 0, 1, False, False, None)
    for name in ("program_scratch", "program_prepare"):
        assert refused(name, (object(),) * 9), name


def test_things_that_are_no_arrays_have_no_place():
    _core.record_begin([])
    try:
        assert refused("record_new", (3,)) and refused("record_new", (1, 2))
        assert _core.record_place(3) is None and _core.record_place(np.zeros(2)) is None
    finally:
        _core.record_end()
