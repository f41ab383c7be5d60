"""No call leaves a block, a reference or a byte behind, on success and on every kind of error."""

import sys

import numpy as np
import pytest

from tests.reliability.cases import CASES
from tests.reliability.flat import FLAT as OPERATIONS
from tests.reliability.leaks import growth


@pytest.fixture
def rounds(budget):
    """Calls of a series; four series are compared."""
    return budget(300, 300, 25_000)


@pytest.mark.parametrize("name", sorted(set(CASES) - {"concatenate", "stack"}))
def test_success(name, rng, rounds):
    op = OPERATIONS[name]
    arrays, options = CASES[name](rng, np.float32, small=rounds > 300)
    dy = np.ones_like(np.asarray(op.forward(*arrays, **options)))

    def call():
        op.forward(*arrays, **options)
        op.backward(dy, *arrays, **options)

    blocks, references, used = growth(call, [a for a in (*arrays, dy) if a is not None], rounds)
    assert references == 0 and used == 0
    assert blocks < rounds // 10


def test_large_results_are_given_back():
    from cnnpy import functional as F

    x, w = np.ones((1, 8, 200, 200), np.float32), np.ones((8, 8, 3, 3), np.float32)
    blocks, references, used = growth(lambda: F.conv2d(x, w), [x, w], 20)
    assert references == 0 and used == 0 and blocks < 5


BAD = {
    "shape": lambda F, x: F.conv2d(x, np.ones((2, 5, 3, 3))),
    "dtype": lambda F, x: F.conv2d(x.astype(complex), x),
    "option": lambda F, x: F.conv2d(x, x, stride=0),
    "padding": lambda F, x: F.conv2d(x, x, padding=((1, 2), (3, "a"))),
    "string": lambda F, x: F.conv2d(x, x, padding="nothing"),
    "out": lambda F, x: F.relu(x, out=np.ones(3)),
    "ragged": lambda F, x: F.relu([[1], [2, 3]]),
    "pool": lambda F, x: F.max_pool2d(x, 2, padding=5),
    "target": lambda F, x: F.cross_entropy(np.ones((2, 3)), [0, 7]),
    "cache": lambda F, x: F.max_pool2d_backward(x, x, 1, cache=np.full(x.shape, 99)),
    "axis": lambda F, x: F.softmax(x, axis=9),
    "linear": lambda F, x: F.linear(x, x),
}


@pytest.mark.parametrize("kind", BAD)
def test_errors(kind, rounds):
    from cnnpy import functional as F

    x = np.ones((1, 1, 4, 4), np.float32)

    def call():
        with pytest.raises((TypeError, ValueError)):
            BAD[kind](F, x)

    blocks, references, used = growth(call, [x], rounds)
    assert references == 0 and used == 0
    assert blocks < rounds // 10


def test_planted_leak_is_found():
    kept, x = [], np.ones(3)
    assert growth(lambda: kept.append(x), [x], 50)[1] >= 50
    if sys.getallocatedblocks():  # the interpreter counts no blocks when it allocates with plain malloc, as under sanitizers
        assert growth(lambda: kept.append(bytearray(100)), [x], 50)[0] >= 50
