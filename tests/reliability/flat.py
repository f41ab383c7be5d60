"""Every operation as the generators want it: arrays in, one array out.

Most are that already. Where arrays come in lists of tuples, or a result is a tuple, :func:`flat` gives the operation a plain face: its arrays side
by side under names of their own, its results joined to one vector. ``FORWARD`` and ``BACKWARD`` of the references get the same face.
"""

import numpy as np

from cnnpy import functional as F
from cnnpy.autograd import OPERATIONS
from tests import reference

SETS = ("w_ih", "w_hh", "b_ih", "b_hh", "w_hr")


def spread(result):
    """The arrays of a nested result, in order."""
    if isinstance(result, (tuple, list)):
        return [a for r in result for a in spread(r)]
    return [result]


class Vector:
    """Results joined to one vector, gradients of a vector parted again."""

    def __init__(self, shape):
        self.shape = shape  # nested tuples of shapes

    @classmethod
    def of(cls, result):
        return cls(tuple(cls.of(r).shape for r in result) if isinstance(result, tuple) else [np.shape(result)])

    @staticmethod
    def join(result):
        return np.concatenate([np.ravel(a) for a in spread(result)])

    def part(self, vector):
        def take(shape):
            nonlocal vector
            if isinstance(shape, tuple):
                return tuple(take(s) for s in shape)
            size = int(np.prod(shape[0]))
            head, vector = vector[:size], vector[size:]
            return head.reshape(shape[0])

        return take(self.shape)

    def leaves(self, shape=None):
        shape = self.shape if shape is None else shape
        return sum(map(self.leaves, shape)) if isinstance(shape, tuple) else int(np.prod(shape[0]))

    def instead(self, wrong):
        """Something that is no gradient, where the first one belongs."""

        def place(shape):
            return (place(shape[0]), *(None for _ in shape[1:])) if isinstance(shape, tuple) else wrong

        return place(self.shape)


class Flat:
    """The face of an operation. ``nested`` maps plain names to (field, set, place); other arrays keep their names."""

    variadic = False

    def __init__(self, op, nested=()):
        self.op, self.name, self.caches = op, op.name, op.caches
        self.plain = tuple(n for n in op.arrays if n not in op.nested)
        self.nested = tuple(nested)
        self.arrays = (*self.plain, *(n for n, _ in self.nested))
        self.differentiable = (*(n for n in self.plain if n in op.differentiable), *(n for n, _ in self.nested))
        self.optional = op.optional | {n for n, _ in self.nested if n[:3] in ("b_i", "b_h", "w_h", "w_i", "b_q", "b_k", "b_v", "b_o")}
        self.Gradients = _named(op.name, self.differentiable)

    def arguments(self, arrays):
        given = dict(zip(self.arrays, arrays, strict=True))
        built = {n: [] for n in self.op.nested}
        for name, (field, number) in self.nested:
            if number is None:
                built[field].append(given[name])
                continue
            while len(built[field]) <= number:
                built[field].append([])
            built[field][number].append(given[name])
        for field, groups in built.items():
            if groups and isinstance(groups[0], list):
                built[field] = [self.trim(g) for g in groups if g[0] is not None]
            elif all(a is None for a in groups):
                built[field] = None
        return [built[n] if n in built else given[n] for n in self.op.arrays]

    @staticmethod
    def trim(group):
        """A projection that is not there is left out."""
        return tuple(group[:4] if len(group) == 5 and group[4] is None else group)

    def forward(self, *arrays, **options):
        return Vector.join(self.op.forward(*self.arguments(arrays), **options))

    def call(self, *tensors, **options):
        return getattr(F, self.name)(*self.arguments(tensors), **options)

    def backward(self, dy, *arrays, needs=None, **options):
        args = self.arguments(arrays)
        vector = Vector.of(self.op.forward(*args, **options))
        fits = (isinstance(dy, np.ndarray) and dy.shape == (vector.leaves(),)) or (isinstance(dy, list) and len(dy) == vector.leaves())
        parted = vector.part(np.asarray(dy)) if fits else vector.instead(dy)
        fields = dict(self.nested)
        wanted = None
        if needs is not None:
            wrong = [n for n in needs if n not in self.differentiable]
            wanted = wrong or sorted({fields[n][0] if n in fields else n for n in needs}, key=self.op.arrays.index)
        return self.Gradients(*self.flatten(self.op.backward(parted, *args, needs=wanted, **options), arrays, needs))

    def flatten(self, gradients, arrays, needs=None):
        found = dict(zip(self.op.differentiable, gradients, strict=True))
        given = dict(zip(self.arrays, arrays, strict=True))
        values = []
        for name in self.differentiable:
            value = found.get(name)
            if name in dict(self.nested):
                field, number = dict(self.nested)[name]
                place = [n for n, (f, k) in self.nested if f == field and k == number].index(name)
                group = found[field] if number is None or found[field] is None else (found[field][number : number + 1] or [None])[0]
                value = None if group is None or given[name] is None else group[place]
            values.append(value if needs is None or name in needs else None)
        return values


def _named(name, fields):
    from collections import namedtuple

    return namedtuple(name.title().replace("_", "") + "Flat", fields)


def _weights(field, names, sets):
    return [(n + ("" if k == 0 else "2"), (field, k)) for k in range(sets) for n in names]


_FACES = {
    "rnn": _weights("weights", SETS[:4], 2),
    "gru": _weights("weights", SETS[:4], 2),
    "lstm": _weights("weights", SETS, 2),
    "lstm_cell": (),
    "convlstm_cell": (),
    "multi_head_attention": [(n, ("biases", None)) for n in ("b_q", "b_k", "b_v", "b_o")],
}

FLAT = {name: Flat(op, _FACES[name]) if name in _FACES else op for name, op in OPERATIONS.items()}
FORWARD, BACKWARD = dict(reference.FORWARD), dict(reference.BACKWARD)


def _adapt(face):
    forward, backward = reference.FORWARD[face.name], reference.BACKWARD[face.name]

    def flat_forward(*arrays, **options):
        return Vector.join(forward(*face.arguments(arrays), **options))

    def flat_backward(dy, *arrays, **options):
        args = face.arguments(arrays)
        parted = Vector.of(forward(*args, **options)).part(np.asarray(dy))
        return tuple(face.flatten(backward(parted, *args, **options), arrays))

    FORWARD[face.name], BACKWARD[face.name] = flat_forward, flat_backward


for _name in _FACES:
    _adapt(FLAT[_name])


def function_of(name):
    """What a user calls, on Tensors too."""
    face = FLAT[name]
    return face.call if isinstance(face, Flat) else getattr(F, name, None) or getattr(F._array, name)
