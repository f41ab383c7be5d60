"""Functions on plain arrays, in pairs: ``op`` and ``op_backward``.

Every function computes in ``np.result_type(*arrays, np.float32)``, float32 or float64, takes any memory order, never changes an input, and
gives the same bits for any number of threads. ``op_backward(dy, <the arrays>, *, <the options>, cache=None, needs=None)`` returns a named
tuple with one gradient per differentiable array; ``needs=('x',)`` computes only those. The same functions take :class:`cnnpy.Tensor` and record.
"""

try:
    from cnnpy import _core as _core
except ImportError as error:
    raise ImportError(
        f"cnnpy: the C extension is missing beside {__file__}; in the source folder build it with: pip install -e . ({error})"
    ) from None

from cnnpy.functional import array as _array
from cnnpy.functional.activation import *  # noqa: F403
from cnnpy.functional.activation import __all__ as _activation
from cnnpy.functional.array import *  # noqa: F403
from cnnpy.functional.attention import *  # noqa: F403
from cnnpy.functional.attention import __all__ as _attention
from cnnpy.functional.conv import *  # noqa: F403
from cnnpy.functional.conv import __all__ as _conv
from cnnpy.functional.conv_transpose import *  # noqa: F403
from cnnpy.functional.conv_transpose import __all__ as _conv_transpose
from cnnpy.functional.convlstm import *  # noqa: F403
from cnnpy.functional.convlstm import __all__ as _convlstm
from cnnpy.functional.dense import *  # noqa: F403
from cnnpy.functional.dense import __all__ as _dense
from cnnpy.functional.dropout import *  # noqa: F403
from cnnpy.functional.dropout import __all__ as _dropout
from cnnpy.functional.loss import *  # noqa: F403
from cnnpy.functional.loss import __all__ as _loss
from cnnpy.functional.norm import *  # noqa: F403
from cnnpy.functional.norm import __all__ as _norm
from cnnpy.functional.pad import *  # noqa: F403
from cnnpy.functional.pad import __all__ as _pad
from cnnpy.functional.pool import *  # noqa: F403
from cnnpy.functional.pool import __all__ as _pool
from cnnpy.functional.pool_more import *  # noqa: F403
from cnnpy.functional.pool_more import __all__ as _pool_more
from cnnpy.functional.recurrent import *  # noqa: F403
from cnnpy.functional.recurrent import __all__ as _recurrent
from cnnpy.functional.recurrent_cells import *  # noqa: F403
from cnnpy.functional.recurrent_cells import __all__ as _recurrent_cells
from cnnpy.functional.resize import *  # noqa: F403
from cnnpy.functional.resize import __all__ as _resize

__all__ = [
    *_activation,
    *_array.__all__,
    *_attention,
    *_conv,
    *_conv_transpose,
    *_convlstm,
    *_dense,
    *_dropout,
    *_loss,
    *_norm,
    *_pad,
    *_pool,
    *_pool_more,
    *_recurrent,
    *_recurrent_cells,
    *_resize,
]
