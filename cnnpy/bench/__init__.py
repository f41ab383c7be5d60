"""Benches: kernels and networks against the machine's ceiling and against other libraries.

Both sides run in processes of their own that take turns; a row's figure is the minimum over all repetitions. ``cnnpy bench`` prints every
row, misses included, under a header that describes the machine.
"""

from cnnpy.bench.report import run

__all__ = ["run"]
