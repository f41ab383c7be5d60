import numpy as np
import pytest

import cnnpy
from cnnpy import Tensor
from cnnpy import functional as F


def test_arithmetic_and_broadcasting():
    a, b = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True), Tensor([1.0, 2, 4], requires_grad=True)
    y = ((a * b - 3) / b + a @ Tensor(np.eye(3)) ** 2).mean()
    y.backward()
    np.testing.assert_allclose(a.grad, np.full((2, 3), 2 / 6))
    np.testing.assert_allclose(b.grad, 2 * 3 / np.array([1.0, 4, 16]) / 6)


def test_a_value_used_twice_accumulates():
    x = Tensor([2.0, 3.0], requires_grad=True)
    y = x * x + x
    (y * y).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * (x.data**2 + x.data) * (2 * x.data + 1))
    (x * 1).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * (x.data**2 + x.data) * (2 * x.data + 1) + 1)


def test_shapes_and_joins():
    x = Tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
    y = cnnpy.concatenate([x[0:2], x.flip(axis=0)[1:2]]).reshape(2, 6).transpose().max(axis=1)
    (cnnpy.stack([y, y * 2]).sum() + cnnpy.where([[True], [False], [True]], x, 0.0).sum() + cnnpy.maximum(x, 5.0).sum()).backward()
    wanted = np.zeros((3, 4))
    flat = np.concatenate([x.data[0:2], x.data[::-1][1:2]]).reshape(2, 6)
    for row in range(6):
        value = flat[np.argmax(flat[:, row]), row]
        wanted[np.unravel_index(int(value), (3, 4))] += 3
    wanted[[0, 2]] += 1
    wanted += x.data >= 5
    np.testing.assert_allclose(x.grad, wanted)


def test_no_grad_and_detach():
    x = Tensor([1.0], requires_grad=True)
    with cnnpy.no_grad():
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad and not x.detach().requires_grad
    with pytest.raises(RuntimeError, match="no gradient was asked for"):
        Tensor([1.0]).backward()


def test_numpy_defers():
    x = Tensor([1.0, 2.0])
    assert isinstance(np.ones(2) + x, Tensor) and isinstance(np.float64(2) * x, Tensor)
    np.testing.assert_array_equal(np.asarray(x), [1, 2])
    with pytest.raises(RuntimeError, match="detach"):
        np.asarray(Tensor([1.0], requires_grad=True))


def test_backward_needs_one_element_or_a_gradient():
    x = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(ValueError, match=r"shape \(3,\), expected one element"):
        (x * 2).backward()
    (x * 2).backward([1.0, 2, 3])
    np.testing.assert_array_equal(x.grad, [2, 4, 6])
    with pytest.raises(ValueError, match="grad has shape"):
        (x * 2).backward(np.ones(4))


def test_changing_recorded_data_raises():
    w = Tensor(np.ones((1, 1, 3, 3)), requires_grad=True)
    y = F.conv2d(np.ones((1, 1, 5, 5)), w).sum()
    with pytest.raises(ValueError, match="read-only"):
        w.data[0] = 2
    w[0] = 2.0
    with pytest.raises(RuntimeError, match="conv2d: weight was changed after it was recorded"):
        y.backward()
    z = F.conv2d(np.ones((1, 1, 5, 5)), w).sum()
    z.backward()
    w.data[0] = 3.0
    with pytest.raises(RuntimeError, match="released"):
        z.backward()


def test_the_tape_is_the_registered_pairs():
    x = Tensor(np.ones((1, 1, 6, 6)), requires_grad=True)
    w = Tensor(np.ones((2, 1, 3, 3)), requires_grad=True)
    y = F.max_pool2d(F.relu(F.conv2d(x, w, padding=1)), 2).sum()
    assert y.backward_program().split("\n") == [
        "dx = sum_backward(dy(), x(1, 2, 3, 3))",
        "dx = max_pool2d_backward(dy(1, 2, 3, 3), x(1, 2, 6, 6))",
        "dx = relu_backward(dy(1, 2, 6, 6), x(1, 2, 6, 6))",
        "dx, dweight = conv2d_backward(dy(1, 2, 6, 6), x(1, 1, 6, 6), weight(2, 1, 3, 3))",
    ]


def test_indices_are_not_tensors():
    y, index = F.max_pool2d(Tensor(np.arange(16.0).reshape(1, 1, 4, 4), requires_grad=True), 2, return_indices=True)
    assert isinstance(y, Tensor) and isinstance(index, np.ndarray)
    y.sum().backward()


def test_keyword_arrays_and_out():
    x, w, b = (Tensor(np.ones(s), requires_grad=True) for s in ((1, 1, 4, 4), (1, 1, 3, 3), (1,)))
    F.conv2d(x, weight=w, bias=b).sum().backward()
    assert b.grad == 4 and w.grad.shape == (1, 1, 3, 3)
    with pytest.raises(TypeError, match="out= takes no part in recording"):
        F.relu(x, out=np.empty((1, 1, 4, 4)))


def test_a_result_of_a_large_graph_needs_no_recursion():
    x = Tensor([1.0], requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + 0.0
    y.sum().backward()
    assert x.grad == 1


def test_bad_data():
    with pytest.raises(TypeError, match="Tensor: data has dtype complex128"):
        Tensor([1j])
    assert Tensor([1, 2]).dtype == np.float64 and Tensor(np.float16(1)).dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_python_number_takes_the_dtype_of_what_it_meets(dtype):
    x = Tensor(np.ones(3, dtype), requires_grad=True)
    results = [
        x - 1.5,
        1.5 - x,
        x * 2,
        2 / x,
        cnnpy.maximum(x, 0.5),
        cnnpy.where(np.ones(3) > 0, x, 0.0),
        cnnpy.where(np.ones(3) > 0, 0.0, x),
    ]
    assert [r.dtype for r in results] == [np.dtype(dtype)] * 7
    sum((r.sum() for r in results), Tensor(np.zeros((), dtype))).backward()
    assert x.grad.dtype == dtype and x.grad.tolist() == [1 - 1 + 2 - 2 + 1 + 1 + 0] * 3


def test_the_tape_keeps_only_numbers_that_backward_reads():
    """conv -> batch norm -> ReLU -> + : the norm's result and the sum's operands go before backward, and the gradients are right all the same."""
    import gc
    import weakref

    from cnnpy import functional as F

    rng = np.random.default_rng(5)
    x, w, other = (rng.standard_normal(s) for s in ((2, 3, 6, 6), (4, 3, 3, 3), (2, 4, 6, 6)))

    def run(keep):
        weight, shift = cnnpy.Tensor(w, requires_grad=True), cnnpy.Tensor(other, requires_grad=True)
        conv = F.conv2d(cnnpy.Tensor(x), weight, padding=1)
        norm = F.batch_norm(conv, None, None, training=True)
        active = F.relu(norm)
        scaled = active + shift
        loss = (F.tanh(scaled) * 2.0).sum()
        kept = [norm, scaled] if keep else []
        gone = [weakref.ref(t._data) for t in (norm, scaled)]
        needed = [weakref.ref(t._data) for t in (conv, active)]
        del norm, scaled, conv, active
        gc.collect()
        assert all((r() is None) is not keep for r in gone) and all(r() is not None for r in needed)
        loss.backward()
        del kept
        return weight.grad, shift.grad

    for a, b in zip(run(False), run(True), strict=True):
        np.testing.assert_array_equal(a, b)
    y = F.relu(F.batch_norm(F.conv2d(x, w, padding=1), None, None, training=True))
    total = 2.0 * (1 - np.tanh(y + other) ** 2)
    np.testing.assert_allclose(run(False)[1], total, rtol=1e-12)


def test_what_only_lent_its_shape_may_be_changed_before_backward():
    x = cnnpy.Tensor(np.array([1.0, -2.0, 3.0]), requires_grad=True)
    y = x * 1.0
    z = (y + 5.0).sum()
    y.data = np.zeros(3)
    z.backward()
    np.testing.assert_array_equal(x.grad, [1.0, 1.0, 1.0])
