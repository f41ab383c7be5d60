"""Attention layers."""

import numpy as np

from cnnpy import functional as F
from cnnpy.nn.init import fan_in_uniform, generator, xavier_uniform_
from cnnpy.nn.linear import Linear
from cnnpy.nn.module import Module, Parameter

__all__ = ["AdditiveAttention", "MultiheadAttention"]


class MultiheadAttention(Module):
    """:func:`cnnpy.multi_head_attention` with PyTorch's parameters: ``in_proj_weight`` (3 E, E), or ``q_proj_weight``, ``k_proj_weight``,
    ``v_proj_weight`` where keys or values have another width, ``in_proj_bias`` (3 E,), ``out_proj``; Xavier's uniform numbers, biases 0.

    Called as ``layer(q, k, v, mask=None, is_causal=False, return_weights=False)``; k is q and v is k unless given. A bool mask is True to attend.

    Parameters
    ----------
    embed_dim, num_heads : int
        Features of queries and outputs, and how many heads share them.
    bias : bool
    kdim, vdim : int, optional
        Features of keys and values; embed_dim by default.
    batch_first : bool
        (N, L, E); False: (L, N, E).
    """

    def __init__(self, embed_dim, num_heads, bias=True, kdim=None, vdim=None, batch_first=True, *, rng=None, dtype="float32"):
        super().__init__()
        if isinstance(num_heads, bool) or not isinstance(num_heads, int) or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention: num_heads is {num_heads!r}, expected an int that divides embed_dim = {embed_dim}")
        self.embed_dim, self.num_heads, self.batch_first = embed_dim, num_heads, batch_first
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        rng = generator(rng)

        def weight(*shape):
            return Parameter(xavier_uniform_(np.empty(shape, dtype), rng=rng))

        self._joint = self.kdim == embed_dim == self.vdim
        if self._joint:
            self.in_proj_weight = weight(3 * embed_dim, embed_dim)
        else:
            self.q_proj_weight, self.k_proj_weight = weight(embed_dim, embed_dim), weight(embed_dim, self.kdim)
            self.v_proj_weight = weight(embed_dim, self.vdim)
        self.in_proj_bias = Parameter(np.zeros(3 * embed_dim, dtype)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, rng=rng, dtype=dtype)
        if bias:
            self.out_proj.bias.data[...] = 0

    def forward(self, q, k=None, v=None, mask=None, is_causal=False, return_weights=False):
        k = q if k is None else k
        v = k if v is None else v
        if not self.batch_first:
            q, k, v = (a.transpose(1, 0, 2) for a in (q, k, v))
        e = self.embed_dim
        if self._joint:
            w = [self.in_proj_weight[i * e : (i + 1) * e] for i in range(3)]
        else:
            w = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        biases = None
        if self.in_proj_bias is not None:
            biases = (*(self.in_proj_bias[i * e : (i + 1) * e] for i in range(3)), self.out_proj.bias)
        options = {"num_heads": self.num_heads, "is_causal": is_causal, "return_weights": return_weights}
        result = F.multi_head_attention(q, k, v, *w, self.out_proj.weight, biases, mask, **options)
        if self.batch_first:
            return result
        return (result[0].transpose(1, 0, 2), result[1]) if return_weights else result.transpose(1, 0, 2)

    def extra_repr(self):
        return f"{self.embed_dim}, num_heads={self.num_heads}"


class AdditiveAttention(Module):
    """:func:`cnnpy.additive_attention` with weights ``w_q`` (hidden_size, query_size), ``w_k`` (hidden_size, key_size), ``w_v`` (hidden_size,),
    uniform in +-1/sqrt(fan_in)."""

    def __init__(self, query_size, key_size, hidden_size, *, rng=None, dtype="float32"):
        super().__init__()
        rng = generator(rng)
        self.sizes = query_size, key_size, hidden_size
        self.w_q = Parameter(fan_in_uniform((hidden_size, query_size), query_size, rng, dtype))
        self.w_k = Parameter(fan_in_uniform((hidden_size, key_size), key_size, rng, dtype))
        self.w_v = Parameter(fan_in_uniform((hidden_size,), hidden_size, rng, dtype))

    def forward(self, q, k, v=None, mask=None, return_weights=False):
        return F.additive_attention(q, k, k if v is None else v, self.w_q, self.w_k, self.w_v, mask, return_weights=return_weights)

    def extra_repr(self):
        return ", ".join(map(str, self.sizes))
