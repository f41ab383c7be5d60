"""Dense layers and tables."""

from cnnpy import functional as F
from cnnpy.nn.init import fan_in_uniform, generator
from cnnpy.nn.module import Module, Parameter

__all__ = ["Embedding", "Linear"]


class Linear(Module):
    """:func:`cnnpy.linear` with a weight (out_features, in_features) and a bias, both uniform in +-1/sqrt(in_features)."""

    def __init__(self, in_features, out_features, bias=True, *, rng=None, dtype="float32"):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        rng = generator(rng)
        self.weight = Parameter(fan_in_uniform((out_features, in_features), in_features, rng, dtype))
        self.bias = Parameter(fan_in_uniform((out_features,), in_features, rng, dtype)) if bias else None

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self):
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")


class Embedding(Module):
    """:func:`cnnpy.embedding` with a table (num_embeddings, embedding_dim) of standard normal numbers."""

    def __init__(self, num_embeddings, embedding_dim, *, rng=None, dtype="float32"):
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Parameter(generator(rng).standard_normal((num_embeddings, embedding_dim)).astype(dtype))

    def forward(self, indices):
        return F.embedding(indices, self.weight)

    def extra_repr(self):
        return f"{self.num_embeddings}, {self.embedding_dim}"
