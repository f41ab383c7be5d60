"""Every array argument in every memory layout gives the bits of a fresh C-ordered copy, on random reals."""

import numpy as np
import pytest

from cnnpy import _core
from tests.reliability.cases import CASES
from tests.reliability.flat import FLAT as OPERATIONS


def layouts(a, rng):
    """(name, the same values in another place or order)."""
    if a.ndim == 0:
        yield "as a number", a.item()
        return
    yield "fortran", np.asfortranarray(a)
    wide = np.zeros([2 * n for n in a.shape], a.dtype)
    wide[tuple(slice(None, None, 2) for _ in a.shape)] = a
    yield "every other element", wide[tuple(slice(None, None, 2) for _ in a.shape)]
    yield "reversed", np.ascontiguousarray(a[(slice(None, None, -1),) * a.ndim])[(slice(None, None, -1),) * a.ndim]
    raw = np.zeros(a.nbytes + 1, np.uint8)
    shifted = raw[1:].view(a.dtype).reshape(a.shape) if a.size else a
    if a.size:
        shifted[...] = a
    yield "unaligned", shifted
    yield "other byte order", a.astype(a.dtype.newbyteorder())
    frozen = a.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen
    room = rng.normal(size=[n + 3 for n in a.shape]).astype(a.dtype)
    inner = room[tuple(slice(1, 1 + n) for n in a.shape)]
    inner[...] = a
    yield "inside a larger array", inner
    if a.ndim >= 3:
        yield "channels last", np.ascontiguousarray(np.moveaxis(a, 1, -1)).transpose(0, a.ndim - 1, *range(1, a.ndim - 1))
    if a.ndim:
        yield "as a list", a.tolist() if a.dtype == np.float64 else a


def result_bytes(result):
    return [np.ascontiguousarray(r).tobytes() for r in (result if isinstance(result, (tuple, list)) else [result]) if r is not None]


@pytest.mark.parametrize("name", sorted(n for n in CASES if n not in ("concatenate", "stack")))
def test_layouts(name, rng):
    op = OPERATIONS[name]
    dtype = np.float64
    arrays, options = CASES[name](rng, dtype, integers=False)
    arrays = tuple(np.array(a, order="C") if isinstance(a, np.ndarray) else a for a in arrays)
    y = op.forward(*arrays, **options)
    dy = rng.normal(size=y.shape).astype(dtype)
    gradients = op.backward(dy, *arrays, **options)
    for i, a in enumerate(arrays):
        if not isinstance(a, np.ndarray) or a.dtype.kind != "f":
            continue
        for layout, other in layouts(a, rng):
            before = np.array(other).tobytes()
            given = (*arrays[:i], other, *arrays[i + 1 :])
            assert result_bytes(op.forward(*given, **options)) == result_bytes(y), (op.arrays[i], layout)
            assert result_bytes(op.backward(dy, *given, **options)) == result_bytes(gradients), (op.arrays[i], layout, "backward")
            assert np.array(other).tobytes() == before, "an input was changed"
    for layout, other in layouts(dy, rng):
        assert result_bytes(op.backward(other, *arrays, **options)) == result_bytes(gradients), ("dy", layout)


def test_broadcast_views_have_stride_zero():
    from cnnpy import functional as F

    x = np.broadcast_to(np.float32(2), (2, 3, 6, 6))
    w = np.ones((4, 3, 3, 3), np.float32)
    assert np.array_equal(F.conv2d(x, w), np.full((2, 4, 4, 4), 54, np.float32))


@pytest.mark.parametrize("name", ["conv2d", "relu", "sigmoid", "tanh", "linear"])
def test_out(name, rng):
    """out= takes the result whatever its strides and even where it overlaps an input."""
    op = OPERATIONS[name]
    arrays, options = {
        "conv2d": ((rng.normal(size=(2, 3, 6, 6)), rng.normal(size=(3, 3, 3, 3))), {"padding": 1}),
        "linear": ((rng.normal(size=(5, 4)), rng.normal(size=(4, 4))), {}),
    }.get(name, ((rng.normal(size=(4, 6)),), {}))
    arrays = tuple(a.astype(np.float32) for a in arrays)
    wanted = op.forward(*arrays, **options)
    for layout, out in [("fresh", np.empty_like(wanted)), *layouts(np.zeros_like(wanted), rng)]:
        if layout in ("read-only", "other byte order", "as a list", "unaligned"):
            continue
        assert op.forward(*arrays, **options, out=out) is out
        assert np.array_equal(out, wanted), layout
    same = arrays[0].copy()
    assert op.forward(same, *arrays[1:], **options, out=same) is same and np.array_equal(same, wanted)
    whole = np.zeros(wanted.size + 1, np.float32)
    source, target = whole[:-1].reshape(wanted.shape), whole[1:].reshape(wanted.shape)
    source[...] = arrays[0]
    op.forward(source, *arrays[1:], **options, out=target)
    assert np.array_equal(target, wanted)
    frozen = np.empty_like(wanted)
    frozen.flags.writeable = False
    for bad, error, text in [
        (np.empty((*wanted.shape, 1), np.float32), ValueError, "out has shape"),
        (np.empty(wanted.shape, np.float64), TypeError, "out has dtype float64"),
        (frozen, ValueError, "out is read-only"),
        (np.broadcast_to(np.zeros((), np.float32), wanted.shape), ValueError, "out"),
        ([0.0], TypeError, "out is list"),
    ]:
        with pytest.raises(error, match=text):
            op.forward(*arrays, **options, out=bad)


def test_channels_last_in_channels_last_out():
    from cnnpy import functional as F

    x = F.channels_last(np.ones((2, 5, 6, 7), np.float32))
    assert x.strides == (5 * 6 * 7 * 4, 4, 7 * 5 * 4, 5 * 4)
    for y in (F.conv2d(x, np.ones((8, 5, 3, 3), np.float32)), F.max_pool2d(x, 2), F.avg_pool2d(x, 2), F.relu(x), F.tanh(x)):
        _, c, h, w = y.shape
        assert y.strides == (c * h * w * 4, 4, w * c * 4, c * 4)
    assert F.conv2d(np.ones((2, 5, 6, 7), np.float32), np.ones((8, 5, 3, 3), np.float32)).flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(8, 64, 56, 56), (3, 40, 70, 33), (1, 64, 100, 99), (2, 5, 300, 301), (5, 1, 130, 130), (70000,), (3, 0, 4, 4)], ids=str
)
def test_copies_are_cut_along_any_axis(shape, dtype, rng):
    """Few images, or one axis: blocks of a copy are cut from the axes behind, into whole squares where memory is turned."""
    a = rng.normal(size=shape).astype(dtype)
    sources, targets = [a, a[::-1], np.repeat(a, 2, axis=-1)[..., ::2]], [np.zeros_like(a), np.zeros((3, *shape), dtype)[1]]
    if a.ndim == 4:
        last = np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        sources += [last, a[:, :, ::-1], np.concatenate([a, a], 1)[:, : shape[1]]]
        targets += [np.zeros_like(last), np.zeros((shape[0], 2 * shape[1], *shape[2:]), dtype)[:, ::2]]
    for source in sources:
        for target in targets:
            target[...] = 0
            _core.copy_to(target, source)
            np.testing.assert_array_equal(target, source)


def test_out_in_the_order_of_a_result_is_written_at_once(rng):
    """No array beside it: the memory limit forbids one."""
    import cnnpy
    from cnnpy import functional as F

    x, w = rng.normal(size=(2, 32, 80, 80)).astype(np.float32), rng.normal(size=(32, 32, 1, 1)).astype(np.float32)
    last = F.channels_last(x)
    wanted = [F.relu(x), F.conv2d(x, w), F.conv2d(last, w)]
    out = [np.empty_like(wanted[0]), np.empty_like(wanted[1]), F.channels_last(np.empty_like(wanted[2]))]
    cnnpy.set_memory_limit(1 << 20)
    try:
        F.relu(x, out=out[0])
        F.conv2d(x, w, out=out[1])
        F.conv2d(last, w, out=out[2])
        with pytest.raises(MemoryError, match="more than the memory limit"):
            F.relu(x, out=x)
    finally:
        cnnpy.set_memory_limit(None)
    assert all(np.array_equal(a, b) for a, b in zip(out, wanted, strict=True))
