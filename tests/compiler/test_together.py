"""Weight gradients of dense layers and their updates run in one pass: the same bits as one after the other."""

import numpy as np
import pytest

import cnnpy
from cnnpy import _core, nn, optim
from cnnpy import functional as F
from cnnpy.compiler.describe import bytes_moved, flops
from tests.compiler.test_compile import OPTIMIZERS


def dense(dtype="float32", inputs=300, hidden=37):
    return nn.Sequential(nn.Linear(inputs, hidden, rng=1, dtype=dtype), nn.ReLU(), nn.Linear(hidden, 5, rng=2, dtype=dtype))


def batch(rows, inputs=300, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, inputs)).astype(dtype), rng.integers(0, 5, rows)


def halves(step, x, y):
    value = step.gradients(x, y)
    step.update()
    return value


def after(make, optimizer, batches, run):
    """Losses, gradients, parameters and the optimiser's state after some steps, and the step."""
    model = make()
    step = cnnpy.compile_step(model, F.cross_entropy, optimizer(model.parameters()))
    losses, gradients = [], []
    for x, y in batches:
        losses.append(run(step, x, y))
        gradients += [p.grad.copy() for p in model.parameters()]
    state = [np.array(v) for values in step.optimizer.state_dict()["state"].values() for v in values.values()]
    return [losses, *gradients, *(p.detach().numpy().copy() for p in model.parameters()), *state], step


def paired(step):
    return [line for line in step.program.lines if line.update is not None]


def assert_equal(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_pass_gives_the_bits_of_two(name, rows, isa):
    """Pieces of a row, their remainders, every rule with all of its state."""
    batches = [batch(rows, seed=s) for s in range(5)]
    together, step = after(dense, OPTIMIZERS[name], batches, lambda step, x, y: step(x, y))
    apart, _ = after(dense, OPTIMIZERS[name], batches, halves)
    assert_equal(together, apart)
    assert [line.number("k") for line in paired(step)] == [5, 37]


@pytest.mark.parametrize("name", ["momentum", "Adam"])
def test_float64_and_threads(name):
    batches = [batch(3, 1100, np.float64, s) for s in range(5)]
    results = []
    before = cnnpy.num_threads()
    try:
        for threads in (1, 2, 3):
            cnnpy.set_num_threads(threads)
            for run in (halves, lambda step, x, y: step(x, y)):
                results.append(after(lambda: dense("float64", 1100, 150), OPTIMIZERS[name], batches, run)[0])
    finally:
        cnnpy.set_num_threads(before)
    for other in results[1:]:
        assert_equal(other, results[0])


def test_more_rows_than_these_stay_apart():
    """Nine rows are a product with another kernel."""
    batches = [batch(9, seed=s) for s in range(4)]
    together, step = after(dense, OPTIMIZERS["momentum"], batches, lambda step, x, y: step(x, y))
    apart, _ = after(dense, OPTIMIZERS["momentum"], batches, halves)
    assert_equal(together, apart)
    assert not paired(step)


def test_a_gradient_that_is_a_sum_stays_apart():
    """A layer that is used twice has two gradients, and the optimiser reads their sum."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.last = nn.Linear(40, 40, rng=0), nn.Linear(40, 5, rng=1)

        def forward(self, x):
            return self.last(self.inner(F.relu(self.inner(x))))

    batches = [batch(4, 40, seed=s) for s in range(5)]
    together, step = after(Twice, OPTIMIZERS["momentum"], batches, lambda step, x, y: step(x, y))
    apart, _ = after(Twice, OPTIMIZERS["momentum"], batches, halves)
    assert_equal(together, apart)
    assert [line.number("k") for line in paired(step)] == [5]


def test_results_that_wait_are_not_overwritten():
    """What a waiting gradient reads lies in the arena until the update, whatever else is computed meanwhile."""

    def make():
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, rng=0), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 64, rng=1), nn.ReLU(), nn.Linear(64, 64, rng=2), nn.ReLU(),
            nn.Dropout(0.3, rng=4), nn.Linear(64, 5, rng=3),
        )  # fmt: skip

    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((4, 3, 8, 8)).astype(np.float32), rng.integers(0, 5, 4)) for _ in range(6)]
    together, step = after(make, OPTIMIZERS["Adam"], batches, lambda step, x, y: step(x, y))
    apart, _ = after(make, OPTIMIZERS["Adam"], batches, halves)
    assert_equal(together, apart)
    assert len(paired(step)) == 3 and step.program.split - step.program.ready == 3


def test_both_ways_take_turns():
    """A gradient that is changed between the halves counts, also after whole steps."""
    batches = [batch(4, seed=s) for s in range(8)]
    results = []
    for whole in (True, False):
        model = dense()
        step = cnnpy.compile_step(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
        for i, (x, y) in enumerate(batches):
            if i % 2 and whole:
                step(x, y)
                continue
            step.gradients(x, y)
            if i % 2 == 0:
                optim.clip_grad_norm(model.parameters(), 0.01)
            step.update()
        results.append([p.detach().numpy().copy() for p in model.parameters()])
    assert_equal(*results)


def test_a_whole_step_leaves_no_half():
    model = dense()
    step = cnnpy.compile_step(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1))
    for s in range(4):
        step(*batch(4, seed=s))
    with pytest.raises(RuntimeError, match="compile_step: update has no gradients"):
        step.update()


def test_pairs_are_shown_and_counted_once():
    batches = [batch(4, seed=s) for s in range(3)]
    _, step = after(dense, OPTIMIZERS["momentum"], batches, lambda step, x, y: step(x, y))
    text = str(step)
    assert text.count("+ sgd_update") == 2 and text.count("with its gradient") == 2
    sizes = step.program.sizes
    for line in paired(step):
        cells = line.number("c") * line.number("k")
        assert flops(line) == 2 * 4 * cells + cells and flops(line.update) == 0
        assert bytes_moved(line, sizes) >= 4 * 3 * cells and bytes_moved(line.update, sizes) == 0
    profile = step.profile(*batches[0])
    seconds = {id(row[0]): row[1] for row in profile.rows}
    assert all(seconds[id(line)] > 0 and seconds[id(line.update)] == 0 for line in paired(step))


def test_lines_that_are_no_pair_are_refused():
    batches = [batch(4, seed=s) for s in range(3)]
    _, step = after(dense, OPTIMIZERS["momentum"], batches, lambda step, x, y: step(x, y))
    program = step.program
    first, last = program.ready, len(program.lines) - 1
    for gradient, update in [(0, first), (first, first + 1), (first, last)]:
        with pytest.raises(ValueError, match=r"program_pair: lines [0-9]+ and [0-9]+ are not a weight gradient and its update"):
            _core.program_pair(program._core, gradient, update)
    with pytest.raises(ValueError, match="program_pair: update is"):
        _core.program_pair(program._core, first, last + 1)
    with pytest.raises(ValueError, match="program_pair: update is"):
        _core.program_pair(program._core, first, first)
    with pytest.raises(TypeError, match="program_pair: program is int, expected a program"):
        _core.program_pair(3, first, last)
