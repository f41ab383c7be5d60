import doctest

import numpy as np
import pytest

from cnnpy import functional as F
from cnnpy import nn, tools
from cnnpy.models import lenet5


def test_summary_counts():
    s = tools.summary(lenet5(rng=0), (1, 28, 28))
    assert s.parameters == 61_706 and s.macs == 416_520 and len(s.rows) == 12
    assert s.rows[0] == ("0", "Conv2d", (6, 28, 28), 156, 117_600, 4 * 6 * 28 * 28)
    assert "416,520" in str(s) and "<table>" in s._repr_html_()
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2, bias=False))
    assert tools.summary(model, (4, 10, 10)).macs == 8 * 2 * 9 * 64 and model.training


def test_gradcheck_finds_what_is_wrong():
    x = np.array([0.5, -0.25, 2.0])
    assert tools.gradcheck(F.sigmoid, x) < 1e-9
    assert tools.gradcheck(lambda a, b: F.matmul(a, b), np.ones((2, 3)), np.ones((3, 2))) < 1e-8
    assert tools.gradcheck(lambda t: F.relu(t.detach() * 2) + t * 0, x) > 0.1


@pytest.mark.parametrize("d", [1, 2, 3])
def test_m3_m25_output_shape_is_what_convolutions_have(d, rng):
    for _ in range(40):
        m, r, s, g = (int(rng.integers(low, high)) for low, high in ((5, 12), (1, 4), (1, 4), (1, 3)))
        padding = [0, 1, (1, 2), "same", "full", "valid"][rng.integers(6)]
        pads = ((padding,) * d) if isinstance(padding, tuple) else padding
        convolve = getattr(F, f"conv{d}d")
        if m + 2 < (r - 1) * g + 1:
            continue
        y = convolve(np.zeros((1, 1, *(m,) * d)), np.zeros((1, 1, *(r,) * d)), stride=s, dilation=g, padding=pads)
        assert y.shape[2:] == (tools.output_shape(m, r, stride=s, dilation=g, padding=padding),) * d
    assert tools.output_shape(5, 2, stride=2, ceil_mode=True) == 3 and tools.output_shape((5, 7), (3, 2), padding=(1, 0)) == (5, 6)
    assert tools.output_shape(3, 3, stride=2, padding=1, output_padding=1, transposed=True) == 6
    for bad in ({"stride": 0}, {"padding": "sam"}, {"dilation": 9}):
        with pytest.raises(ValueError, match="output_shape"):
            tools.output_shape(5, 3, **bad)


def test_m45_m46_receptive_fields():
    field = tools.receptive_field(lenet5(rng=0), (1, 28, 28))
    assert [r[2][0][:2] for r in field.rows] == [(5, 1), (6, 2), (14, 2), (16, 4)]
    assert field.size == (16, 16) and field.start == (5.5, 5.5) and "16x16" in repr(field)
    threes = lambda n: nn.Sequential(*(nn.Conv2d(1, 1, 3) for _ in range(n)))  # noqa: E731
    assert tools.receptive_field(threes(2), (1, 9, 9)).size == (5, 5) and tools.receptive_field(threes(3), (1, 9, 9)).size == (7, 7)
    dilated = nn.Sequential(*(nn.Conv2d(1, 1, 3, dilation=d) for d in (1, 2, 4)))
    assert tools.receptive_field(dilated, (1, 40, 40)).size == (15, 15)
    up = nn.Sequential(nn.Conv1d(1, 1, 3, stride=2), nn.ConvTranspose1d(1, 1, 2, stride=2), nn.Conv1d(1, 1, 3))
    assert tools.receptive_field(up, (1, 40)).size == (6,)
    with pytest.raises(ValueError, match="one to three spatial axes"):
        tools.receptive_field(up, (1,))


def test_the_receptive_field_is_what_gradients_reach():
    """A cell of the last map depends on cells of exactly a `size` wide stretch around its centre."""
    from cnnpy import Tensor

    model = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2, padding=1, rng=0), nn.AvgPool2d(2), nn.Conv2d(1, 1, 3, dilation=2, rng=1)).to(
        "float64"
    )
    x = Tensor(np.random.default_rng(0).normal(size=(1, 1, 64, 64)), requires_grad=True)
    y = model(x)
    seed = np.zeros(y.shape)
    at = y.shape[2] // 2
    seed[0, 0, at, at] = 1
    y.backward(seed)
    rows = np.flatnonzero(np.abs(x.grad[0, 0]).sum(axis=1))
    field = tools.receptive_field(model, (1, 64, 64))
    assert rows[-1] - rows[0] + 1 == field.size[0] and (rows[0] + rows[-1]) / 2 == field.start[0] + at * field.stride[0]


def test_worked_examples():
    """The examples that circulate: right as printed, right under another reading, or wrong."""
    ramp = np.arange(1.0, 26).reshape(5, 5)
    rows = np.array([[1.0, 0, -1]] * 3)
    assert tools.check_example(ramp, rows, np.full((3, 3), -6))
    flipped = tools.check_example(ramp, rows, np.full((3, 3), 6))
    assert not flipped and flipped.explanation == "convolution (kernel rotated), padding 'valid'"
    same = F.conv2d(ramp[None, None], rows[None, None], padding=1)[0, 0]
    assert tools.check_example(ramp, rows, same).explanation == "cross-correlation, padding 'same'"
    wrong = np.full((3, 3), -6.0)
    wrong[1, 2] = -7
    report = tools.check_example(ramp, rows, wrong)
    assert (
        not report
        and report.explanation is None
        and report.first_difference == (1, 2)
        and "first at (1, 2): -7, expected -6" in repr(report)
    )


def test_m28_the_one_dimensional_code_of_the_notes():
    """Its printed 2x3 result fits nothing; (-1, 1) down the columns of its data gives 2x5 of 5."""
    data = np.arange(1.0, 16).reshape(3, 5)
    report = tools.check_example(data, [[-1], [1]], np.array([[1.0, 2, 3], [4, 5, 6]]))
    assert not report and report.explanation is None and "no padding, stride or flip explains it" in repr(report)
    assert tools.check_example(data, [[-1], [1]], np.full((2, 5), 5))
    after = np.vstack([np.full((2, 5), 5.0), [-11, -12, -13, -14, -15]])
    assert tools.check_example(data, [[-1], [1]], after).explanation == "cross-correlation, padding 'same'"
    across = np.hstack([np.ones((3, 4)), [[-5], [-10], [-15]]])
    assert tools.check_example(data, [[-1, 1]], across).explanation == "cross-correlation, padding 'same'"


def test_examples_in_docstrings():
    import cnnpy.tools.example
    import cnnpy.tools.geometry

    assert doctest.testmod(cnnpy.tools.example).failed == doctest.testmod(cnnpy.tools.geometry).failed == 0


def test_output_shape_of_pools_that_round_up():
    """What a pool really returns, for every size, window, stride and padding that it takes."""
    for m in range(1, 12):
        for window in (1, 2, 3, 5):
            for stride in (1, 2, 3, 4, 7):
                for padding in range(window // 2 + 1):
                    if m + 2 * padding < window:
                        continue
                    y = F.max_pool1d(np.zeros((1, 1, m), np.float32), window, stride=stride, padding=padding, ceil_mode=True)
                    assert tools.output_shape(m, window, stride=stride, padding=padding, ceil_mode=True) == y.shape[2], (
                        m,
                        window,
                        stride,
                        padding,
                    )
