"""Layers over the steps of a sequence: pooling, and a decoder that looks back through attention."""

import numpy as np

from cnnpy import functional as F
from cnnpy.functional._new import constant, full
from cnnpy.nn.attention import AdditiveAttention
from cnnpy.nn.init import generator
from cnnpy.nn.linear import Embedding, Linear
from cnnpy.nn.module import Module
from cnnpy.nn.recurrent import GRUCell

__all__ = ["AttentionDecoder", "StepPool"]


class StepPool(Module):
    """Mean and maximum over the steps of each row: (N, T, F) to (N, 2 F). Steps beyond a row's length take no part.

    Called as ``layer(x, lengths=None)``.
    """

    def forward(self, x, lengths=None):
        steps = x.shape[1]
        if lengths is None:
            share = full((1, steps, 1), 1 / steps, x.dtype)
            return F.concatenate([(x * share).sum(axis=1), x.max(axis=1)], axis=1)
        lengths = np.asarray(lengths)
        if lengths.shape != (x.shape[0],) or (len(lengths) and (lengths.min() < 1 or lengths.max() > steps)):
            raise ValueError(f"StepPool: lengths is {lengths.tolist()}, expected {x.shape[0]} numbers from 1 to {steps}")
        there = np.arange(steps) < lengths[:, None]
        share = (there / lengths[:, None]).astype(x.dtype)[..., None]
        lowest = np.full((1, 1, 1), -np.inf, x.dtype)
        return F.concatenate([(x * share).sum(axis=1), F.where(there[..., None], x, lowest).max(axis=1)], axis=1)


class AttentionDecoder(Module):
    """Writes a sequence of fixed length: at every step a GRU cell reads the last character and what additive attention finds in the memory.

    Called as ``layer(h, memory, target=None, return_weights=False)``: h (N, hidden) the first state, memory (N, S, memory_size), target (N,
    target_length) the right characters, which are then what is read (teacher forcing); without them it reads its own likeliest ones. Returns scores (N,
    num_classes, target_length), and with return_weights the attention (N, target_length, S).

    References
    ----------
    D. Bahdanau, K. Cho, Y. Bengio, Neural machine translation by jointly learning to align and translate, 2015.
    """

    def __init__(self, num_classes, target_length, memory_size, hidden, embedding, *, rng=None, dtype="float32"):
        super().__init__()
        options = {"rng": generator(rng), "dtype": dtype}
        self.num_classes, self.target_length = num_classes, target_length
        self.embedding = Embedding(num_classes + 1, embedding, **options)  # the last one stands before the first character
        self.attention = AdditiveAttention(hidden, memory_size, hidden, **options)
        self.cell = GRUCell(embedding + memory_size, hidden, **options)
        self.output = Linear(hidden + memory_size, num_classes, **options)

    def forward(self, h, memory, target=None, return_weights=False):
        last, scores, maps = constant(np.full(h.shape[0], self.num_classes)), [], []
        for step in range(self.target_length):
            found = self.attention(h.reshape(h.shape[0], 1, h.shape[1]), memory, return_weights=return_weights)
            context, weights = found if return_weights else (found, None)
            context = context.reshape(context.shape[0], context.shape[2])
            h = self.cell(F.concatenate([self.embedding(last), context], axis=1), h)
            scores.append(self.output(F.concatenate([h, context], axis=1)))
            maps.append(weights)
            last = scores[-1].data.argmax(axis=1) if target is None else target[:, step]
        result = F.stack(scores, axis=2)
        return (result, F.concatenate(maps, axis=1)) if return_weights else result
