"""Operations step by step: every number that a picture or a lesson shows is the operation's own."""

import numpy as np
import pytest

from cnnpy import functional as F
from cnnpy import nn, tools


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "convolution, as networks have it: stride 1, padding 0"),
        ({"stride": (2, 1), "padding": 1}, "convolution, as networks have it: stride (2, 1), padding 1"),
        ({"dilation": 2, "padding": "same"}, "convolution, as networks have it: stride 1, padding same, dilation 2"),
        ({"flip": True, "padding": "full"}, "convolution (flipped): stride 1, padding full, kernel flipped"),
        ({"padding": "valid", "dilation": (1, 2), "stride": 2}, "convolution, as networks have it: stride 2, padding valid, dilation 1"),
        ({"padding": ((0, 2), (1, 0))}, "convolution, as networks have it: stride 1, padding ((0, 2), (1, 0))"),
    ],
    ids=str,
)
def test_a_sliding_kernel(options, words, rng):
    """The products of a step, taken from the padded input at the window's cells, sum to the output's cell."""
    x, kernel = rng.integers(-4, 5, (7, 8)).astype(float), rng.integers(-4, 5, (2, 3)).astype(float)
    slide = tools.slide_steps(x, kernel, **options)
    np.testing.assert_array_equal(slide.output, F.conv2d(x[None, None], kernel[None, None], **options)[0, 0])
    assert slide.title == words and [s["cell"] for s in slide.steps] == list(np.ndindex(slide.output.shape))
    for step in slide.steps:
        assert len(step["window"]) == kernel.size
        assert [a for a, _ in step["products"]] == [slide.padded[w] for w in step["window"]]
        assert sum(a * b for a, b in step["products"]) == step["total"] == slide.output[step["cell"]]
        assert [b for _, b in step["products"]] == list(slide.kernel.ravel())


@pytest.mark.parametrize("kind", ["transposed", "backward"])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": (2, 1), "stride": (1, 3), "padding": (1, 0)}], ids=str)
def test_a_scattering_kernel(kind, options, rng):
    x, kernel = rng.integers(-4, 5, (4, 5)).astype(float), rng.integers(-4, 5, (3, 2)).astype(float)
    slide = tools.slide_steps(x, kernel, kind=kind, **options)
    np.testing.assert_array_equal(slide.output, F.conv_transpose2d(x[None, None], kernel[None, None], **options)[0, 0])
    before = 0
    for step in slide.steps:
        change = step["partial"] - before
        assert step["total"] == x[step["cell"]]
        assert [change[w] for w in step["window"]] == [step["total"] * k for k in kernel.ravel()]
        before = step["partial"]
    with pytest.raises(ValueError, match="expected an int or two with kind="):
        tools.slide_steps(x, kernel, kind=kind, padding="same")


def test_pools(rng):
    x = rng.permutation(42).reshape(6, 7).astype(float)
    for kind, pool in (("max", F.max_pool2d), ("average", F.avg_pool2d)):
        found = tools.pool_steps(x, (2, 3), stride=(2, 1), kind=kind)
        np.testing.assert_array_equal(found.output, pool(x[None, None], (2, 3), stride=(2, 1))[0, 0])
        for step in found.steps:
            assert step["values"] == [x[w] for w in step["window"]] and len(step["values"]) == 6
            assert step["total"] == pytest.approx(max(step["values"]) if kind == "max" else np.mean(step["values"]))
            assert kind != "max" or x[step["chosen"]] == step["total"]


def test_gates_of_an_lstm(rng):
    layer = nn.LSTM(3, 4, rng=1, dtype="float64")
    x = rng.standard_normal((6, 3))
    steps = tools.lstm_steps(layer, x)
    found = {n: getattr(steps, n) for n in "ifgoch"}
    assert [n[-1] for n in steps.names] == list("ifgoch") and all(a is b for a, b in zip(steps, found.values(), strict=True))
    y, (h, c) = layer(x[None])
    np.testing.assert_allclose(found["h"], y.data[0], atol=1e-12)
    np.testing.assert_allclose(found["c"][-1], c.data.reshape(-1), atol=1e-12)
    np.testing.assert_allclose(found["h"][-1], h.data.reshape(-1), atol=1e-12)
    assert all((v > 0).all() and (v < 1).all() for n, v in found.items() if n in "ifo")
    before = np.vstack([np.zeros(4), found["c"][:-1]])
    np.testing.assert_allclose(found["c"], found["f"] * before + found["i"] * found["g"], atol=1e-12)
    np.testing.assert_allclose(found["h"], found["o"] * np.tanh(found["c"]), atol=1e-12)


def test_receptive_fields_of_named_paddings():
    """By hand: a window of 4 whose middle lies 1.5 cells behind its first one, which begins `before` cells early."""
    for padding, before in (("full", 3), ("same", 1), ("valid", 0), (2, 2)):
        field = tools.receptive_field(nn.Conv2d(1, 1, 4, padding=padding, rng=0), (1, 12, 12))
        assert field.size == (4, 4) and field.start == (1.5 - before, 1.5 - before), padding


def test_saliency_of_an_image_with_and_without_its_batch(rng):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3, rng=0))
    image = rng.standard_normal((3, 2, 2)).astype(np.float32)
    one, other = tools.saliency(model, image), tools.saliency(model, image[None])
    np.testing.assert_array_equal(one, other)


def test_capture_takes_the_first_of_several_results(rng):
    layer = nn.LSTM(3, 4, rng=0)
    x = rng.standard_normal((5, 2, 3)).astype(np.float32)
    model = Wrapped(layer)
    with tools.capture(model) as seen:
        model(x)
    np.testing.assert_array_equal(seen["layer"].output, layer(x)[0].data)


class Wrapped(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


def test_gradient_over_distance_draws_its_direction_by_rng(rng):
    layer, x = nn.RNN(3, 5, rng=0), rng.standard_normal((2, 6, 3))
    one, same, other = (tools.gradient_over_distance(layer, x, rng=r) for r in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert one.shape == (6,) and not np.array_equal(one, other)
    weight = layer(x)[0].shape[2]
    assert weight == 5 and one[0] > one[5] > 0
