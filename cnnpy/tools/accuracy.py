"""Rounding errors of the convolution algorithms, measured."""

import numpy as np

from cnnpy import functional as F

__all__ = ["AccuracyReport", "accuracy_report"]

_DATA = ("normal", "relu", "uniform")
_PASSES = ("forward", "x", "weight")


class AccuracyReport:
    """Rounding errors against float64, relative to those of the direct float32 sum on the same data.

    Attributes
    ----------
    rows : list of dict
        ``algorithm``, ``dtype``, ``result`` ('forward', or the array whose gradient it is), ``data``, ``channels``, ``size``; ``rms`` (root
        mean square error divided by the root mean square of the result), ``rms_ratio`` and ``largest_ratio``: its root mean square and
        largest error in units of direct float32.
    """

    def __init__(self, rows):
        self.rows = rows

    def worst(self, algorithm, dtype="float32"):
        """The largest ``rms_ratio`` of an algorithm."""
        return max(r["rms_ratio"] for r in self.rows if r["algorithm"] == algorithm and r["dtype"] == dtype)

    def __repr__(self):
        head = f"{'algorithm':10} {'dtype':8} {'result':8} {'data':8} {'channels':>8} {'size':>5} {'rms':>9} {'rms/direct':>11} {'max/direct':>11}"
        lines = [
            f"{r['algorithm']:10} {r['dtype']:8} {r['result']:8} {r['data']:8} {r['channels']:>8} {r['size']:>5} {r['rms']:>9.2e} "
            f"{r['rms_ratio']:>11.3g} {r['largest_ratio']:>11.3g}"
            for r in self.rows
        ]
        return "\n".join([head, *lines])


def _problem(data, channels, size, kernel, rng):
    x = rng.uniform(-1, 1, (1, channels, size, size)) if data == "uniform" else rng.normal(size=(1, channels, size, size))
    if data == "relu":
        x = np.maximum(x, 0)
    weight = rng.normal(size=(max(16, channels), channels, kernel, kernel)) * np.sqrt(2 / (kernel**2 * channels))
    dy = rng.normal(size=(1, weight.shape[0], size, size))
    return [a.astype(np.float32) for a in (x, weight, dy)]


def _results(arrays, algorithm):
    x, weight, dy = arrays
    options = {"padding": weight.shape[-1] // 2, "algorithm": algorithm}
    gradients = F.conv2d_backward(dy, x, weight, **options, needs=("x", "weight"))
    return {"forward": F.conv2d(x, weight, **options), "x": gradients.x, "weight": gradients.weight}


def _errors(result, exact):
    error = np.abs(result.astype(np.float64) - exact)
    return np.sqrt(np.mean(np.square(error))), float(np.max(error)), np.sqrt(np.mean(np.square(exact)))


def accuracy_report(*, channels=(16, 64), sizes=(6, 16, 32), kernel=3, rng=0):
    """Measures the rounding error of every convolution algorithm and dtype on square kernels.

    Parameters
    ----------
    channels, sizes : tuple of int
        Channels (and filters, at least 16) and side lengths of the images.
    kernel : 3 or 5
        Side of the kernels; the padding is half of it.
    rng : int or numpy.random.Generator

    Returns
    -------
    AccuracyReport
        Prints as a table. The data are normal, the positive part of normal, and uniform numbers, weights of variance 2 / (kernel^2 C). Winograd's
        root mean square error stays below four times the direct one; sizes of which the remainder by 4 is 1 or 2 may be computed in
        tiles of 2x2, whose error is below the direct one's.

    Notes
    -----
    float32 results are compared with the direct sum in float64; float64 results with the other algorithm in float64, which shows their
    common size only.
    """
    if kernel not in (3, 5):
        raise ValueError(f"accuracy_report: kernel is {kernel!r}, expected 3 or 5, which Winograd's algorithm has for all three results")
    rng = np.random.default_rng(rng)
    rows = []
    for c in channels:
        for size in sizes:
            for data in _DATA:
                single = _problem(data, c, size, kernel, rng)
                double = [a.astype(np.float64) for a in single]
                exact = {a: _results(double, a) for a in ("direct", "winograd")}
                direct = _results(single, "direct")
                for algorithm in ("direct", "winograd"):
                    found = {"float32": _results(single, algorithm), "float64": exact[algorithm]}
                    for dtype, results in found.items():
                        other = exact["winograd" if dtype == "float64" and algorithm == "direct" else "direct"]
                        for result in _PASSES:
                            unit_rms, unit_largest, scale = _errors(direct[result], exact["direct"][result])
                            rms, largest, _ = _errors(results[result], other[result])
                            rows.append(
                                {
                                    "algorithm": algorithm,
                                    "dtype": dtype,
                                    "result": result,
                                    "data": data,
                                    "channels": c,
                                    "size": size,
                                    "rms": float(rms / scale),
                                    "rms_ratio": float(rms / unit_rms),
                                    "largest_ratio": float(largest / unit_largest),
                                }
                            )
    return AccuracyReport(rows)
