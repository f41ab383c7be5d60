"""Winograd's algorithm: its matrices, its results, when it is taken, what it does to NaN."""

import numpy as np
import pytest

import cnnpy
from cnnpy import functional as F
from cnnpy.tools import accuracy_report
from tests.reference import winograd


@pytest.mark.parametrize("points, m, window", [(2, 2, 3), (4, 4, 3), (4, 2, 5)])
@pytest.mark.parametrize("for_weights", [False, True])
def test_matrices_follow_from_the_points(points, m, window, for_weights, rng):
    """In exact fractions: the products give the correlation, for a convolution and for the gradient of its weights."""
    outputs, taps = (window, m) if for_weights else (m, window)
    d, g = [int(v) for v in rng.integers(-9, 10, m + window - 1)], [int(v) for v in rng.integers(-9, 10, taps)]
    wanted = [sum(d[i + j] * g[j] for j in range(taps)) for i in range(outputs)]
    assert winograd.correlate(winograd.POINTS[points], outputs, taps, d, g) == wanted


@pytest.mark.parametrize("taps", [3, 4])
def test_strides_are_two_phases(taps, rng):
    """Every other cell of the input is an image of its own, and every other tap its kernel: F(2, 2), or F(3, 2), of the even and of the odd ones."""
    m = taps - 1
    d, g = [int(v) for v in rng.integers(-9, 10, 2 * m + taps - 2)], [int(v) for v in rng.integers(-9, 10, taps)]
    wanted = [sum(d[2 * i + j] * g[j] for j in range(taps)) for i in range(m)]
    even = winograd.correlate(winograd.POINTS[m - 1], m, 2, d[::2], g[::2])
    odd = winograd.correlate(winograd.POINTS[m - 1], m, 2, d[1::2], g[1::2]) if taps == 4 else [g[1] * v for v in d[1::2]]
    assert [a + b for a, b in zip(even, odd, strict=True)] == wanted


def test_documented_matrices():
    """The matrices written in the kernel's notes, up to the signs that cancel between two of them."""
    output, taps, data = winograd.matrices(winograd.POINTS[4], 4, 3)
    assert [float(v) for v in output[3]] == [0, 1, -1, 0.125, -8, 1]
    assert [abs(float(v)) for v in taps[3]] == pytest.approx([16 / 15, 8 / 15, 4 / 15])
    assert [float(v) for v in data[5]] == [0, 1, -1.5, -2, 1.5, 1]


SHAPES = [  # n, c, k, size, padding: both tile sizes, ragged channels, filters and edges, both schedules of both passes
    (1, 16, 16, (6, 6), 1),
    (2, 17, 19, (9, 13), 1),
    (1, 64, 33, (8, 8), 2),
    (3, 20, 70, (5, 5), 0),
    (1, 130, 40, (18, 7), 1),
    (2, 32, 32, (61, 90), 1),
    (2, 40, 64, (80, 75), 1),
    (1, 3, 2, (4, 4), 1),
    (2, 1, 5, (9, 9), 1),
]


@pytest.mark.parametrize("layout", ["C order", "channels last"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s[:3])))
def test_float64_agrees_with_the_direct_sum(shape, layout, isa, rng):
    """The matrices and every index are right: only rounding, 1e-14 of the largest value, is left of the difference."""
    n, c, k, size, padding = shape
    x, w, b = rng.normal(size=(n, c, *size)), rng.normal(size=(k, c, 3, 3)), rng.normal(size=k)
    if layout != "C order":
        x = cnnpy.channels_last(x)
    for mode in ("zeros", "reflect", "circular"):
        if mode == "reflect" and min(size) <= padding:
            continue
        direct, fast = (F.conv2d(x, w, b, padding=padding, padding_mode=mode, algorithm=a) for a in ("direct", "winograd"))
        close(fast, direct)
        dy = rng.normal(size=direct.shape)
        if layout != "C order":
            dy = cnnpy.channels_last(dy)
        pairs = [F.conv2d_backward(dy, x, w, b, padding=padding, padding_mode=mode, algorithm=a) for a in ("direct", "winograd")]
        for wanted, got in zip(*pairs, strict=True):
            close(got, wanted)


GAPS = [  # n, c, k, size, padding, dilation, groups: phases of unlike and of no cells, both schedules, a group at a time
    (2, 17, 19, (9, 13), 2, 2, 1),
    (1, 64, 33, (8, 8), 3, (2, 3), 1),
    (3, 20, 70, (5, 5), 4, 4, 1),
    (1, 130, 40, (18, 7), 1, (3, 1), 1),
    (2, 16, 64, (20, 23), (5, 0), (5, 1), 1),
    (1, 16, 16, (17, 17), 0, 8, 1),
    (2, 40, 64, (80, 75), 2, 2, 1),
    (2, 32, 64, (9, 13), 1, 1, 2),
    (1, 96, 48, (20, 20), 1, 2, 3),
    (1, 1024, 512, (8, 8), 1, 1, 2),
]


@pytest.mark.parametrize("layout", ["C order", "channels last"])
@pytest.mark.parametrize("case", GAPS, ids=str)
def test_gaps_and_groups_agree_with_the_direct_sum(case, layout, isa, rng):
    n, c, k, size, padding, dilation, groups = case
    x, w, b = rng.normal(size=(n, c, *size)), rng.normal(size=(k, c // groups, 3, 3)), rng.normal(size=k)
    compare(F.conv2d, F.conv2d_backward, x, w, b, layout, rng, padding=padding, dilation=dilation, groups=groups)


STRIDES = [  # n, c, k, size, kernel, stride, padding, groups: ragged channels, filters and edges, both schedules, rows alone
    (1, 16, 16, (6, 6), 3, 2, 1, 1),
    (2, 17, 19, (9, 13), 3, 2, 1, 1),
    (1, 64, 33, (8, 8), 3, 2, 2, 1),
    (3, 20, 70, (5, 5), 3, 2, 0, 1),
    (1, 130, 40, (38, 17), 3, 2, 1, 1),
    (2, 32, 64, (61, 90), 3, 2, 1, 2),
    (1, 300, 140, (16, 20), 3, 2, (0, 1), 1),
    (1, 3, 2, (4, 4), 3, 2, 1, 1),
    (1, 16, 16, (6, 6), 4, 2, 1, 1),
    (2, 17, 19, (9, 13), 4, 2, 1, 1),
    (1, 130, 40, (38, 17), 4, 2, (2, 0), 1),
    (2, 32, 64, (61, 90), 4, 2, 3, 2),
    (1, 300, 140, (16, 20), 4, 2, 1, 1),
    (1, 48, 40, (7, 50), (1, 3), (1, 2), (0, 1), 1),
    (1, 48, 40, (7, 50), (1, 4), (1, 2), 0, 1),
    (1, 48, 40, (7, 50), (1, 2), 1, 0, 1),
    (2, 17, 19, (9, 13), 2, 1, 1, 1),
    (1, 300, 140, (16, 20), 2, 1, 0, 1),
    (2, 40, 64, (80, 75), 2, 1, 0, 1),
]


@pytest.mark.parametrize("layout", ["C order", "channels last"])
@pytest.mark.parametrize("case", STRIDES, ids=str)
def test_strides_and_windows_of_two_agree_with_the_direct_sum(case, layout, isa, rng):
    n, c, k, size, kernel, stride, padding, groups = case
    kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    x, w, b = rng.normal(size=(n, c, *size)), rng.normal(size=(k, c // groups, *kernel)), rng.normal(size=k)
    for mode in ("zeros", "reflect"):
        compare(F.conv2d, F.conv2d_backward, x, w, b, layout, rng, stride=stride, padding=padding, padding_mode=mode, groups=groups)
    if stride == 1:
        compare(
            F.conv2d, F.conv2d_backward, x, w, b, layout, rng, padding=padding, dilation=(1, 2) if kernel[0] == 1 else (3, 2), groups=groups
        )


FIVES = [  # n, c, k, size, kernel, padding, dilation, groups: weights by the direct sum, and by the algorithm; ragged, both schedules, rows alone
    (1, 16, 16, (7, 6), 5, 2, 1, 1),
    (2, 17, 19, (9, 13), 5, 2, 1, 1),
    (3, 20, 70, (7, 6), 5, 0, 1, 1),
    (2, 17, 19, (41, 33), 5, (2, 1), 1, 1),
    (2, 40, 64, (50, 45), 5, 2, 1, 2),
    (1, 300, 140, (16, 20), 5, 2, 1, 1),
    (1, 300, 70, (40, 40), 5, 3, 1, 1),
    (2, 20, 24, (45, 50), 5, 4, 2, 1),
    (1, 48, 40, (7, 50), (1, 5), (0, 2), 1, 1),
]


@pytest.mark.parametrize("layout", ["C order", "channels last"])
@pytest.mark.parametrize("case", FIVES, ids=str)
def test_windows_of_five_agree_with_the_direct_sum(case, layout, isa, rng):
    n, c, k, size, kernel, padding, dilation, groups = case
    kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    x, w, b = rng.normal(size=(n, c, *size)), rng.normal(size=(k, c // groups, *kernel)), rng.normal(size=k)
    for mode in ("zeros", "reflect") if dilation == 1 else ("zeros",):
        compare(F.conv2d, F.conv2d_backward, x, w, b, layout, rng, padding=padding, padding_mode=mode, dilation=dilation, groups=groups)


@pytest.mark.parametrize("data", ["normal", "positive", "uniform"])
@pytest.mark.parametrize("case", [(1, 16, 40, 40), (2, 64, 32, 28), (8, 32, 64, 27), (1, 64, 64, 14)], ids=str)
def test_the_error_of_windows_of_five(case, data, rng):
    """At most four times the direct sum's, root mean square, in all three results; the last case's weights are a direct sum themselves."""
    n, c, k, size = case
    draw = {
        "normal": rng.normal,
        "positive": lambda size: np.maximum(rng.normal(size=size), 0),
        "uniform": lambda size: rng.uniform(size=size),
    }
    x, w, dy = draw[data](size=(n, c, size, size)), rng.normal(size=(k, c, 5, 5)), draw[data](size=(n, k, size, size))
    x, w, dy = (a.astype(np.float32) for a in (x, w, dy))

    def results(algorithm, dtype):
        a, b, d = (v.astype(dtype) for v in (x, w, dy))
        options = {"padding": 2, "algorithm": algorithm}
        return [F.conv2d(a, b, **options), *F.conv2d_backward(d, a, b, **options)[:2]]

    exact, direct, fast = results("direct", np.float64), results("direct", np.float32), results("winograd", np.float32)
    for right, slow, quick in zip(exact, direct, fast, strict=True):
        assert np.sqrt(np.mean((quick - right) ** 2)) < 4 * np.sqrt(np.mean((slow - right) ** 2))
    np.testing.assert_equal(np.array_equal(direct[2], fast[2]), n * size * size < 1536)


@pytest.mark.parametrize("layout", ["C order", "channels last"])
def test_strides_of_windows_of_planes(layout, isa, rng):
    x, b = rng.normal(size=(2, 32, 5, 13, 18)), rng.normal(size=48)
    for kernel, stride in (((2, 3, 3), (1, 2, 2)), ((3, 4, 4), 2), ((2, 2, 2), (2, 1, 1))):
        compare(F.conv3d, F.conv3d_backward, x, rng.normal(size=(48, 32, *kernel)), b, layout, rng, stride=stride, padding=1)


@pytest.mark.parametrize("layout", ["C order", "channels last"])
@pytest.mark.parametrize("case", [(33, 40, 12, 0), (64, 64, 28, 0), (130, 17, 7, 1)], ids=str)
def test_transposed_convolutions_by_phases_of_two_taps(case, layout, isa, rng):
    """float32, where 'auto' takes the algorithm: each phase of a stride of 2 is a convolution by 2x2. Against float64."""
    c, k, size, more = case
    order = np.ascontiguousarray if layout == "C order" else cnnpy.channels_last
    x, w, b = rng.normal(size=(2, c, size, size + 1)), rng.normal(size=(c, k, 4, 4)), rng.normal(size=k)
    options = {"stride": 2, "padding": 1, "output_padding": more}
    single = [a.astype(np.float32) for a in (x, w, b)]
    got, wanted = F.conv_transpose2d(order(single[0]), *single[1:], **options), F.conv_transpose2d(x, w, b, **options)
    assert np.max(np.abs(got - wanted)) <= 2e-6 * np.max(np.abs(wanted)) * np.sqrt(c)
    dy = rng.normal(size=wanted.shape)
    got = F.conv_transpose2d_backward(order(dy.astype(np.float32)), order(single[0]), *single[1:], **options)
    wanted = F.conv_transpose2d_backward(dy, x, w, b, **options)
    for a, e in zip(got, wanted, strict=True):
        assert np.max(np.abs(a - e)) <= 2e-6 * np.max(np.abs(e)) * np.sqrt(c)


def test_strides_are_exact_on_multiples_of_four(isa, rng):
    """F(2, 2) divides nothing, F(3, 2) halves twice: whole numbers stay whole."""
    x = rng.integers(-4, 5, (2, 40, 30, 31)).astype(np.float32)
    for kernel, stride in ((3, 2), (4, 2), (2, 1)):
        w = (1 if kernel == 3 else 4) * rng.integers(-3, 4, (48, 40, kernel, kernel)).astype(np.float32)
        pair = [F.conv2d(x, w, padding=1, stride=stride, algorithm=a) for a in ("winograd", "direct")]
        assert np.array_equal(*pair)


PLANES = [  # n, c, k, size, padding, dilation, stride, groups
    (1, 16, 16, (4, 6, 6), 1, 1, 1, 1),
    (2, 32, 48, (5, 9, 13), 1, 1, 1, 1),
    (1, 16, 32, (6, 8, 8), 2, 2, 1, 1),
    (1, 80, 16, (3, 17, 40), (0, 1, 2), (1, 1, 2), (2, 1, 1), 1),
    (1, 64, 96, (4, 14, 14), 1, 1, 1, 2),
    (1, 16, 16, (1, 5, 5), 1, 1, 1, 1),
    (1, 512, 512, (2, 8, 8), 1, 1, 1, 1),
]


@pytest.mark.parametrize("layout", ["C order", "channels last"])
@pytest.mark.parametrize("planes", [1, 2, 3, 5])
@pytest.mark.parametrize("case", PLANES, ids=str)
def test_windows_of_planes_agree_with_the_direct_sum(case, planes, layout, isa, rng):
    n, c, k, size, padding, dilation, stride, groups = case
    options = {"padding": padding, "dilation": dilation, "stride": stride, "groups": groups}
    before, gap = (v if isinstance(v, int) else v[0] for v in (padding, dilation))
    if size[0] + 2 * before < (planes - 1) * gap + 1:
        options["padding"] = (planes, *(padding if isinstance(padding, tuple) else (padding,) * 3)[1:])
    x, w, b = rng.normal(size=(n, c, *size)), rng.normal(size=(k, c // groups, planes, 3, 3)), rng.normal(size=k)
    for mode in ("zeros", "replicate") if dilation == 1 else ("zeros",):
        compare(F.conv3d, F.conv3d_backward, x, w, b, layout, rng, padding_mode=mode, **options)


ROWS = [  # n, c, k, size, padding, dilation, groups
    (2, 32, 64, 40, 1, 1, 1),
    (1, 17, 48, 57, 2, 3, 1),
    (1, 600, 512, 33, 1, 1, 1),
    (3, 20, 33, 3, 1, 1, 1),
    (2, 64, 64, 100, 8, 8, 1),
    (5, 40, 70, 2000, 1, 1, 2),
]


@pytest.mark.parametrize("layout", ["C order", "channels last"])
@pytest.mark.parametrize("case", ROWS, ids=str)
def test_windows_of_one_row_agree_with_the_direct_sum(case, layout, isa, rng):
    """Along rows alone: conv1d, and kernels of 1x3 and 3x1x3."""
    n, c, k, size, padding, dilation, groups = case
    x, w, b = rng.normal(size=(n, c, size)), rng.normal(size=(k, c // groups, 3)), rng.normal(size=k)
    compare(F.conv1d, F.conv1d_backward, x, w, b, layout, rng, padding=padding, dilation=dilation, groups=groups)
    x = rng.normal(size=(1, 32, 3, 4, 19))
    compare(F.conv2d, F.conv2d_backward, x[:, :, 1], rng.normal(size=(48, 32, 1, 3)), None, layout, rng, padding=(0, padding))
    compare(F.conv3d, F.conv3d_backward, x, rng.normal(size=(48, 32, 3, 1, 3)), None, layout, rng, padding=(1, 0, padding))


def compare(forward, backward, x, w, b, layout, rng, **options):
    """All results by both algorithms."""
    order = np.ascontiguousarray if layout == "C order" else cnnpy.channels_last
    direct, fast = (forward(order(x), w, b, algorithm=a, **options) for a in ("direct", "winograd"))
    assert not np.array_equal(fast, direct)  # else nothing is tried
    close(fast, direct)
    dy = order(rng.normal(size=direct.shape))
    for wanted, got in zip(*(backward(dy, order(x), w, b, algorithm=a, **options) for a in ("direct", "winograd")), strict=True):
        if wanted is not None:
            close(got, wanted)


@pytest.mark.parametrize("kernel, stride", [(3, 2), (4, 2), (2, 1)])
def test_error_of_strides_in_units_of_the_direct_sum(kernel, stride, isa, rng):
    """Sums of two and of three points lose less than the direct sum."""
    x, w = rng.normal(size=(2, 64, 41, 40)).astype(np.float32), rng.normal(size=(64, 64, kernel, kernel)).astype(np.float32)
    exact = F.conv2d(x.astype(np.float64), w.astype(np.float64), stride=stride)
    direct, fast = (np.sqrt(np.mean((F.conv2d(x, w, stride=stride, algorithm=a) - exact) ** 2)) for a in ("direct", "winograd"))
    assert 0 < direct and direct / 3 < fast < 1.3 * direct and fast != direct


@pytest.mark.parametrize("kind", ["gaps", "groups", "planes", "rows"])
def test_error_of_gaps_groups_planes_and_rows_in_units_of_the_direct_sum(kind, isa, rng):
    """As in the accuracy report: root mean square, at most four times the direct one, in all three passes."""
    rank = {"planes": 3, "rows": 1}.get(kind, 2)
    options = {"padding": 2 if kind == "gaps" else 1, "dilation": 2 if kind == "gaps" else 1, "groups": 2 if kind == "groups" else 1}
    forward, backward = getattr(F, f"conv{rank}d"), getattr(F, f"conv{rank}d_backward")
    x = rng.normal(size=(2, 64, *(6, 20, 20)[3 - rank :])).astype(np.float32)
    w = rng.normal(size=(64, 64 // options["groups"], *(3,) * rank)).astype(np.float32)
    dy = rng.normal(size=x.shape).astype(np.float32)

    def results(algorithm, dtype):
        arrays = [a.astype(dtype) for a in (dy, x, w)]
        return [
            forward(*arrays[1:], algorithm=algorithm, **options),
            *backward(*arrays, needs=("x", "weight"), algorithm=algorithm, **options)[:2],
        ]

    exact = results("direct", np.float64)
    errors = {
        a: [np.sqrt(np.mean((g - e) ** 2)) for g, e in zip(results(a, np.float32), exact, strict=True)] for a in ("direct", "winograd")
    }
    for direct, fast in zip(errors["direct"], errors["winograd"], strict=True):
        assert 0 < direct < fast * 1.5 and fast <= 4 * direct, (kind, errors)


def close(got, wanted):
    assert got.shape == wanted.shape
    assert np.max(np.abs(got - wanted)) <= 1e-13 * max(1.0, np.max(np.abs(wanted)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiles_of_two_are_exact_on_multiples_of_four(dtype, isa, rng):
    """F(2x2, 3x3) divides weights by at most four: whole numbers stay whole. A 6x6 result is cut into tiles of two."""
    x = rng.integers(-4, 5, (2, 18, 6, 6)).astype(dtype)
    w = 4 * rng.integers(-3, 4, (20, 18, 3, 3)).astype(dtype)
    assert np.array_equal(F.conv2d(x, w, padding=1, algorithm="winograd"), F.conv2d(x, w, padding=1, algorithm="direct"))


def test_error_in_units_of_the_direct_sum(isa):
    """Root mean square error at most four times the direct one, on normal, positive and uniform data, in all three passes."""
    report = accuracy_report()
    assert report.worst("direct") == 1
    assert 1 < report.worst("winograd") <= 4
    double = [r["rms_ratio"] for r in report.rows if (r["algorithm"], r["dtype"]) == ("winograd", "float64")]
    assert report.worst("winograd", "float64") == max(double) < report.worst("winograd")
    assert "rms/direct" in repr(report)


def test_the_report_of_windows_of_five():
    report = accuracy_report(kernel=5, channels=(16,), sizes=(10, 40))
    assert report.worst("direct") == 1 < report.worst("winograd") <= 4
    with pytest.raises(ValueError, match="accuracy_report: kernel is 4, expected 3 or 5"):
        accuracy_report(kernel=4)


def test_memory_order_and_threads_do_not_change_bits(isa, rng):
    x, w = rng.normal(size=(2, 32, 62, 90)).astype(np.float32), rng.normal(size=(40, 32, 3, 3)).astype(np.float32)
    dy = rng.normal(size=(2, 40, 62, 90)).astype(np.float32)
    wanted = None
    for threads in (1, 2, 3, 8):
        with cnnpy.threads(threads):
            for order in (np.ascontiguousarray, cnnpy.channels_last, np.asfortranarray):
                y = F.conv2d(order(x), w, padding=1)
                g = F.conv2d_backward(order(dy), order(x), w, np.zeros(40, np.float32), padding=1)
                wanted = wanted or (y, *g)
                for got, first in zip((y, *g), wanted, strict=True):
                    assert np.array_equal(got, first)


@pytest.mark.parametrize(
    "rank, size, options", [(1, (700,), {}), (2, (40, 41), {"dilation": 2, "groups": 2}), (3, (5, 14, 15), {})], ids=str
)
def test_memory_order_and_threads_of_rows_gaps_and_planes(rank, size, options, rng):
    x, w = (
        rng.normal(size=(2, 96, *size)).astype(np.float32),
        rng.normal(size=(64, 96 // options.get("groups", 1), *(3,) * rank)).astype(np.float32),
    )
    forward, backward, found = getattr(F, f"conv{rank}d"), getattr(F, f"conv{rank}d_backward"), []
    dy = rng.normal(size=forward(x, w, **options).shape).astype(np.float32)
    for threads in (1, 2, 5):
        with cnnpy.threads(threads):
            for order in (np.ascontiguousarray, cnnpy.channels_last):
                found.append((forward(order(x), w, **options), *backward(order(dy), order(x), w, needs=("x", "weight"), **options)[:2]))
    assert not np.array_equal(found[0][0], forward(x, w, algorithm="direct", **options))
    for others in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], others, strict=True))


def test_the_schedule_of_the_weight_gradient_does_not_change_bits(isa, rng):
    """1,568 tiles: the more threads, the smaller the blocks of channels that one of them takes; one small map goes to dw at once."""
    for n, c, size in ((8, 16, 56), (2, 100, 30), (1, 48, 12)):
        x, dy = (rng.standard_normal((n, c, size, size), np.float32) for _ in range(2))
        w = np.zeros((c, c, 3, 3), np.float32)
        found = []
        for threads in (1, 2, 3, 7, 16):
            with cnnpy.threads(threads):
                for order in (np.ascontiguousarray, cnnpy.channels_last):
                    found.append(F.conv2d_backward(order(dy), order(x), w, padding=1, needs=("weight",)).weight)
        assert all(np.array_equal(found[0], other) for other in found)
        direct = F.conv2d_backward(dy.astype(np.float64), x.astype(np.float64), w.astype(np.float64), padding=1, needs=("weight",)).weight
        assert np.max(np.abs(found[0] - direct)) <= 1e-5 * np.max(np.abs(direct))


def test_when_it_is_taken(rng):
    """By shape and dtype: 16 channels and filters in float32, never in float64, never in strict precision."""

    def same_as_direct(c, dtype):
        x, w = rng.normal(size=(4, c, 16, 16)).astype(dtype), rng.normal(size=(c, c, 3, 3)).astype(dtype)
        return np.array_equal(F.conv2d(x, w, padding=1), F.conv2d(x, w, padding=1, algorithm="direct"))

    assert not same_as_direct(32, np.float32)
    assert same_as_direct(12, np.float32) and same_as_direct(32, np.float64)
    cnnpy.set_precision("strict")
    try:
        assert cnnpy.precision() == "strict" and same_as_direct(32, np.float32)
    finally:
        cnnpy.set_precision("default")
    with pytest.raises(ValueError, match="set_precision: mode is 'fast', expected 'default' or 'strict'"):
        cnnpy.set_precision("fast")


def test_a_kernel_that_it_does_not_know():
    x, known = (
        np.zeros((1, 16, 8, 8), np.float32),
        "conv2d: algorithm is 'winograd', expected 'auto' or 'direct' because that one computes kernels of 2x2",
    )
    for w, options in (
        (np.zeros((16, 16, 6, 6)), {}),
        (np.zeros((16, 16, 5, 5)), {"stride": 2}),
        (np.zeros((16, 16, 3, 3)), {"stride": 3}),
        (np.zeros((16, 16, 3, 3)), {"stride": (1, 2)}),
        (np.zeros((16, 16, 3, 2)), {}),
        (np.zeros((16, 16, 2, 2)), {"stride": 2}),
        (np.zeros((16, 16, 3, 3)), {"stride": 2, "dilation": 2}),
        (np.zeros((16, 16, 3, 3)), {"dilation": 9, "padding": 9}),
        (np.zeros((16, 16, 3, 3)), {"dilation": 2, "padding": 2, "padding_mode": "reflect"}),
        (np.zeros((16, 1, 3, 3)), {"groups": 16}),
    ):
        with pytest.raises(ValueError, match=known):
            F.conv2d(x, w, algorithm="winograd", **options)
    with pytest.raises(
        ValueError, match=r"conv3d: algorithm is 'winograd'.*multiples of 16 channels and filters a group where they have several planes"
    ):
        F.conv3d(np.zeros((1, 17, 3, 8, 8)), np.zeros((16, 17, 3, 3, 3)), algorithm="winograd")
    with pytest.raises(ValueError, match="conv2d: algorithm is 'fft', expected one of 'auto', 'direct', 'winograd'"):
        F.conv2d(x, np.zeros((16, 16, 3, 3)), algorithm="fft")


def test_nan_is_never_hidden_and_stays_within_touching_tiles(rng):
    x, w = rng.normal(size=(1, 16, 24, 24)).astype(np.float32), rng.normal(size=(16, 16, 3, 3)).astype(np.float32)
    x[0, 3, 9, 10] = np.nan
    direct, fast = (np.isnan(F.conv2d(x, w, padding=1, algorithm=a)).any(axis=(0, 1)) for a in ("direct", "winograd"))
    assert direct.sum() == 9 and fast[direct].all()
    rows, columns = np.nonzero(fast)
    assert rows.min() >= 8 and rows.max() < 16 and columns.min() >= 8 and columns.max() < 16
