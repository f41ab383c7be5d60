"""A program as text: sizes, operations and the work of each kind of line, counted here by hand."""

import numpy as np
import pytest

import cnnpy
from cnnpy import functional as F
from cnnpy import models, nn, optim
from cnnpy.compiler.describe import bytes_moved, describe, flops


def compiled_step(model, loss, x, y):
    step = cnnpy.compile_step(model, loss, optim.Adam(model.parameters(), lr=1e-3))
    for _ in range(3):
        step(x, y)
    return step


def lines_of(step, word):
    found = [line for line in step.program.lines if word in line.entry.name]
    assert found, f"no line of {word} in\n{step}"
    return found


@pytest.fixture(scope="module")
def characters():
    ids = np.random.default_rng(0).integers(0, 11, (3, 8))
    model = models.char_lstm(11, embedding=5, hidden=6, num_layers=1, dropout=0.25, rng=0)
    return compiled_step(model, F.cross_entropy, ids[:, :-1], ids[:, 1:])


def test_recurrent_lines(characters):
    forward, backward = lines_of(characters, "recurrent_forward")[0], lines_of(characters, "recurrent_backward")[0]
    assert flops(forward) == 2 * 3 * 7 * 4 * 6 * (5 + 6)  # samples, steps, gates, units, inputs and units
    assert flops(backward) == 2 * flops(forward)
    assert "3 samples, 7 steps, 5 -> 6" in str(characters)


def test_lookup_and_dropout_lines(characters):
    text = str(characters)
    assert "21 of 11x5" in text
    assert flops(lines_of(characters, "dropout")[0]) == 3 * 7 * 6
    assert all(flops(line) == 0 for line in characters.program.lines if line.entry.problem == "cnn_lookup")


def test_every_line_moves_bytes(characters):
    sizes = {name: 4 for line in characters.program.lines for name in (*line.reads, *line.writes)}
    for line in characters.program.lines:
        assert bytes_moved(line, sizes) == 4 * len({*line.reads, *line.writes}) > 0


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(4, 4, rng=0)

    def forward(self, x):
        scores = F.array.matmul(self.query(x), x.transpose(0, 2, 1)) * 0.5
        return F.array.sum(F.array.matmul(F.softmax(scores, axis=-1), x), axis=1)


def test_products_and_reductions():
    rng = np.random.default_rng(1)
    x, y = cnnpy.Tensor(rng.normal(size=(2, 3, 4)).astype(np.float32)), rng.normal(size=(2, 4)).astype(np.float32)
    step = compiled_step(Attends(), F.mse_loss, x, y)
    text = str(step)
    assert "2x 3x4 by 4x3" in text and "2x 3x3 by 3x4" in text and "multiply" in text
    products = {flops(line) for line in step.program.lines if line.entry.problem == "cnn_matmul"}
    assert 2 * 2 * 3 * 4 * 3 in products
    sums = [line for line in step.program.lines if line.entry.problem == "cnn_reduce"]
    assert any(flops(line) == 2 * 3 * 4 for line in sums) and "2x3x4" in text


class Convolves(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(8, 8, 3, padding=1, rng=0), nn.Linear(8 * 144, 2, rng=1)

    def forward(self, x):
        y = F.relu(F.conv2d(x, self.conv.weight, self.conv.bias, padding=1, algorithm="winograd"))
        return self.out(y.reshape((len(y), -1)))


def test_the_chosen_algorithm_is_said():
    text = str(compiled_step(Convolves(), F.cross_entropy, np.ones((2, 8, 12, 12), np.float32), np.array([0, 1])))
    assert "winograd" in text and "2x8@12x12 -> 8@12x12 by 3x3" in text and "+ ReLU" in text


def test_the_size_of_a_lookup(characters):
    """3 x 7 characters of an alphabet of 11, 5 numbers each."""
    assert "21 of 11x5" in str(characters)


def test_profile_counts_and_sorts(characters):
    """By entry: the sums of its lines, the longest first. A line's bound: the slower of its arithmetic and its bytes, at the machine's rates."""
    ids = np.random.default_rng(1).integers(0, 11, (3, 8))
    profile = characters.profile(ids[:, :-1], ids[:, 1:])
    lines = characters.program.lines
    assert [row[0] for row in profile.rows] == list(lines)
    by_entry = profile.by_entry()
    assert list(by_entry.values()) == sorted(by_entry.values(), reverse=True)
    for name in {line.entry.name for line in lines}:
        np.testing.assert_allclose(by_entry[name], sum(row[1] for row in profile.rows if row[0].entry.name == name), rtol=1e-12)
    np.testing.assert_allclose(sum(by_entry.values()), profile.total, rtol=1e-12)
    for row in profile.rows:
        assert row[2] == flops(row[0]) and row[3] == bytes_moved(row[0], characters.program.sizes)
        assert profile.bound(row) == max(row[2] / profile.flop_rate, row[3] / profile.byte_rate)
    assert 1e8 < profile.byte_rate < 1e13 and 1e8 < profile.flop_rate < 1e15
    busy = max(profile.rows, key=lambda row: row[2])
    text = str(profile).splitlines()
    share = f"{100 * busy[1] / profile.total:5.1f} %"
    assert share in text[lines.index(busy[0])] and f"{busy[2] / busy[1] / 1e9:7.1f} GF/s" in text[lines.index(busy[0])]
    assert text[len(lines)] == f"{profile.total * 1e3:.4f} ms in all" and len(text) == len(lines) + 1 + len(by_entry)


def test_lines_of_a_printed_program(characters):
    """One line each, numbered, with its work; buffers of the program are numbered from 0, those that the caller knows have names."""
    text = str(characters.program).splitlines()
    lines = characters.program.lines
    assert len(text) == len(lines) + 1
    for i, line in enumerate(lines):
        assert text[i].startswith(f"{i:4} ") and text[i].endswith(f"{flops(line) / 1e6:10.3f} MFLOP")
    short = [row for row, line in zip(text, lines, strict=False) if len(describe(line, characters.program._name)[0]) <= 80]
    assert len(short) > 5 and len({row.index(" MFLOP") for row in short}) == 1  # columns
    assert "%0" in str(characters.program) and "%-" not in str(characters.program)
    used = characters.program.memory()
    assert text[-1].startswith(f"arena {used['arena'] / 2**20:.1f} MiB ({used['unshared'] / 2**20:.1f} unshared)")
