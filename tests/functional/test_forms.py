"""Ways through kernels that common shapes do not take: each once, against the plain way."""

import numpy as np
import pytest

import cnnpy
from cnnpy import functional as F
from cnnpy import nn


def last(x):
    """The same array, channels last in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def misaligned(rng, shape, dtype):
    """Four reals behind the start of a line."""
    size = int(np.prod(shape))
    room = rng.standard_normal(size + 64 // np.dtype(dtype).itemsize + 4).astype(dtype)
    start = -room.ctypes.data % 64 // room.itemsize + 4
    return room[start : start + size].reshape(shape)


ALIASED = [
    ("avg_pool2d", {"kernel_size": 3, "stride": 1, "padding": 1}),
    ("max_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("lp_pool2d", {"kernel_size": 2}),
    ("adaptive_avg_pool2d", {"output_size": 3}),
    ("interpolate", {"scale_factor": 2, "mode": "bilinear"}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(32, 32), (8, 128), (64, 80), (4, 256)])  # planes of a multiple of 4,096 bytes: the sets of a cache
@pytest.mark.parametrize("channels", [16, 40])
@pytest.mark.parametrize(("name", "options"), ALIASED)
def test_planes_at_one_place_of_the_cache(name, options, channels, size, dtype, rng):
    x = misaligned(rng, (2, channels, *size), dtype)
    y = getattr(F, name)(x, **options)
    np.testing.assert_array_equal(y, getattr(F, name)(last(x), **options))
    dy = misaligned(rng, y.shape, dtype)
    backward = getattr(F, f"{name}_backward")
    np.testing.assert_array_equal(backward(dy, x, **options).x, backward(last(dy), last(x), **options).x)


@pytest.mark.parametrize("groups", [1, 16])
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (16, 256)])
@pytest.mark.parametrize(("window", "stride"), [(3, 1), (3, 2), (5, 1), (2, 2), (1, 1)])
def test_weight_gradients_from_planes_at_one_place(window, stride, size, groups, rng):
    x, w = misaligned(rng, (3, 16, *size), np.float32), rng.standard_normal((32, 16 // groups, window, window), np.float32)
    options = {"stride": stride, "padding": window // 2, "groups": groups}
    dy = misaligned(rng, F.conv2d(x, w, **options).shape, np.float32)
    for a, b in zip(F.conv2d_backward(dy, x, w, **options)[1:], F.conv2d_backward(last(dy), last(x), w, **options)[1:], strict=True):
        assert a is b is None or np.array_equal(a, b)


@pytest.mark.parametrize("shape", [(6, 14, 14), (3, 64, 64), (17, 32, 32), (40, 7, 7), (130, 3, 3), (5, 1, 300)])
def test_copies_between_memory_orders(shape, rng):
    x = misaligned(rng, (2, *shape), np.float32)
    y = np.empty_like(last(x))
    for source, target in (
        (x, y),
        (last(x), np.empty_like(x)),
        (x[:, :, ::2], y[:, :, ::2].copy()),
        (x.transpose(0, 3, 2, 1), np.empty((2, *shape[::-1]), np.float32)),
    ):
        cnnpy._core.copy_to(target, source)
        np.testing.assert_array_equal(target, source)


@pytest.mark.parametrize("bias", [-1.0, 1.0])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Conv2d(20, 20, 3, padding=1, groups=20),
        lambda: nn.Conv2d(32, 32, 3, stride=2, padding=1, groups=32),
        lambda: nn.Conv2d(20, 20, 5, padding=2, groups=20),
        lambda: nn.ConvTranspose2d(20, 20, 3, stride=2, groups=20),
        lambda: nn.ConvTranspose2d(20, 20, 1, stride=2, groups=20, output_padding=1),  # cells that no tap reaches
        lambda: nn.ConvTranspose2d(20, 8, 1, stride=3, output_padding=2),
        lambda: nn.ConvTranspose2d(6, 6, 2, stride=4, groups=3),
        lambda: nn.Conv2d(20, 4, 3, padding=4, dilation=3),
    ],
)
@pytest.mark.parametrize("order", [last, np.ascontiguousarray])
def test_convolutions_with_their_relu(layer, order, bias, rng):
    net = nn.Sequential(layer(), nn.ReLU()).eval()
    net[0].bias.data[...] = bias * np.arange(1, 1 + net[0].bias.data.size)
    x = order(rng.standard_normal((2, net[0].weight.data.shape[0] if isinstance(net[0], nn.ConvTranspose2d) else 20, 9, 9), np.float32))
    if x.shape[1] != net[0].in_channels:
        x = order(rng.standard_normal((2, net[0].in_channels, 9, 9), np.float32))
    with cnnpy.no_grad():
        wanted = np.asarray(net(x))
    np.testing.assert_allclose(np.asarray(cnnpy.compile(net)(x)), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "?"])
def test_programs_of_whole_numbers(dtype, rng):
    net = nn.Linear(12, 5).eval()
    x = rng.integers(0, 2, (3, 12)).astype(dtype)
    run = cnnpy.compile(net)
    for numbers in (x, x[::-1].copy()):
        with cnnpy.no_grad():
            np.testing.assert_allclose(np.asarray(run(numbers)), np.asarray(net(numbers)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("order", ["C", "F"])
def test_few_rows_with_weights_in_either_order(rows, order, rng):
    x, w = rng.standard_normal((rows, 48)).astype(np.float32), np.asarray(rng.standard_normal((24, 48)).astype(np.float32), order=order)
    dy = rng.standard_normal((rows, 24)).astype(np.float32)
    np.testing.assert_allclose(F.linear(x, w), x @ w.T, rtol=1e-4, atol=1e-4)
    gradients = F.linear_backward(dy, x, w)
    np.testing.assert_allclose(gradients.x, dy @ w, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gradients.weight, dy.T @ x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", [last, np.ascontiguousarray])
def test_dense_layers_written_as_transposed_convolutions(order, rng):
    x, w, b = (rng.standard_normal(s, np.float32) for s in ((1, 32, 4), (32, 24, 1), (24,)))
    y = F.conv_transpose1d(order(x), w, b)
    np.testing.assert_allclose(y, np.einsum("ncl,cko->nkl", x, w) + b[:, None], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", [last, np.ascontiguousarray])
def test_indices_of_another_call(order, rng):
    x, dy = order(rng.standard_normal((2, 20, 8, 8), np.float32)), order(rng.standard_normal((2, 20, 4, 4), np.float32))
    index = np.broadcast_to(np.arange(16)[::-1].reshape(4, 4) * 4, (2, 20, 4, 4)).copy()  # the last cells first
    dx = F.max_pool2d_backward(dy, x, 2, cache=index).x
    wanted = np.zeros((2, 20, 64), np.float32)
    np.put_along_axis(wanted, index.reshape(2, 20, 16), np.asarray(dy).reshape(2, 20, 16), 2)
    np.testing.assert_array_equal(dx.reshape(2, 20, 64), wanted)


@pytest.mark.parametrize("size", [(3, 3), (2, 5), (9, 2)])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 16, 3])
def test_images_narrower_than_a_vector(mode, size, channels, rng):
    x = rng.standard_normal((2, channels, *size))
    for to in ((7, 3), (4, 1), (2 * size[0], 2 * size[1]), (5, size[1])):
        y = F.interpolate(x, size=to, mode=mode)
        np.testing.assert_allclose(y, F.interpolate(last(x), size=to, mode=mode), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(F.interpolate(x.astype(np.float32), size=to, mode=mode), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("operator", [np.add, np.multiply, np.subtract, np.divide])
def test_arithmetic_of_odd_strides(operator, rng):
    a, b = rng.standard_normal((6, 40)), rng.standard_normal((6, 40)) + 3
    function = {np.add: F.array.add, np.multiply: F.array.multiply, np.subtract: F.array.subtract, np.divide: F.array.divide}[operator]
    for x, y in ((a.T, b.T), (a[:, ::2], b[:, ::2]), (a, b[:, :1]), (a[:1], b), (a[:, :1], b[:1]), (a[::-1], b), (a, b[:, ::-1])):
        np.testing.assert_allclose(function(x, y), operator(x, y), rtol=1e-12)
