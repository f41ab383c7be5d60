"""Attention: every query's mean of values, weighted by how well its keys fit."""

import numpy as np

from cnnpy import _core
from cnnpy.autograd import operation
from cnnpy.functional._pair import select
from cnnpy.functional.array import _to_shape

__all__ = [
    "additive_attention",
    "additive_attention_backward",
    "multi_head_attention",
    "multi_head_attention_backward",
    "scaled_dot_product_attention",
    "scaled_dot_product_attention_backward",
]


def _mask(mask):
    """A bool mask as one that is added: 0 to attend, -inf not to. Others as they are."""
    if mask is None or isinstance(mask, np.ma.MaskedArray):
        return mask
    try:
        array = np.asarray(mask)
    except Exception:  # the core says what it is
        return mask
    return np.where(array, np.float32(0), np.float32(-np.inf)) if array.dtype == bool else mask


def _output_gradient(function, dy):
    """dy of the output; returned weights carry no gradient."""
    if isinstance(dy, tuple):
        if dy[1] is not None:
            raise RuntimeError(f"{function}: the returned weights carry no gradient; compute what depends on them from q, k and v")
        return dy[0]
    return dy


def _check_gradient(function, dy, shape):
    given = _core.shape_of(function, dy, "dy")
    if given != shape:
        raise ValueError(f"{function}: dy has shape {given}, expected {shape}")


def _mask_gradient(scores, mask):
    """Of an added mask: summed over the axes along which it was broadcast. A bool mask has none."""
    return None if scores is None or np.asarray(mask).dtype.kind != "f" else _to_shape(scores, mask)


@operation("q k v mask?", caches=True)
def scaled_dot_product_attention(q, k, v, mask=None, *, is_causal=False, scale=None, return_weights=False, return_cache=False):
    """Attention by inner products: ``softmax(scale q k' + mask) v``.

    Parameters
    ----------
    q : array_like, shape (..., L, E)
        Queries.
    k : array_like, shape (..., S, E)
        Keys, one for every value.
    v : array_like, shape (..., S, W)
    mask : array_like that broadcasts to (..., L, S), optional
        bool: True where the query may attend to the key; real: added to the scores.
    is_causal : bool
        Query i sees the keys j <= i.
    scale : float, optional
        ``1 / sqrt(E)`` by default.
    return_weights : bool
        Return ``(y, weights)``, weights (..., L, S), which carry no gradient. Only then are all of them held at once.
    return_cache : bool

    Returns
    -------
    ndarray, shape (..., L, W)

    Raises
    ------
    ValueError
        Leading axes, keys or features that do not fit, a mask that does not broadcast.

    Notes
    -----
    ``S = scale q k' + mask``, ``A`` the softmax of its rows, ``y = A v``. A row whose keys are all masked has weights and output 0.

    References
    ----------
    A. Vaswani et al., Attention is all you need, 2017; T. Dao et al., FlashAttention, 2022 (blocks of keys).

    Examples
    --------
    >>> import numpy as np, cnnpy.functional as F
    >>> eye = np.eye(2)
    >>> F.scaled_dot_product_attention(eye, eye, [[1.0, 2.0], [3.0, 4.0]]).round(6)
    array([[1.660477, 2.660477],
           [2.339523, 3.339523]])
    """
    function = "scaled_dot_product_attention"
    y, log_sum, weights = _core.attention_forward(function, q, k, v, _mask(mask), 0, is_causal, scale, return_cache, return_weights)
    result = (y, weights) if return_weights else y
    return (result, (y, log_sum)) if return_cache else result


@scaled_dot_product_attention.backward
def scaled_dot_product_attention_backward(
    dy, q, k, v, mask=None, *, is_causal=False, scale=None, return_weights=False, cache=None, needs=None
):
    """Gradients of :func:`scaled_dot_product_attention`; of a mask only if it is real.

    ``dv = A' dy``, ``dA = dy v'``, ``dS = A (dA - rowsum(dA A))``, ``dq = scale dS k``, ``dk = scale dS' q``, dmask is dS summed over the axes along
    which mask was broadcast.
    """
    function, op = "scaled_dot_product_attention_backward", scaled_dot_product_attention.operation
    wanted = select(function, op.Gradients, needs)
    dy = _output_gradient(function, dy)
    added = _mask(mask)
    if mask is None or added is not mask:
        wanted &= 7
    if cache is None:
        cache = _core.attention_forward(function, q, k, v, added, 0, is_causal, scale, True, False)[:2]
    *found, scores = _core.attention_backward(function, q, k, v, added, 0, is_causal, scale, dy, *cache, wanted)
    return op.Gradients(*found, _mask_gradient(scores, mask))


def _heads(function, num_heads):
    if isinstance(num_heads, (bool, np.bool_)) or not isinstance(num_heads, (int, np.integer)):
        raise TypeError(f"{function}: num_heads is {type(num_heads).__name__}, expected an int")
    if num_heads < 1:
        raise ValueError(f"{function}: num_heads is {num_heads}, expected at least 1")
    return int(num_heads)


def _biases(function, biases):
    if biases is None:
        return (None,) * 4
    if not isinstance(biases, (tuple, list)) or len(biases) != 4:
        raise TypeError(f"{function}: biases is {type(biases).__name__}, expected a tuple (b_q, b_k, b_v, b_o)")
    return biases


def _linear(function, names, x, weight, bias):
    """A projection; errors name the caller's arrays."""
    shapes = [_core.shape_of(function, a, n) for a, n in zip((x, weight), names, strict=False)]
    if len(shapes[0]) != 3:
        raise ValueError(f"{function}: {names[0]} has shape {shapes[0]}, expected (N, length, features)")
    if len(shapes[1]) != 2 or shapes[1][1] != shapes[0][2]:
        raise ValueError(
            f"{function}: {names[1]} has shape {shapes[1]}, expected (out, {shapes[0][2]}) because {names[0]} has shape {shapes[0]}"
        )
    if bias is not None and _core.shape_of(function, bias, names[2]) != shapes[1][:1]:
        raise ValueError(f"{function}: {names[2]} has shape {_core.shape_of(function, bias)}, expected {shapes[1][:1]}")
    return _core.linear_forward(x, weight, bias, None)


@operation("q k v w_q w_k w_v w_o biases[]? mask?", caches=True)
def multi_head_attention(
    q, k, v, w_q, w_k, w_v, w_o, biases=None, mask=None, *, num_heads, is_causal=False, return_weights=False, return_cache=False
):
    """Attention in several heads, each on its own part of the projected features.

    Parameters
    ----------
    q : array_like, shape (N, L, D_q)
    k, v : array_like, shapes (N, S, D_k) and (N, S, D_v)
    w_q, w_k : array_like, shapes (E, D_q) and (E, D_k)
    w_v : array_like, shape (V, D_v)
    w_o : array_like, shape (D_out, V)
    biases : tuple (b_q, b_k, b_v, b_o) of array_like or None, shapes (E,), (E,), (V,), (D_out,), optional
    mask : array_like that broadcasts to (N, num_heads, L, S), optional
        bool: True to attend (PyTorch's module means the opposite); real: added.
    num_heads : int
        Divides E and V.
    is_causal : bool
    return_weights : bool
        Return ``(y, weights)``, weights (N, num_heads, L, S), a head each, not averaged.
    return_cache : bool

    Returns
    -------
    ndarray, shape (N, L, D_out)

    Notes
    -----
    ``q w_q' + b_q`` and so on, cut into num_heads blocks of consecutive columns, :func:`scaled_dot_product_attention` of each, joined, times
    ``w_o'`` plus b_o.

    References
    ----------
    A. Vaswani et al., Attention is all you need, 2017, section 3.2.2.
    """
    function = "multi_head_attention"
    heads, given = _heads(function, num_heads), _biases(function, biases)
    names = (("q", "w_q", "b_q"), ("k", "w_k", "b_k"), ("v", "w_v", "b_v"))
    inputs = [_linear(function, n, x, w, b) for n, x, w, b in zip(names, (q, k, v), (w_q, w_k, w_v), given, strict=False)]
    y, log_sum, weights = _core.attention_forward(function, *inputs, _mask(mask), heads, is_causal, None, return_cache, return_weights)
    out = _linear(function, ("the joined heads", "w_o", "b_o"), y, w_o, given[3])
    result = (out, weights) if return_weights else out
    return (result, (*inputs, y, log_sum)) if return_cache else result


@multi_head_attention.backward
def multi_head_attention_backward(
    dy, q, k, v, w_q, w_k, w_v, w_o, biases=None, mask=None, *, num_heads, is_causal=False, return_weights=False, cache=None, needs=None
):
    """Gradients of :func:`multi_head_attention`: those of its last projection, of the attention of every head, of the three projections."""
    function, op = "multi_head_attention_backward", multi_head_attention.operation
    wanted, given = select(function, op.Gradients, needs), _biases(function, biases)
    heads, dy, added = _heads(function, num_heads), _output_gradient(function, dy), _mask(mask)
    if cache is None:
        cache = multi_head_attention.operation.forward(
            q, k, v, w_q, w_k, w_v, w_o, biases, mask, num_heads=heads, is_causal=is_causal, return_cache=True
        )[1]
    *inputs, y, log_sum = cache
    _check_gradient(function, dy, (*y.shape[:2], _core.shape_of(function, w_o, "w_o")[0]))
    field = {n: 1 << i for i, n in enumerate(op.Gradients._fields)}
    with_mask = mask is not None and added is mask and bool(wanted & field["mask"])
    last = 7 if wanted & (field["w_o"] | field["biases"]) else 1
    d_joined, dw_o, db_o = _core.linear_backward(dy, y, w_o, given[3], last)
    *d_inputs, scores = _core.attention_backward(
        function, *inputs, added, heads, is_causal, None, d_joined, y, log_sum, 15 if with_mask else 7
    )
    found: dict = {"w_o": dw_o, "mask": _mask_gradient(scores, mask) if with_mask else None}
    db = [None, None, None, db_o]
    for i, (name, x, w) in enumerate((("q", q, w_q), ("k", k, w_k), ("v", v, w_v))):
        which = (1 if wanted & field[name] else 0) | (6 if wanted & (field[f"w_{name}"] | field["biases"]) else 0)
        if which:
            found[name], found[f"w_{name}"], db[i] = _core.linear_backward(d_inputs[i], x, w, given[i], which)
    found["biases"] = None if biases is None else tuple(None if b is None else g for b, g in zip(biases, db, strict=True))
    return op.Gradients(*(found.get(n) if wanted & field[n] else None for n in op.Gradients._fields))


def _additive(function, q, k, v, w_q, w_k, w_v, mask):
    """The projections, the weights and the output."""
    uq, uk = _linear(function, ("q", "w_q", ""), q, w_q, None), _linear(function, ("k", "w_k", ""), k, w_k, None)
    scores = _core.additive_scores_forward(function, uq, uk, w_v)
    shape = _core.shape_of(function, v, "v")
    if len(shape) != 3 or shape[:2] != (scores.shape[0], scores.shape[2]):
        raise ValueError(f"{function}: v has shape {shape}, expected ({scores.shape[0]}, {scores.shape[2]}, W), one value a key")
    added = _mask(mask)
    if added is not None:
        broadcast = _core.shape_of(function, added, "mask")
        if len(broadcast) > 3 or any(n not in (1, m) for n, m in zip(broadcast[::-1], scores.shape[::-1], strict=False)):
            raise ValueError(f"{function}: mask has shape {broadcast}, expected one that broadcasts to {scores.shape}")
        scores = scores + np.asarray(added)
    weights = _core.softmax_forward(scores, -1)
    if added is not None and scores.size:
        masked = np.isneginf(scores).all(axis=-1, keepdims=True)
        weights = np.where(masked, weights.dtype.type(0), weights)
    return uq, uk, weights, _core.matmul(weights, v)


@operation("q k v w_q w_k w_v mask?", caches=True)
def additive_attention(q, k, v, w_q, w_k, w_v, mask=None, *, return_weights=False, return_cache=False):
    """Attention by a small network: the score of query i and key j is ``w_v . tanh(w_q q_i + w_k k_j)``.

    Parameters
    ----------
    q : array_like, shape (N, L, D_q)
    k : array_like, shape (N, S, D_k)
    v : array_like, shape (N, S, W)
    w_q, w_k : array_like, shapes (H, D_q) and (H, D_k)
    w_v : array_like, shape (H,)
        The scoring vector.
    mask : array_like that broadcasts to (N, L, S), optional
        bool: True to attend; real: added to the scores.
    return_weights : bool
        Return ``(y, weights)``, weights (N, L, S), which carry no gradient.
    return_cache : bool

    Returns
    -------
    ndarray, shape (N, L, W)

    Notes
    -----
    The weights are held, N L S numbers; the N L S H values of tanh never are.

    References
    ----------
    D. Bahdanau, K. Cho, Y. Bengio, Neural machine translation by jointly learning to align and translate, 2015.
    """
    uq, uk, weights, y = _additive("additive_attention", q, k, v, w_q, w_k, w_v, mask)
    result = (y, weights) if return_weights else y
    return (result, (uq, uk, weights)) if return_cache else result


@additive_attention.backward
def additive_attention_backward(dy, q, k, v, w_q, w_k, w_v, mask=None, *, return_weights=False, cache=None, needs=None):
    """Gradients of :func:`additive_attention`; of a mask only if it is real.

    With U the tanh and dS as in :func:`scaled_dot_product_attention_backward`: ``dw_v = sum dS_ij U_ij``, ``T_ij = dS_ij w_v (1 - U_ij^2)``, ``dq_i =
    w_q' sum_j T_ij``, ``dk_j = w_k' sum_i T_ij``, ``dw_q = sum T_ij q_i'``, ``dw_k = sum T_ij k_j'``.
    """
    function, op = "additive_attention_backward", additive_attention.operation
    wanted, dy = select(function, op.Gradients, needs), _output_gradient(function, dy)
    if cache is None:
        cache = _additive(function, q, k, v, w_q, w_k, w_v, mask)[:3]
    uq, uk, weights = cache
    _check_gradient(function, dy, (*weights.shape[:2], _core.shape_of(function, v, "v")[-1]))
    dy = np.asarray(dy)
    found: dict = {"v": _core.matmul(weights.swapaxes(1, 2), dy)}
    d_scores = _core.softmax_backward(_core.matmul(dy, np.asarray(v).swapaxes(1, 2)), weights, -1)
    if mask is not None:
        found["mask"] = _mask_gradient(d_scores, mask) if _mask(mask) is mask else None
    duq, duk, found["w_v"] = _core.additive_scores_backward(function, uq, uk, w_v, d_scores)
    found["q"], found["w_q"], _ = _core.linear_backward(duq, q, w_q, None, 3)
    found["k"], found["w_k"], _ = _core.linear_backward(duk, k, w_k, None, 3)
    return op.Gradients(*(found.get(n) if wanted >> i & 1 else None for i, n in enumerate(op.Gradients._fields)))
