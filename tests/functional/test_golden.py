"""Golden values worked out by hand, and the checklist rows that this stage of the library answers."""

import numpy as np
import pytest

from cnnpy import functional as F

X = np.arange(1.0, 26).reshape(1, 1, 5, 5)
K = np.array([[[[1.0, 0, -1]] * 3]])
V = np.array([[[[2.0, 0, 1], [0, 1, 2], [1, 0, 2]]]])
Q = np.array([[[[1.0, 2], [3, 4]]]])


def same(y, wanted):
    np.testing.assert_array_equal(np.squeeze(y), np.squeeze(np.array(wanted, float)))


def near(y, wanted):
    np.testing.assert_allclose(np.squeeze(y), np.squeeze(np.array(wanted, float)), rtol=0, atol=1e-9)


def test_m2_the_ramp():
    """Cross-correlation gives nine times -6; the convolution of mathematics +6."""
    same(F.conv2d(X, K), np.full((3, 3), -6))
    same(F.conv2d(X, K, flip=True), np.full((3, 3), 6))


def test_ramp_options():
    same(F.conv2d(X, K, stride=2), np.full((2, 2), -6))
    same(F.conv2d(X, K, stride=2, padding=1), [[-9, -4, 13], [-36, -6, 42], [-39, -4, 43]])
    same(F.conv2d(X, K, dilation=2), -12)
    same(
        F.conv2d(X, K, padding="same"),
        [[-9, -4, -4, -4, 13], [-21, -6, -6, -6, 27], [-36, -6, -6, -6, 42], [-51, -6, -6, -6, 57], [-39, -4, -4, -4, 43]],
    )
    full = F.conv2d(X, K, padding="full")
    same(full[0, 0, 0], [-1, -2, -2, -2, -2, 4, 5])
    same(full[0, 0, 3], [-33, -36, -6, -6, -6, 42, 45])
    same(full[0, 0, 6], [-21, -22, -2, -2, -2, 24, 25])


@pytest.mark.parametrize(
    ("mode", "row"),
    [
        ("reflect", [0, -6, -6, -6, 0]),
        ("symmetric", [-3, -6, -6, -6, -3]),
        ("replicate", [-3, -6, -6, -6, -3]),
        ("circular", [9, -6, -6, -6, 9]),
    ],
)
def test_m24_padding_modes(mode, row):
    same(F.conv2d(X, K, padding=1, padding_mode=mode), [row] * 5)


def test_m34_gradients_of_the_ramp():
    g = F.conv2d_backward(np.ones((1, 1, 3, 3)), X, K)
    same(g.weight, [[63, 72, 81], [108, 117, 126], [153, 162, 171]])
    same(g.x, [[1, 1, 0, -1, -1], [2, 2, 0, -2, -2], [3, 3, 0, -3, -3], [2, 2, 0, -2, -2], [1, 1, 0, -1, -1]])
    assert g.bias is None
    same(F.conv2d_backward(np.ones((1, 1, 3, 3)), X, K, np.zeros(1)).bias, 9)


def test_gradients_with_padding_modes():
    g = {m: F.conv2d_backward(X, X, V, padding=1, padding_mode=m) for m in ("zeros", "reflect", "symmetric", "replicate", "circular")}
    same(g["zeros"].weight, [[3080, 3920, 3160], [4400, 5525, 4400], [3160, 3920, 3080]])
    same(g["reflect"].weight, [[3835, 4050, 4225], [5310, 5525, 5700], [5785, 6000, 6175]])
    for mode in ("symmetric", "replicate"):
        same(g[mode].weight, [[3705, 3975, 4225], [5255, 5525, 5775], [6305, 6575, 6825]])
    same(g["circular"].weight, [[4225, 4275, 4225], [5475, 5525, 5475], [4225, 4275, 4225]])
    same(
        g["zeros"].x,
        [[15, 26, 32, 38, 22], [32, 61, 70, 79, 50], [52, 106, 115, 124, 80], [72, 151, 160, 169, 110], [38, 114, 120, 126, 111]],
    )
    same(
        g["reflect"].x,
        [[15, 38, 32, 58, 22], [36, 93, 80, 142, 54], [52, 144, 115, 194, 80], [94, 290, 228, 385, 158], [38, 130, 120, 216, 111]],
    )
    same(
        g["replicate"].x,
        [[33, 33, 42, 51, 51], [55, 61, 70, 79, 95], [90, 106, 115, 124, 150], [125, 151, 160, 169, 205], [97, 179, 188, 197, 299]],
    )
    same(
        g["circular"].x,
        [[107, 91, 100, 109, 103], [77, 61, 70, 79, 73], [122, 106, 115, 124, 118], [167, 151, 160, 169, 163], [137, 121, 130, 139, 133]],
    )


def test_one_dimension():
    line = lambda *v: np.array(v, float)[None, None]  # noqa: E731
    same(F.conv1d(line(1, 2, 3), line(0, 1, 5), padding="full"), [5, 11, 17, 3, 0])
    same(F.conv1d(line(0, 1, 5), line(1, 2, 3), padding="full"), [0, 3, 17, 11, 5])
    same(F.conv1d(line(1, 2, 3), line(0, 1, 5), padding="full", flip=True), [0, 1, 7, 13, 15])
    same(F.conv1d(line(0, 1, 5), line(1, 2, 3), padding="full", flip=True), [0, 1, 7, 13, 15])
    same(F.conv1d(line(*np.arange(9.0) ** 2), line(1, -2, 1)), [2] * 7)
    same(F.conv1d(line(1, 2, 3, 4, 5), line(-1, 1), padding="same"), [1, 1, 1, 1, -5])


def test_m14_another_kernel():
    x = np.array([[[[1.0, 2, 3, 0], [0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 0, 1]]]])
    same(F.conv2d(x, V), [[15, 16], [6, 15]])
    same(F.conv2d(x, V, padding="same"), [[7, 12, 10, 2], [4, 15, 16, 10], [10, 6, 15, 6], [8, 10, 4, 3]])


def test_unbatched():
    same(F.conv2d(X[0], K), np.full((3, 3), -6))
    assert F.conv2d(X[0], K).shape == (1, 3, 3) and F.max_pool2d(X[0], 2).shape == (1, 2, 2)
    assert F.conv2d_backward(np.ones((1, 3, 3)), X[0], K).x.shape == (1, 5, 5)


def test_m37_max_pooling():
    y, index = F.max_pool2d(X, 2, return_indices=True)
    same(y, [[7, 9], [17, 19]])
    same(index, [[6, 8], [16, 18]])
    assert index.dtype == np.int64
    same(F.max_pool2d(X, 2, ceil_mode=True), [[7, 9, 10], [17, 19, 20], [22, 24, 25]])
    same(F.max_pool2d(X, 3, stride=1), [[13, 14, 15], [18, 19, 20], [23, 24, 25]])
    dx = np.zeros((5, 5))
    dx[2:, 2:] = 1
    same(F.max_pool2d_backward(np.ones((1, 1, 3, 3)), X, 3, stride=1).x, dx)


def test_m38_average_pooling():
    same(F.avg_pool2d(X, 2), [[4, 6], [14, 16]])
    near(F.avg_pool2d(X, 2, ceil_mode=True), [[4, 6, 7.5], [14, 16, 17.5], [21.5, 23.5, 25]])
    same(F.avg_pool2d(X, 3, stride=1), [[7, 8, 9], [12, 13, 14], [17, 18, 19]])
    shares = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1]) / 9
    near(F.avg_pool2d_backward(np.ones((1, 1, 3, 3)), X, 3, stride=1).x, shares)
    near(F.avg_pool2d(X, 3, padding=1, ceil_mode=True), [[16 / 9, 13 / 3], [11, 19]])
    near(F.avg_pool2d(X, 3, padding=1, ceil_mode=True, count_include_pad=False), [[4, 6.5], [16.5, 19]])
    near(F.avg_pool2d(X, 2, padding=1, ceil_mode=True), [[0.25, 1.25, 2.25], [4.25, 10, 12], [9.25, 20, 22]])
    near(F.avg_pool2d(X, 2, padding=1, ceil_mode=True, count_include_pad=False), [[1, 2.5, 4.5], [8.5, 10, 12], [18.5, 20, 22]])
    six = np.arange(1.0, 37).reshape(1, 1, 6, 6)
    near(
        F.avg_pool2d(six, 3, stride=2, padding=1, ceil_mode=True),
        [[2, 4, 16 / 3, 3], [9, 15, 17, 9], [17, 27, 29, 15], [10.5, 16.5, 17.5, 9]],
    )


def test_softmax_and_cross_entropy():
    logits = np.array([[1.0, 2, 3]])
    near(F.softmax(logits), [0.090030573, 0.244728471, 0.665240956])
    near(F.cross_entropy(logits, [2]), 0.407605964)
    near(F.cross_entropy(logits, [2], label_smoothing=0.1), 0.507605964)
    two = np.repeat(logits, 2, axis=0)
    near(F.cross_entropy(two, [2, 0]), 1.407605964)
    weight = [1.0, 2, 3]
    near(F.cross_entropy(two, [2, 0], weight=weight), 0.907605964)
    near(F.cross_entropy(two, [2, 0], weight=weight, reduction="sum"), 3.630423858)
    near(F.cross_entropy(two, [2, 0], weight=weight, label_smoothing=0.1), 0.924272631)


def test_activations():
    near(F.sigmoid(np.array([1.0, -1])), [0.731058579, 0.268941421])
    near(F.tanh(np.array([1.0])), 0.761594156)


def test_examples_in_docstrings():
    import doctest

    import cnnpy.functional.activation
    import cnnpy.functional.dense
    import cnnpy.functional.loss

    for module in (cnnpy.autograd, cnnpy.functional.activation, cnnpy.functional.dense, cnnpy.functional.loss):
        assert doctest.testmod(module).failed == 0
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(F.conv2d.operation.forward, "conv2d", globs={}):
        assert runner.run(test).failed == 0


def test_m39_transposed_convolution():
    same(
        F.conv_transpose2d(np.full((1, 1, 3, 3), -6.0), K),
        [[-6, -6, 0, 6, 6], [-12, -12, 0, 12, 12], [-18, -18, 0, 18, 18], [-12, -12, 0, 12, 12], [-6, -6, 0, 6, 6]],
    )
    same(F.conv_transpose2d(Q, np.ones((1, 1, 2, 2)), stride=2), np.kron(Q[0, 0], np.ones((2, 2))))
    checkerboard = [[1, 1, 3, 2, 2], [1, 1, 3, 2, 2], [4, 4, 10, 6, 6], [3, 3, 7, 4, 4], [3, 3, 7, 4, 4]]
    same(F.conv_transpose2d(Q, np.ones((1, 1, 3, 3)), stride=2), checkerboard)
    line = lambda *v: np.array(v, float)[None, None]  # noqa: E731
    x, w = line(1, 2, 3), line(1, 10, 100)
    same(F.conv_transpose1d(x, w, stride=2), [1, 10, 102, 20, 203, 30, 300])
    same(F.conv_transpose1d(x, w, stride=2, padding=1, output_padding=1), [10, 102, 20, 203, 30, 300])
    same(F.conv_transpose1d(x, w, stride=2, padding=1, output_size=6), [10, 102, 20, 203, 30, 300])
    same(F.conv_transpose1d(x, w, stride=2, dilation=2), [1, 0, 12, 0, 123, 0, 230, 0, 300])
    with pytest.raises(ValueError, match="output_size 9 along axis 2, expected 5 to 6"):
        F.conv_transpose1d(x, w, stride=2, padding=1, output_size=9)


def test_a_transposed_convolution_is_an_input_gradient(rng):
    x, w = rng.integers(-3, 4, (2, 6, 9, 8)).astype(float), rng.integers(-3, 4, (4, 3, 3, 2)).astype(float)
    options = {"stride": (2, 3), "padding": (1, 0), "groups": 2}
    y = F.conv2d(x, w, **options)
    dy = rng.integers(-3, 4, y.shape).astype(float)
    same(F.conv2d_backward(dy, x, w, **options).x, F.conv_transpose2d(dy, w, output_size=(9, 8), **options))


@pytest.mark.parametrize(
    ("mode", "dx"),
    [
        ("zeros", [3, 4, 5, 6]),
        ("reflect", [3, 14, 13, 6]),
        ("symmetric", [5, 5, 13, 13]),
        ("replicate", [6, 4, 5, 21]),
        ("circular", [10, 12, 6, 8]),
    ],
)
def test_gradient_of_padding_folds_back(mode, dx):
    x = np.zeros((1, 1, 4))
    same(F.pad_backward(np.arange(1.0, 9)[None, None], x, [(2, 2)], mode=mode).x, dx)


@pytest.mark.parametrize("mode", ["reflect", "symmetric", "edge", "wrap", "constant"])
def test_padding_equals_numpy(mode, rng):
    x = rng.normal(size=(2, 3, 4, 5))
    for widths in ([(0, 0), (1, 2)], [(3, 1), (2, 2)], [(7, 9), (11, 4)]):
        same(F.pad(x, widths, mode=mode), np.pad(x, [(0, 0), (0, 0), *widths], mode=mode))
    same(F.pad(x, [(-1, -1), (-2, 1)]), np.pad(x[:, :, 1:-1, 2:], [(0, 0), (0, 0), (0, 0), (0, 1)]))
    same(F.pad(x, [(1, 0), (0, 0)], value=7.5)[:, :, 0], np.full((2, 3, 5), 7.5))


def test_unfold_is_convolution_as_a_product(rng):
    x, w = rng.integers(-3, 4, (2, 3, 6, 7)).astype(float), rng.integers(-3, 4, (4, 3, 3, 2)).astype(float)
    columns = F.unfold(x, (3, 2), stride=2, padding=1, dilation=(1, 2))
    y = F.conv2d(x, w, stride=2, padding=1, dilation=(1, 2))
    same(w.reshape(4, -1) @ columns, y.reshape(2, 4, -1))
    ones = F.fold(F.unfold(np.ones((1, 1, 4, 4)), 2), (4, 4), 2)
    same(ones, np.outer([1, 2, 2, 1], [1, 2, 2, 1]))


def test_m43_unpooling():
    y, index = F.max_pool2d(X, 2, return_indices=True)
    back = F.max_unpool2d(y, index, 2, output_size=(5, 5))
    wanted = np.zeros((5, 5))
    wanted[1, 1], wanted[1, 3], wanted[3, 1], wanted[3, 3] = 7, 9, 17, 19
    same(back, wanted)
    with pytest.raises(ValueError, match="indices holds 16 at position 2, expected 0 to 15"):
        F.max_unpool2d(y, index, 2)
    twice = F.max_unpool1d(np.array([[[1.0, 2]]]), [[[3, 3]]], 2)
    same(twice, [0, 0, 0, 2])
    same(F.max_unpool1d_backward(np.arange(4.0)[None, None], np.ones((1, 1, 2)), [[[3, 3]]], 2).x, [0, 3])


def test_lp_and_adaptive_pools():
    near(
        F.lp_pool2d(X, 2, ceil_mode=True),
        [[9.486832981, 13.038404810, 15.811388301], [28.460498942, 32.403703492, 35.355339059], [43.011626335, 47.010637094, 50]],
    )
    line = np.arange(5.0)[None, None]
    near(F.adaptive_avg_pool1d(line, 3), [0.5, 2, 3.5])
    same(F.adaptive_max_pool1d(line, 3), [1, 3, 4])
    near(F.adaptive_avg_pool1d(np.arange(3.0)[None, None], 5), [0, 0.5, 1, 1.5, 2])
    same(F.global_avg_pool(X), 13)
    same(F.global_max_pool(X), 25)
    assert F.global_avg_pool(X).shape == (1, 1, 1, 1)


def test_interpolation():
    near(
        F.interpolate(Q, size=4, mode="bilinear"), [[1, 1.25, 1.75, 2], [1.5, 1.75, 2.25, 2.5], [2.5, 2.75, 3.25, 3.5], [3, 3.25, 3.75, 4]]
    )
    near(
        F.interpolate(Q, size=4, mode="bilinear", align_corners=True),
        [[1, 4 / 3, 5 / 3, 2], [5 / 3, 2, 7 / 3, 8 / 3], [7 / 3, 8 / 3, 3, 10 / 3], [3, 10 / 3, 11 / 3, 4]],
    )
    near(
        F.interpolate(Q, size=4, mode="bicubic"),
        [
            [0.68359375, 1.015625, 1.5625, 1.89453125],
            [1.34765625, 1.6796875, 2.2265625, 2.55859375],
            [2.44140625, 2.7734375, 3.3203125, 3.65234375],
            [3.10546875, 3.4375, 3.984375, 4.31640625],
        ],
    )
    line = np.arange(5.0)[None, None]
    near(F.interpolate(line, scale_factor=1.5, mode="linear"), [0, 1 / 2, 7 / 6, 11 / 6, 5 / 2, 19 / 6, 23 / 6])
    near(F.interpolate(line, size=7, mode="linear"), [0, 4 / 7, 9 / 7, 2, 19 / 7, 24 / 7, 4])
    same(F.interpolate(Q, size=3), [[1, 1, 2], [1, 1, 2], [3, 3, 4]])
    two = np.array([[[1.0, 2]]])
    near(F.interpolate_backward(np.arange(1.0, 5)[None, None], two, size=4, mode="linear").x, [3.25, 6.75])
    with pytest.raises(ValueError, match="expected one of them"):
        F.interpolate(Q)
    with pytest.raises(ValueError, match="align_corners is True, expected False with mode 'nearest'"):
        F.interpolate(Q, size=2, align_corners=True)


def test_pixel_shuffle():
    x = np.arange(8.0).reshape(1, 8, 1, 1)
    same(F.pixel_shuffle(x, 2)[0], [[[0, 1], [2, 3]], [[4, 5], [6, 7]]])
    same(F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2), x)
