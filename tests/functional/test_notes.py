"""What study notes say about convolution and pooling, row by row of the checklist M1 to M48: what is right, what is not, and what is."""

import numpy as np
import pytest

from cnnpy import functional as F
from cnnpy import image, nn, tools

X = np.arange(1.0, 26).reshape(1, 1, 5, 5)
K = np.array([[[[1.0, 0, -1]] * 3]])


def line(*values):
    return np.array(values, float)[None, None]


def same(y, wanted):
    np.testing.assert_array_equal(np.squeeze(y), np.squeeze(np.array(wanted, float)))


def test_m1_the_discrete_convolution_is_a_sum_over_all_shifts(rng):
    f, g = rng.integers(-5, 6, 7).astype(float), rng.integers(-5, 6, 4).astype(float)
    whole = [sum(f[i] * g[n - i] for i in range(7) if 0 <= n - i < 4) for n in range(10)]
    same(F.conv1d(line(*f), line(*g), padding="full", flip=True), whole)
    same(F.conv1d(line(*f), line(*g), padding="valid", flip=True), whole[3:7])
    assert F.conv1d(line(*f), line(*g), padding="same", flip=True).shape[-1] == 7


def test_m3_the_size_without_padding():
    for h, k in ((5, 3), (9, 2), (4, 4)):
        assert F.conv2d(np.ones((1, 1, h, h + 1)), np.ones((1, 1, k, k))).shape[2:] == (h - k + 1, h + 1 - k + 1)
        assert tools.output_shape(h, k) == h - k + 1


def test_m4_three_kernels_give_three_maps():
    w = np.concatenate([K, -K, 2 * K])
    y = F.conv2d(X, w)
    assert y.shape == (1, 3, 3, 3)
    same(y[0], [np.full((3, 3), v) for v in (-6, 6, -12)])


def test_m5_a_shift_of_the_input_shifts_the_output(rng):
    """Equivariance, not invariance; pooling adds a little of the latter."""
    x = np.zeros((1, 1, 16, 16))
    x[..., 4:8, 4:8] = rng.integers(1, 9, (4, 4))
    moved = np.roll(x, (2, 3), (2, 3))
    w = rng.integers(-3, 4, (1, 1, 3, 3)).astype(float)
    y = F.conv2d(x, w, padding="same")
    same(F.conv2d(moved, w, padding="same"), np.roll(y, (2, 3), (2, 3)))
    assert not np.array_equal(F.conv2d(moved, w, padding="same"), y)
    same(F.global_max_pool(moved), F.global_max_pool(x))


def test_m11_convolution_is_commutative_and_smoothing_keeps_the_area(rng):
    f, g = rng.normal(size=(1, 1, 9)), rng.normal(size=(1, 1, 4))
    np.testing.assert_allclose(F.conv1d(f, g, padding="full", flip=True), F.conv1d(g, f, padding="full", flip=True), atol=1e-14)
    dot = np.zeros((21, 21))
    dot[10, 10] = 5
    assert image.gaussian(dot, 1.5).sum() == pytest.approx(5, abs=1e-12)


def test_m12_exchanged_arguments_reverse_the_cross_correlation(rng):
    f, g = rng.integers(-5, 6, (1, 1, 6)).astype(float), rng.integers(-5, 6, (1, 1, 3)).astype(float)
    same(F.conv1d(g, f, padding="full"), F.conv1d(f, g, padding="full")[..., ::-1])


def test_m13_the_convolution_of_networks_by_its_definition(rng):
    """Y = W * X, kernel first in books, (x, weight) here: Y[i, j] = sum of W[r, s] X[i + r, j + s]."""
    x, w = rng.integers(-5, 6, (6, 7)).astype(float), rng.integers(-5, 6, (3, 2)).astype(float)
    wanted = [[(w * x[i : i + 3, j : j + 2]).sum() for j in range(6)] for i in range(4)]
    same(F.conv2d(x[None, None], w[None, None]), wanted)


def test_m15_padding_stride_and_three_dimensions():
    cube = np.arange(1.0, 28).reshape(1, 1, 3, 3, 3)
    same(F.conv3d(cube, np.ones((1, 1, 3, 3, 3))), cube.sum())
    same(F.conv3d(cube, np.ones((1, 1, 2, 2, 2)), stride=2, padding=((0, 1),) * 3).reshape(-1)[0], cube[0, 0, :2, :2, :2].sum())
    same(F.max_pool3d(cube, 3), 27)
    same(F.avg_pool3d(cube, 3), 14)
    same(F.max_pool2d(cube[:, 0], 3), [9, 18, 27])


def test_m17_derivatives_are_pairs_and_checked_numerically(rng):
    x, w, b = rng.normal(size=(1, 2, 5, 5)), rng.normal(size=(3, 2, 3, 3)), rng.normal(size=3)
    assert tools.gradcheck(lambda *a: F.conv2d(*a, padding=1), x, w, b) < 1e-7
    assert tools.gradcheck(lambda a: F.avg_pool2d(a, 2), x) < 1e-7
    assert tools.gradcheck(lambda a: F.max_pool2d(a, 2), x) < 1e-7


def test_m19_only_average_pooling_is_a_convolution(rng):
    x = rng.integers(-9, 10, (1, 1, 6, 6)).astype(float)
    same(F.avg_pool2d(x, 2) * 4, F.conv2d(x, np.ones((1, 1, 2, 2)), stride=2))
    y = rng.integers(-9, 10, x.shape).astype(float)
    assert not np.array_equal(F.max_pool2d(x + y, 2), F.max_pool2d(x, 2) + F.max_pool2d(y, 2)), "maximum pooling is not linear"
    same(F.max_pool2d(F.interpolate(x, scale_factor=2), 2), x)


def test_m20_the_stride_sets_the_size_not_an_odd_window():
    x = np.zeros((1, 1, 28, 28))
    assert F.max_pool2d(x, 2).shape[2:] == F.max_pool2d(x, 3, stride=2, padding=1).shape[2:] == (14, 14)
    assert F.max_pool2d(x, 14).shape[2:] == (2, 2) and 14 % 2 == 0


def test_m23_one_output_a_pixel_needs_padding():
    for k in (1, 2, 3, 4, 5):
        w = np.ones((1, 1, k, k))
        assert F.conv2d(X, w, padding="same").shape == X.shape
        assert F.conv2d(X, w).shape[-1] == 5 - k + 1


def test_m25_stride_1_keeps_and_stride_2_halves_only_with_same_padding():
    assert F.conv2d(X, K).shape[-1] == 3 and F.conv2d(X, K, padding="same").shape[-1] == 5
    assert F.conv2d(X, K, stride=2).shape[-1] == 2 and F.conv2d(X, K, stride=2, padding="same").shape[-1] == 3


def test_m27_a_convolution_sees_local_features_only():
    x = np.zeros((1, 1, 9, 9))
    x[0, 0, 0, 0] = 1
    y = F.conv2d(x, np.ones((1, 1, 3, 3)), padding=1)
    assert np.count_nonzero(y) == 4 and not y[0, 0, 2:].any()


def test_m29_the_multi_channel_code_repaired():
    """Rows (-1, 0, 1) over two channels of 2x3: as groups, summed, and rescaled to 0..1; without padding there is no output."""
    data = np.arange(1.0, 13).reshape(1, 2, 2, 3)
    w = np.broadcast_to(-K, (2, 1, 3, 3))
    groups = F.conv2d(data, w, padding="same", groups=2)
    same(groups, [[[7, 4, -7], [7, 4, -7]], [[19, 4, -19], [19, 4, -19]]])
    summed = F.conv2d(data, np.broadcast_to(-K, (1, 2, 3, 3)), padding="same")
    same(summed, [[26, 8, -26], [26, 8, -26]])
    for y, middle in ((groups[0, 0], 0.785714286), (groups[0, 1], 0.605263158), (summed[0, 0], 0.653846154)):
        rescaled = (y - y.min()) / (y.max() - y.min())
        np.testing.assert_allclose(rescaled, [[1, middle, 0]] * 2, atol=1e-9)
    with pytest.raises(ValueError, match="no output along axis 2: input 2"):
        F.conv2d(data, w, groups=2)
    assert not tools.check_example(data[0, 0], -K[0, 0], np.zeros((2, 3)))


def test_m30_moving_average_and_second_difference():
    squares = line(*(i * i for i in range(10)))
    same(F.conv1d(squares, line(1, -2, 1), flip=True), [2] * 8)
    np.testing.assert_allclose(np.squeeze(F.conv1d(line(1, 2, 3, 4, 5, 6), line(1, 1, 1) / 3, flip=True)), [2, 3, 4, 5], atol=1e-15)


def test_m31_cross_correlation_is_convolution_with_the_rotated_kernel(rng):
    x, w = rng.integers(-5, 6, (1, 1, 7, 6)).astype(float), rng.integers(-5, 6, (1, 1, 3, 2)).astype(float)
    same(F.conv2d(x, w), F.conv2d(x, np.ascontiguousarray(w[..., ::-1, ::-1]), flip=True))
    np.testing.assert_allclose(image.box(X[0, 0])[1:-1, 1:-1], F.avg_pool2d(X, 3, stride=1)[0, 0], atol=1e-13)


def test_m32_narrow_wide_and_equal_width():
    x = line(*range(7))
    for r, equal in ((3, 7), (5, 7), (2, 6), (4, 6)):
        w = np.ones((1, 1, r))
        half = (r - 1) // 2
        assert F.conv1d(x, w).shape[-1] == 7 - r + 1
        assert F.conv1d(x, w, padding="full").shape[-1] == 7 + r - 1
        assert F.conv1d(x, w, padding=half).shape[-1] == equal, "(K - 1)/2 on both sides keeps the length for odd kernels only"
        assert F.conv1d(x, w, padding="same").shape[-1] == 7


def test_m33_wide_convolution_commutes(rng):
    x, w = rng.integers(-5, 6, (1, 1, 5, 4)).astype(float), rng.integers(-5, 6, (1, 1, 3, 3)).astype(float)
    same(F.conv2d(x, w, padding="full", flip=True), F.conv2d(w, x, padding="full", flip=True))
    turn = lambda a: np.ascontiguousarray(a[..., ::-1, ::-1])  # noqa: E731
    same(F.conv2d(x, turn(w), padding="full"), F.conv2d(w, turn(x), padding="full"))


def test_m34_error_terms_are_convolutions_themselves(rng):
    """dw is x correlated with dy; dx is the rotated kernel, wide-convolved with dy."""
    x, w = rng.integers(-4, 5, (1, 1, 6, 6)).astype(float), rng.integers(-4, 5, (1, 1, 3, 3)).astype(float)
    dy = rng.integers(-4, 5, (1, 1, 4, 4)).astype(float)
    g = F.conv2d_backward(dy, x, w)
    same(g.weight, F.conv2d(x, dy))
    same(g.x, F.conv2d(dy, w, padding="full", flip=True))


def test_m35_parameters_do_not_depend_on_the_number_of_cells():
    layer = nn.Conv1d(1, 1, 3)
    for m in (10, 1000):
        assert tools.summary(layer, (1, m)).parameters == 4 and layer(np.zeros((1, 1, m), np.float32)).shape[-1] == m - 2
    assert tools.summary(nn.Linear(10, 8), (10,)).parameters == 88


def test_m36_a_layer_sums_over_input_maps(rng):
    x, w, b = rng.integers(-4, 5, (1, 3, 6, 6)).astype(float), rng.integers(-4, 5, (2, 3, 3, 3)).astype(float), np.array([1.0, -2])
    wanted = [sum(F.conv2d(x[:, d : d + 1], w[p : p + 1, d : d + 1])[0, 0] for d in range(3)) + b[p] for p in range(2)]
    same(F.conv2d(x, w, b), wanted)
    assert sum(p.size for p in nn.Conv2d(3, 64, 3).parameters()) == 64 * 3 * 9 + 64 == 1792


def test_m38_of_equal_values_the_first_gets_the_gradient():
    x = np.ones((1, 1, 2, 2))
    same(F.max_pool2d_backward(np.full((1, 1, 1, 1), 4.0), x, 2).x, [[4, 0], [0, 0]])
    same(F.avg_pool2d_backward(np.full((1, 1, 1, 1), 4.0), x, 2).x, [[1, 1], [1, 1]])


def test_m39_dilation_widens_and_fractional_stride_inserts_zeros(rng):
    w = rng.integers(-4, 5, (1, 1, 3)).astype(float)
    wide = np.zeros((1, 1, 5))
    wide[..., ::2] = w
    x = rng.integers(-4, 5, (1, 1, 9)).astype(float)
    same(F.conv1d(x, w, dilation=2), F.conv1d(x, wide))  # K' = K + (K - 1)(D - 1)
    spread = np.zeros((1, 1, 17))
    spread[..., ::2] = x
    same(F.conv_transpose1d(x, w, stride=2), F.conv1d(spread, w, padding="full", flip=True))


def test_m43_upsampling_gives_the_size_back_not_the_values(rng):
    x = rng.normal(size=(1, 1, 6, 6))
    small, index = F.max_pool2d(x, 2, return_indices=True)
    for back in (
        F.interpolate(small, scale_factor=2, mode="bilinear"),
        F.conv_transpose2d(small, np.ones((1, 1, 2, 2)), stride=2),
        F.max_unpool2d(small, index, 2),
    ):
        assert back.shape == x.shape and not np.allclose(back, x)


def test_m44_block_pooling_needs_no_divisor():
    x = np.arange(1.0, 26).reshape(1, 1, 5, 5)
    assert F.avg_pool2d(x, 2).shape[-1] == 2 and F.max_pool2d(x, 2, ceil_mode=True).shape[-1] == 3
    four = x[..., :4, :4]
    same(F.max_pool2d(four, 2), [[four[0, 0, i : i + 2, j : j + 2].max() for j in (0, 2)] for i in (0, 2)])
    same(F.avg_pool2d(four, 2), [[four[0, 0, i : i + 2, j : j + 2].mean() for j in (0, 2)] for i in (0, 2)])


def test_m45_the_field_backwards_is_the_field_forwards():
    """RF(i) = S(i) (RF(i+1) - 1) + K(i), from the last layer to the first."""
    layers = [nn.Conv2d(1, 1, 5, stride=2), nn.MaxPool2d(3, stride=2), nn.Conv2d(1, 1, 3), nn.AvgPool2d(2)]
    field = 1
    for k, s in reversed([(5, 2), (3, 2), (3, 1), (2, 2)]):
        field = s * (field - 1) + k
    assert tools.receptive_field(nn.Sequential(*layers), (1, 64, 64)).size == (field, field)


def test_m45_of_parallel_paths_the_longest_counts():
    block = nn.Residual(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)))
    assert tools.receptive_field(nn.Sequential(block, block), (2, 32, 32)).size == (9, 9)
    side = nn.Residual(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Conv2d(2, 4, 1, stride=2), nn.ReLU())
    field = tools.receptive_field(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), side), (1, 32, 32))
    assert field.size == (5, 5) and field.stride == (2, 2) and field.start == (0, 0)
    joined = nn.Concat(
        nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 5, padding=2), nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, dilation=1), nn.ReLU())
    )
    assert tools.receptive_field(joined, (1, 32, 32)).size == (5, 5)
    with pytest.raises(ValueError, match="different strides"):
        tools.receptive_field(nn.Residual(nn.Conv2d(1, 1, 3, stride=2)), (1, 32, 32))


def test_m46_small_kernels_replace_a_big_one():
    three = nn.Sequential(*(nn.Conv2d(1, 1, 3, bias=False) for _ in range(3)))
    one = nn.Conv2d(1, 1, 7, bias=False)
    assert tools.receptive_field(three, (1, 32, 32)).size == tools.receptive_field(one, (1, 32, 32)).size == (7, 7)
    assert sum(p.size for p in three.parameters()) == 27 and sum(p.size for p in one.parameters()) == 49


def test_the_whole_wide_result_of_the_ramp():
    same(
        F.conv2d(X, K, padding="full"),
        [
            [-1, -2, -2, -2, -2, 4, 5],
            [-7, -9, -4, -4, -4, 13, 15],
            [-18, -21, -6, -6, -6, 27, 30],
            [-33, -36, -6, -6, -6, 42, 45],
            [-48, -51, -6, -6, -6, 57, 60],
            [-37, -39, -4, -4, -4, 43, 45],
            [-21, -22, -2, -2, -2, 24, 25],
        ],
    )


def test_every_row_of_this_stage_has_a_named_test():
    import re
    from pathlib import Path

    rows = {*range(1, 6), *range(11, 16), 17, 19, 20, *range(23, 40), *range(43, 47)}
    names = " ".join(re.findall(r"def test_\w+", "".join(p.read_text() for p in Path(__file__).parents[1].rglob("test_*.py"))))
    found = {int(n) for n in re.findall(r"_m(\d+)(?=_)", names)}
    assert rows <= found, f"rows without a test: {sorted(rows - found)}"
