"""Recurrent layers, over sequences and one step at a time. Parameters have PyTorch's names, shapes and initial values."""

from cnnpy import functional as F
from cnnpy.functional._new import full
from cnnpy.nn.init import fan_in_uniform, generator
from cnnpy.nn.masks import Masks, layer_keys
from cnnpy.nn.module import Module, Parameter

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


def _size(layer, name, value, low=1):
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{layer}: {name} is {value!r}, expected an int of at least {low}")
    return value


class _Recurrent(Masks, Module):
    """What the three share: parameters ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0``, ``..._reverse``, uniform in
    +-1/sqrt(hidden_size), and the call.

    Called as ``layer(x, state=None, lengths=None)``, state and result as in :func:`cnnpy.{name}`.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    bias, batch_first, bidirectional : bool
    dropout : float
        After every layer but the last, in training, another mask at every call.
    """

    gates = 1
    proj_size = 0
    extra: tuple = ()

    def __init__(
        self, input_size, hidden_size, num_layers=1, bias=True, batch_first=True, dropout=0.0, bidirectional=False, *, rng=None, dtype="float32"
    ):  # fmt: skip
        super().__init__()
        name = type(self).__name__
        self.input_size, self.hidden_size = _size(name, "input_size", input_size), _size(name, "hidden_size", hidden_size)
        self.num_layers, self.batch_first, self.bidirectional = _size(name, "num_layers", num_layers), batch_first, bidirectional
        F.dropout([0.0], dropout, training=False)  # refuses a wrong share
        self.dropout = dropout
        rng = generator(rng)
        self._rng = [int(rng.integers(0, 2**31)), 0]
        outputs = self.proj_size or hidden_size
        self._sets = []
        for layer in range(num_layers):
            for direction in range(2 if bidirectional else 1):
                inputs = input_size if layer == 0 else outputs * (2 if bidirectional else 1)
                shapes: dict = {"weight_ih": (self.gates * hidden_size, inputs), "weight_hh": (self.gates * hidden_size, outputs)}
                if bias:
                    shapes |= dict.fromkeys(("bias_ih", "bias_hh"), (self.gates * hidden_size,))
                if self.proj_size:
                    shapes["weight_hr"] = (outputs, hidden_size)
                names = {key: f"{key}_l{layer}" + ("_reverse" if direction else "") for key in shapes}
                for key, shape in shapes.items():
                    setattr(self, names[key], Parameter(fan_in_uniform(shape, hidden_size, rng, dtype)))
                order = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", *(["weight_hr"] if "weight_hr" in shapes else []))
                self._sets.append([names.get(key) for key in order])

    def weights(self):
        """The parameters as the function takes them: a tuple a layer and direction."""
        return [tuple(None if n is None else getattr(self, n) for n in names) for names in self._sets]

    def _options(self, lengths):
        options = {"num_layers": self.num_layers, "bidirectional": self.bidirectional, "lengths": lengths, "batch_first": self.batch_first}
        if self.training and self.dropout > 0 and self.num_layers > 1:
            options |= {"dropout": self.dropout, "training": True, "rng": self.drawn()}
        return options

    def keys(self, rng):
        return layer_keys(rng, self.num_layers - 1)

    def extra_repr(self):
        text = f"{self.input_size}, {self.hidden_size}"
        for name, plain in (("num_layers", 1), ("batch_first", True), ("dropout", 0.0), ("bidirectional", False), *self.extra):
            if getattr(self, name) != plain:
                text += f", {name}={getattr(self, name)!r}"
        return text


class RNN(_Recurrent):
    __doc__ = (_Recurrent.__doc__ or "").format(name="rnn")
    extra = (("nonlinearity", "tanh"),)

    def __init__(self, input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=True, dropout=0.0, bidirectional=False, **options):  # fmt: skip
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, **options)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN: nonlinearity is {nonlinearity!r}, expected 'tanh' or 'relu'")
        self.nonlinearity = nonlinearity

    def forward(self, x, state=None, lengths=None):
        return F.rnn(x, self.weights(), state, nonlinearity=self.nonlinearity, **self._options(lengths))


class GRU(_Recurrent):
    __doc__ = (_Recurrent.__doc__ or "").format(name="gru")
    gates = 3

    def forward(self, x, state=None, lengths=None):
        return F.gru(x, self.weights(), state, **self._options(lengths))


class LSTM(_Recurrent):
    __doc__ = (_Recurrent.__doc__ or "").format(name="lstm") + "proj_size : int\n        Outputs of a projection of h; 0 for none.\n    "
    gates = 4
    extra = (("proj_size", 0),)

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=True, dropout=0.0, bidirectional=False, proj_size=0, **options):  # fmt: skip
        if isinstance(proj_size, bool) or not isinstance(proj_size, int) or not 0 <= proj_size < max(1, hidden_size):
            raise ValueError(f"LSTM: proj_size is {proj_size!r}, expected an int from 0 to hidden_size - 1")
        object.__setattr__(self, "proj_size", proj_size)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, **options)

    def forward(self, x, state=None, lengths=None):
        h0, c0 = (None, None) if state is None else state
        return F.lstm(x, self.weights(), h0, c0, proj_size=self.proj_size, **self._options(lengths))


class _Cell(Module):
    """:func:`cnnpy.{name}` with parameters ``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh``, uniform in +-1/sqrt(hidden_size).

    Called as ``cell(x, state=None)``; without a state it starts from zeros.
    """

    gates = 1

    def __init__(self, input_size, hidden_size, bias=True, *, rng=None, dtype="float32"):
        super().__init__()
        name = type(self).__name__
        self.input_size, self.hidden_size = _size(name, "input_size", input_size), _size(name, "hidden_size", hidden_size)
        rng = generator(rng)
        rows = self.gates * hidden_size
        self.weight_ih = Parameter(fan_in_uniform((rows, input_size), hidden_size, rng, dtype))
        self.weight_hh = Parameter(fan_in_uniform((rows, hidden_size), hidden_size, rng, dtype))
        self.bias_ih = Parameter(fan_in_uniform((rows,), hidden_size, rng, dtype)) if bias else None
        self.bias_hh = Parameter(fan_in_uniform((rows,), hidden_size, rng, dtype)) if bias else None

    def _zeros(self, x):
        if len(x.shape) != 2:
            raise ValueError(f"{type(self).__name__}: x has shape {tuple(x.shape)}, expected (N, {self.input_size})")
        return full((x.shape[0], self.hidden_size), 0, self.weight_hh.dtype)

    def _weights(self):
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def extra_repr(self):
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias_ih is not None else ", bias=False")


class RNNCell(_Cell):
    __doc__ = (_Cell.__doc__ or "").format(name="rnn_cell")

    def __init__(self, input_size, hidden_size, bias=True, nonlinearity="tanh", **options):
        super().__init__(input_size, hidden_size, bias, **options)
        self.nonlinearity = nonlinearity

    def forward(self, x, state=None):
        return F.rnn_cell(x, self._zeros(x) if state is None else state, *self._weights(), nonlinearity=self.nonlinearity)


class GRUCell(_Cell):
    __doc__ = (_Cell.__doc__ or "").format(name="gru_cell")
    gates = 3

    def forward(self, x, state=None):
        return F.gru_cell(x, self._zeros(x) if state is None else state, *self._weights())


class LSTMCell(_Cell):
    __doc__ = (_Cell.__doc__ or "").format(name="lstm_cell")
    gates = 4

    def forward(self, x, state=None):
        h, c = (self._zeros(x), self._zeros(x)) if state is None else state
        return F.lstm_cell(x, h, c, *self._weights())
