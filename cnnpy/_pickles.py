"""Pickles of strangers: what a restricted unpickler still does before it knows any name is looked at first."""

import pickle
import pickletools

_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


def load_checked(file, make):
    """The next object of a seekable binary ``file``, by the :class:`pickle.Unpickler` that ``make(file)`` gives.

    An unpickler keeps a table of the objects that are numbered, as long as the largest number: a damaged one costs gigabytes. The numbers of every
    pickle grow by one, so none exceeds the count of its opcodes. Lengths beyond the file are refused on the way.
    """
    begin = file.tell()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in _PUTS and not 0 <= int(argument or 0) <= count:
            raise pickle.UnpicklingError(f"it gives an object the number {argument} after {count} steps")
    file.seek(begin)
    return make(file).load()
