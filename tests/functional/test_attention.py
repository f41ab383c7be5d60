"""Attention: values worked out by hand, masks, blocks of keys, errors; and PyTorch's where it is installed."""

import numpy as np
import pytest

import cnnpy
from cnnpy import Tensor
from cnnpy import functional as F
from tests.reference.attention import dot, dot_backward

EYE, VALUES = np.eye(2), np.array([[1.0, 2.0], [3.0, 4.0]])


def test_dot_by_hand():
    y, weights = F.scaled_dot_product_attention(EYE, EYE, VALUES, return_weights=True)
    np.testing.assert_allclose(weights[0], [0.669761549, 0.330238451], atol=5e-10)
    np.testing.assert_allclose(y, [[1.660476901, 2.660476901], [2.339523099, 3.339523099]], atol=5e-10)
    np.testing.assert_allclose(F.scaled_dot_product_attention(EYE, EYE, VALUES, is_causal=True)[0], [1, 2], atol=1e-15)
    dy = np.zeros((2, 2))
    dy[0, 0] = 1
    g = F.scaled_dot_product_attention_backward(dy, EYE, EYE, VALUES)
    np.testing.assert_allclose(g.q[0], [-0.312797193, 0.312797193], atol=5e-10)
    np.testing.assert_allclose(g.k[:, 0], [-0.312797193, 0.312797193], atol=5e-10)
    np.testing.assert_allclose(g.v[:, 0], [0.669761549, 0.330238451], atol=5e-10)


def test_additive_by_hand():
    one = np.ones((1, 1))
    y, weights = F.additive_attention(one[None], [[[0.0], [1.0]]], [[[1.0], [3.0]]], one, one, [1.0], return_weights=True)
    np.testing.assert_allclose(weights.ravel(), [0.449563763, 0.550436237], atol=5e-10)
    np.testing.assert_allclose(y.ravel(), [2.100872474], atol=5e-10)


def test_a_row_without_keys_is_zero(rng):
    q, k, v = (rng.normal(size=(3, n, 4)) for n in (5, 6, 6))
    mask = np.ones((3, 5, 6), bool)
    mask[1, 2] = False
    for given in (mask, np.where(mask, 0.0, -np.inf)):
        y, weights = F.scaled_dot_product_attention(q, k, v, given, return_weights=True)
        assert not y[1, 2].any() and not weights[1, 2].any() and np.isfinite(y).all()
        assert np.allclose(np.delete(weights.reshape(15, 6), 7, 0).sum(axis=1), 1)
        g = F.scaled_dot_product_attention_backward(np.ones_like(y), q, k, v, given)
        assert all(np.isfinite(a).all() for a in (g.q, g.k, g.v)) and not g.q[1, 2].any()
    y = F.additive_attention(q, k, v, np.ones((3, 4)), np.ones((3, 4)), np.ones(3), mask)
    assert not y[1, 2].any() and np.isfinite(y).all()
    later = F.scaled_dot_product_attention(q[:1], k[:1], v[:1], np.array([[False] * 4 + [True] * 2]))
    np.testing.assert_allclose(later, F.scaled_dot_product_attention(q[:1], k[:1, 4:], v[:1, 4:]), atol=1e-14)


@pytest.mark.parametrize("lead", [(1,), (9,)])
@pytest.mark.parametrize("causal", [False, True])
def test_more_keys_than_a_block(lead, causal, isa, rng):
    """Several blocks of keys and of rows, few heads and many: the running softmax against the plain one."""
    q, k, v = (rng.normal(size=(*lead, n, 5)) for n in (450, 530, 530))
    mask = np.where(rng.integers(0, 4, (450, 530)) > 0, rng.normal(size=(450, 530)), -np.inf)
    dy = rng.normal(size=(*lead, 450, 5))
    y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
    np.testing.assert_allclose(y, dot(q, k, v, mask, is_causal=causal), atol=1e-12)
    g, wanted = (
        F.scaled_dot_product_attention_backward(dy, q, k, v, mask, is_causal=causal),
        dot_backward(dy, q, k, v, mask, is_causal=causal),
    )
    for a, b in zip(g, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)


def test_large_scores_do_not_overflow(rng):
    q = np.full((1, 2, 4), 100, np.float32)
    k = np.stack([np.full(4, s, np.float32) for s in (-50, 49, 50)])[None]
    y = F.scaled_dot_product_attention(q, k, np.eye(3, dtype=np.float32)[None])
    assert np.array_equal(y[0, 0], [0, 0, 1])


def test_long_sequences_do_not_hold_all_weights():
    length = 6000
    q = np.ones((1, length, 8), np.float32)
    cnnpy.functional._core.memory_peak()
    y = F.scaled_dot_product_attention(q, q, q)
    assert np.allclose(y, 1, atol=1e-5)
    assert cnnpy.functional._core.memory_peak() < length * length  # a quarter of the bytes of L x L weights


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_bits(threads):
    rng, before = np.random.default_rng(5), cnnpy.num_threads()
    q, k, v = (rng.normal(size=(3, 300, 40)).astype(np.float32) for _ in range(3))
    try:
        cnnpy.set_num_threads(1)
        y = F.scaled_dot_product_attention(q, k, v)
        wanted = [a.tobytes() for a in (y, *F.scaled_dot_product_attention_backward(y, q, k, v)) if a is not None]
        cnnpy.set_num_threads(threads)
        got = [a.tobytes() for a in (y, *F.scaled_dot_product_attention_backward(y, q, k, v)) if a is not None]
        assert F.scaled_dot_product_attention(q, k, v).tobytes() == y.tobytes() and got == wanted
    finally:
        cnnpy.set_num_threads(before)


def test_returned_weights_carry_no_gradient(rng):
    q = Tensor(rng.normal(size=(1, 2, 3)), True)
    y, weights = F.scaled_dot_product_attention(q, q, q, return_weights=True)
    y.sum().backward()
    assert q.grad is not None
    y, weights = F.scaled_dot_product_attention(q, q, q, return_weights=True)
    with pytest.raises(RuntimeError, match="the returned weights carry no gradient"):
        (y.sum() + weights.sum()).backward()


def test_bad_arguments_are_refused_by_name(rng):
    q, k, v = (rng.normal(size=(2, n, 4)) for n in (5, 6, 6))
    for args, options, error, text in [
        ((q, k[:1], v), {}, ValueError, r"k has shape \(1, 6, 4\), expected \(..., S, 4\) with the leading axes of q"),
        ((q, k[..., :2], v), {}, ValueError, "k has shape"),
        ((q, k, v[:, :5]), {}, ValueError, r"v has shape \(2, 5, 4\), expected \(..., 6, W\)"),
        ((q, k, v, np.ones((3, 6))), {}, ValueError, r"mask has shape \(3, 6\), expected one that broadcasts to \(2, 5, 6\)"),
        ((q, k, v, np.ones((2, 2, 5, 6))), {}, ValueError, "mask has shape"),
        ((q[0, 0], k, v), {}, ValueError, r"q has shape \(4,\), expected \(..., L, E\)"),
        ((q, k, v), {"scale": "1"}, TypeError, "scale is str"),
        ((q, k, v), {"is_causal": 1}, TypeError, "is_causal is int"),
        ((q, None, v), {}, TypeError, "k is None"),
        ((q.astype(complex), k, v), {}, TypeError, "q has dtype complex128"),
        ((q[..., :0], k[..., :0], v), {}, ValueError, "q has shape"),
    ]:
        with pytest.raises(error, match=f"^scaled_dot_product_attention: .*{text}"):
            F.scaled_dot_product_attention(*args, **options)
        with pytest.raises(error, match=f"^scaled_dot_product_attention_backward: .*{text}"):
            F.scaled_dot_product_attention_backward(q, *args, **options)
    w = np.ones((4, 4))
    for args, options, error, text in [
        ((q, k, v, w, w, w, w), {"num_heads": 3}, ValueError, "expected features that 3 heads divide"),
        ((q, k, v, w, w, w, w), {"num_heads": 0}, ValueError, "num_heads is 0"),
        ((q, k, v, w, w, w, w), {"num_heads": 2.0}, TypeError, "num_heads is float"),
        ((q, k, v, w[:, :3], w, w, w), {"num_heads": 2}, ValueError, r"w_q has shape \(4, 3\), expected \(out, 4\)"),
        ((q, k, v, w, w, w, w[:, :3]), {"num_heads": 2}, ValueError, r"w_o has shape \(4, 3\)"),
        ((q, k, v, w, w, w, w, (None, w, None, None)), {"num_heads": 2}, ValueError, r"b_k has shape \(4, 4\), expected \(4,\)"),
        ((q, k, v, w, w, w, w, 5), {"num_heads": 2}, TypeError, "biases is int"),
        ((q[0], k, v, w, w, w, w), {"num_heads": 2}, ValueError, r"q has shape \(5, 4\), expected \(N, length, features\)"),
    ]:
        with pytest.raises(error, match=f"^multi_head_attention: .*{text}"):
            F.multi_head_attention(*args, **options)
    for args, error, text in [
        ((q, k, v, w, w, np.ones(3)), ValueError, r"w_v has shape \(3,\), expected \(4,\)"),
        ((q, k, v[:, :5], w, w, np.ones(4)), ValueError, r"v has shape \(2, 5, 4\), expected \(2, 6, W\)"),
        ((q, k, v, w, w[:3], np.ones(4)), ValueError, "after their projections"),
        (
            (q, k, v, w, w, np.ones(4), np.ones((2, 4, 6))),
            ValueError,
            r"mask has shape \(2, 4, 6\), expected one that broadcasts to \(2, 5, 6\)",
        ),
    ]:
        with pytest.raises(error, match=f"^additive_attention: .*{text}"):
            F.additive_attention(*args)


def test_against_pytorch(rng):
    torch = pytest.importorskip("torch", reason="it comes with the bench extra")
    from cnnpy import nn

    q, k, v = (rng.normal(size=(2, 3, n, 8)) for n in (70, 90, 90))
    tensors = [torch.tensor(a, requires_grad=True) for a in (q, k, v)]
    for options in ({}, {"is_causal": True}, {"scale": 0.3}):
        for t in tensors:
            t.grad = None
        wanted = torch.nn.functional.scaled_dot_product_attention(*tensors, **options)
        wanted.sum().backward()
        np.testing.assert_allclose(F.scaled_dot_product_attention(q, k, v, **options), wanted.detach(), atol=1e-12)
        g = F.scaled_dot_product_attention_backward(np.ones(wanted.shape), q, k, v, **options)
        for a, t in zip((g.q, g.k, g.v), tensors, strict=True):
            np.testing.assert_allclose(a, t.grad, atol=1e-12)
    for sizes in ({}, {"kdim": 5, "vdim": 6}):
        theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True, **sizes)
        ours = nn.MultiheadAttention(8, 2, **sizes)
        assert {n: tuple(t.shape) for n, t in theirs.state_dict().items()} == {n: a.shape for n, a in ours.state_dict().items()}
        ours.load_state_dict({n: t.numpy() for n, t in theirs.state_dict().items()})
        x, key, value = (
            rng.normal(size=(2, n, d)).astype(np.float32) for n, d in ((7, 8), (9, sizes.get("kdim", 8)), (9, sizes.get("vdim", 8)))
        )
        given = [torch.tensor(a) for a in (x, key, value)]
        blocked = np.zeros((7, 9), bool)
        blocked[:, 3] = True
        out, weights = theirs(*given, attn_mask=torch.tensor(blocked), average_attn_weights=False)
        y, a = ours(x, key, value, mask=~blocked, return_weights=True)
        np.testing.assert_allclose(y.data, out.detach(), atol=2e-6)
        np.testing.assert_allclose(a.data, weights.detach(), atol=1e-6)


@pytest.mark.parametrize("queries, keys", [(300, 517), (517, 300), (70, 64), (1, 40), (129, 1)])
def test_causal_blocks_see_what_the_mask_shows(queries, keys, isa, rng):
    """Keys that no row of a block sees are left out: the same sums as with a mask of -Inf, forward and in every gradient."""
    q, k, v = (rng.normal(size=(2, 3, n, 24)).astype(np.float32) for n in (queries, keys, keys))
    dy = rng.normal(size=(2, 3, queries, 24)).astype(np.float32)
    mask = np.where(np.arange(keys) <= np.arange(queries)[:, None], 0, -np.inf).astype(np.float32)
    assert np.array_equal(F.scaled_dot_product_attention(q, k, v, is_causal=True), F.scaled_dot_product_attention(q, k, v, mask))
    for got, wanted in zip(
        F.scaled_dot_product_attention_backward(dy, q, k, v, is_causal=True)[:3],
        F.scaled_dot_product_attention_backward(dy, q, k, v, mask)[:3],
        strict=True,
    ):
        assert np.array_equal(got, wanted)


def test_keys_behind_every_row_of_a_block_are_not_read(rng):
    """A key that is NaN spoils no row far before it."""
    q, k, v = (rng.normal(size=(1, 1, 600, 16)).astype(np.float32) for _ in range(3))
    k[..., 500:, :] = v[..., 500:, :] = np.nan
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert np.isfinite(y[..., :400, :]).all() and np.isnan(y[..., 500:, :]).all()
