"""Layers: functions of :mod:`cnnpy.functional` together with the parameters they use. Layers remember, functions compute."""

from cnnpy.nn import init
from cnnpy.nn.activation import *  # noqa: F403
from cnnpy.nn.activation import __all__ as _activations
from cnnpy.nn.attention import AdditiveAttention, MultiheadAttention
from cnnpy.nn.containers import *  # noqa: F403
from cnnpy.nn.containers import __all__ as _containers
from cnnpy.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from cnnpy.nn.convlstm import ConvLSTM2d
from cnnpy.nn.dropout import Dropout, Dropout1d, Dropout2d, Dropout3d
from cnnpy.nn.linear import Embedding, Linear
from cnnpy.nn.loss import *  # noqa: F403
from cnnpy.nn.loss import __all__ as _losses
from cnnpy.nn.module import Module, Parameter
from cnnpy.nn.norm import *  # noqa: F403
from cnnpy.nn.norm import __all__ as _norms
from cnnpy.nn.pad import *  # noqa: F403
from cnnpy.nn.pad import __all__ as _pads
from cnnpy.nn.pool import *  # noqa: F403
from cnnpy.nn.pool import __all__ as _pools
from cnnpy.nn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from cnnpy.nn.resize import Fold, PixelShuffle, PixelUnshuffle, Subsample, Unfold, Upsample
from cnnpy.nn.sequence import AttentionDecoder, StepPool

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdditiveAttention",
    "AttentionDecoder",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvLSTM2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Embedding",
    "Fold",
    "GRUCell",
    "LSTMCell",
    "Linear",
    "Module",
    "MultiheadAttention",
    "Parameter",
    "PixelShuffle",
    "PixelUnshuffle",
    "RNNCell",
    "StepPool",
    "Subsample",
    "Unfold",
    "Upsample",
    "init",
    *_activations,
    *_containers,
    *_losses,
    *_norms,
    *_pads,
    *_pools,
]
