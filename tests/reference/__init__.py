"""Naive float64 versions of every function, written to be read: plain loops over the formulas of the docstrings.

They import nothing of the package under test. ``FORWARD[name]`` and ``BACKWARD[name]`` find them.
"""

from tests.reference import array, attention, conv, dense, elementwise, loss, norm, pool, recurrent, resize

FORWARD, BACKWARD = {}, {}
for _module in (array, attention, conv, dense, elementwise, loss, norm, pool, recurrent, resize):
    FORWARD.update(_module.FORWARD)
    BACKWARD.update(_module.BACKWARD)
