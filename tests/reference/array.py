"""Array operations. NumPy's float64 is the reference; gradients follow from one-line formulas."""

import numpy as np


def _unbroadcast(g, shape):
    while g.ndim > len(shape):
        g = g.sum(axis=0)
    for axis, n in enumerate(shape):
        if n == 1 and g.shape[axis] != 1:
            g = g.sum(axis=axis, keepdims=True)
    return g


def _binary(da, db):
    def backward(dy, a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        return _unbroadcast(da(dy, a, b) + 0 * (a + b), a.shape), _unbroadcast(db(dy, a, b) + 0 * (a + b), b.shape)

    return backward


def _matmul_backward(dy, a, b):
    return (
        _unbroadcast(dy @ np.swapaxes(b, -1, -2).astype(np.float64), np.shape(a)),
        _unbroadcast(np.swapaxes(a, -1, -2).astype(np.float64) @ dy, np.shape(b)),
    )


def _expand(dy, x, axis):
    axes = range(x.ndim) if axis is None else [a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))]
    return np.broadcast_to(np.reshape(dy, [1 if i in axes else n for i, n in enumerate(x.shape)]), x.shape)


def _max_backward(dy, x, axis=None, keepdims=False):
    hot = np.zeros(x.shape)
    if axis is None:
        hot.flat[np.argmax(x)] = 1
    else:
        np.put_along_axis(hot, np.expand_dims(np.argmax(x, axis), axis), 1, axis)
    return (hot * _expand(dy, x, axis),)


def _getitem_backward(dy, x, index):
    dx = np.zeros(np.shape(x))
    np.add.at(dx, index, dy)
    return (dx,)


FORWARD = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "negative": np.negative,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "power": lambda x, exponent: np.power(x, exponent),
    "matmul": lambda a, b: np.matmul(np.asarray(a, np.float64), b),
    "sum": lambda x, axis=None, keepdims=False: np.sum(x, axis=axis, keepdims=keepdims),
    "mean": lambda x, axis=None, keepdims=False: np.mean(x, axis=axis, keepdims=keepdims),
    "max": lambda x, axis=None, keepdims=False: np.max(x, axis=axis, keepdims=keepdims),
    "reshape": lambda x, shape: np.reshape(x, shape),
    "transpose": lambda x, axes=None: np.transpose(x, axes),
    "flip": lambda x, axis=None: np.flip(x, axis),
    "getitem": lambda x, index: x[index],
    "concatenate": lambda arrays, axis=0: np.concatenate(arrays, axis),
    "stack": lambda arrays, axis=0: np.stack(arrays, axis),
    "where": lambda condition, a, b: np.where(condition, a, b),
    "channels_last": lambda x: x,
}
BACKWARD = {
    "add": _binary(lambda dy, a, b: dy, lambda dy, a, b: dy),
    "subtract": _binary(lambda dy, a, b: dy, lambda dy, a, b: -dy),
    "multiply": _binary(lambda dy, a, b: dy * b, lambda dy, a, b: dy * a),
    "divide": _binary(lambda dy, a, b: dy / b, lambda dy, a, b: -dy * a / b**2),
    "maximum": _binary(lambda dy, a, b: dy * (a >= b), lambda dy, a, b: dy * (a < b)),
    "negative": lambda dy, x: (-dy,),
    "exp": lambda dy, x: (dy * np.exp(x),),
    "log": lambda dy, x: (dy / x,),
    "sqrt": lambda dy, x: (dy / (2 * np.sqrt(x)),),
    "power": lambda dy, x, exponent: (dy * exponent * x ** (exponent - 1),),
    "matmul": _matmul_backward,
    "sum": lambda dy, x, axis=None, keepdims=False: (_expand(dy, x, axis),),
    "mean": lambda dy, x, axis=None, keepdims=False: (_expand(dy, x, axis) * (np.size(dy) / np.size(x)),),
    "max": _max_backward,
    "reshape": lambda dy, x, shape: (np.reshape(dy, x.shape),),
    "transpose": lambda dy, x, axes=None: (np.transpose(dy, None if axes is None else np.argsort(axes)),),
    "flip": lambda dy, x, axis=None: (np.flip(dy, axis),),
    "getitem": _getitem_backward,
    "concatenate": lambda dy, arrays, axis=0: (np.split(dy, np.cumsum([a.shape[axis] for a in arrays])[:-1], axis),),
    "stack": lambda dy, arrays, axis=0: ([np.take(dy, i, axis) for i in range(len(arrays))],),
    "where": lambda dy, condition, a, b: (
        _unbroadcast(np.where(condition, dy, 0), np.shape(a)),
        _unbroadcast(np.where(condition, 0, dy), np.shape(b)),
    ),
    "channels_last": lambda dy, x: (dy,),
}
