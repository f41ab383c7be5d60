"""Networks for sequences: a character model, a classifier, an encoder and decoder with attention, a forecaster."""

from cnnpy import nn
from cnnpy.io import load_weights
from cnnpy.nn.init import generator

__all__ = ["char_lstm", "forecaster", "seq2seq_attention", "sequence_classifier"]


def _with_weights(model, weights):
    if weights is not None:
        load_weights(model, weights)
    return model


class CharLSTM(nn.Module):
    """See :func:`char_lstm`."""

    def __init__(self, num_classes, embedding, hidden, num_layers, dropout, rng, dtype):
        super().__init__()
        options = {"rng": rng, "dtype": dtype}
        self.embedding = nn.Embedding(num_classes, embedding, **options)
        self.lstm = nn.LSTM(embedding, hidden, num_layers, dropout=dropout, **options)
        self.dropout = nn.Dropout(dropout, rng=rng)
        self.output = nn.Linear(hidden, num_classes, **options)

    def forward(self, ids, state=None, return_state=False):
        y, state = self.lstm(self.embedding(ids), state)
        scores = self.output(self.dropout(y)).transpose(0, 2, 1)
        return (scores, state) if return_state else scores


def char_lstm(num_classes, *, embedding=64, hidden=256, num_layers=2, dropout=0.2, weights=None, rng=None, dtype="float32"):
    """Predicts the next character: embedding, LSTM layers, a score for every character.

    ``model(ids)`` with ids (N, T) returns scores (N, num_classes, T), class axis 1 as :func:`cnnpy.cross_entropy` takes them; ``return_state=True``
    adds the state, from which ``model(ids, state)`` goes on.

    Parameters
    ----------
    num_classes : int
        Characters of the alphabet.
    embedding, hidden, num_layers : int
    dropout : float
        Between the layers and before the scores, in training.

    References
    ----------
    A. Graves, Generating sequences with recurrent neural networks, 2013.
    """
    return _with_weights(CharLSTM(num_classes, embedding, hidden, num_layers, dropout, generator(rng), dtype), weights)


class SequenceClassifier(nn.Module):
    """See :func:`sequence_classifier`."""

    def __init__(self, num_classes, input_size, hidden, num_layers, dropout, rng, dtype):
        super().__init__()
        options = {"rng": rng, "dtype": dtype}
        self.lstm = nn.LSTM(input_size, hidden, num_layers, bidirectional=True, dropout=dropout, **options)
        self.pool = nn.StepPool()
        self.output = nn.Linear(4 * hidden, num_classes, **options)

    def forward(self, x, lengths=None):
        return self.output(self.pool(self.lstm(x, lengths=lengths)[0], lengths))


def sequence_classifier(num_classes, *, input_size, hidden=64, num_layers=1, dropout=0.0, weights=None, rng=None, dtype="float32"):
    """Classifies whole sequences: a bidirectional LSTM, mean and maximum over the steps, a dense layer.

    ``model(x, lengths=None)`` with x (N, T, input_size) returns scores (N, num_classes); steps beyond a row's length take no part.

    Parameters
    ----------
    num_classes, input_size, hidden, num_layers : int
    dropout : float

    References
    ----------
    M. Schuster, K. Paliwal, Bidirectional recurrent neural networks, 1997.
    """
    return _with_weights(SequenceClassifier(num_classes, input_size, hidden, num_layers, dropout, generator(rng), dtype), weights)


class Seq2SeqAttention(nn.Module):
    """See :func:`seq2seq_attention`."""

    def __init__(self, num_classes, source_length, target_length, embedding, hidden, rng, dtype):
        super().__init__()
        options = {"rng": rng, "dtype": dtype}
        self.num_classes, self.source_length, self.target_length = num_classes, source_length, target_length
        self.embedding = nn.Embedding(num_classes, embedding, **options)
        self.encoder = nn.GRU(embedding, hidden, bidirectional=True, **options)
        self.bridge = nn.Linear(2 * hidden, hidden, **options)
        self.decoder = nn.AttentionDecoder(num_classes, target_length, 2 * hidden, hidden, embedding, **options)

    def forward(self, x, return_weights=False):
        if x.shape[1] not in (self.source_length, self.source_length + self.target_length):
            raise ValueError(
                f"seq2seq_attention: x has shape {tuple(x.shape)}, expected (N, {self.source_length}) or, with the outputs to be learned, "
                f"(N, {self.source_length + self.target_length})"
            )
        source, target = x[:, : self.source_length], x[:, self.source_length :]
        memory, ends = self.encoder(self.embedding(source))
        h = self.bridge(ends.transpose(1, 0, 2).reshape(ends.shape[1], -1)).tanh()
        return self.decoder(h, memory, target if self.training and target.shape[1] else None, return_weights)


def seq2seq_attention(num_classes, *, source_length, target_length, embedding=32, hidden=64, weights=None, rng=None, dtype="float32"):
    """Turns one sequence into another: a bidirectional GRU reads, a GRU writes and looks back through additive attention.

    ``model(x)`` with character numbers x (N, source_length) returns scores (N, num_classes, target_length) of greedy decoding; with
    ``return_weights=True`` also the attention (N, target_length, source_length). In training mode x may go on with the target_length right outputs,
    which then are what the decoder reads (teacher forcing); in evaluation mode they are not looked at.

    Parameters
    ----------
    num_classes : int
        Characters of the alphabet, shared by both sides.
    source_length, target_length : int
    embedding, hidden : int

    References
    ----------
    D. Bahdanau, K. Cho, Y. Bengio, Neural machine translation by jointly learning to align and translate, 2015.
    """
    model = Seq2SeqAttention(num_classes, source_length, target_length, embedding, hidden, generator(rng), dtype)
    return _with_weights(model, weights)


class Forecaster(nn.Module):
    """See :func:`forecaster`."""

    def __init__(self, length, hidden, rng, dtype):
        super().__init__()
        options = {"rng": rng, "dtype": dtype}
        self.length = length
        self.linear = nn.Linear(length, 1, **options)
        self.lstm = nn.LSTM(1, hidden, **options)
        self.output = nn.Linear(hidden, 1, **options)

    def forward(self, x):
        _, (h, _) = self.lstm(x)
        return self.output(h[0]) + self.linear(x.reshape(x.shape[0], self.length))


def forecaster(length, *, hidden=32, weights=None, rng=None, dtype="float32"):
    """The next value of a series: a linear model of the last values, and what an LSTM finds beside it.

    ``model(x)`` with windows x (N, length, 1) returns (N, 1).

    Parameters
    ----------
    length, hidden : int
    """
    return _with_weights(Forecaster(length, hidden, generator(rng), dtype), weights)
