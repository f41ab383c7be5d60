"""Where the masks of dropout come from: a layer owns a seed and counts its calls."""

import numpy as np

from cnnpy.functional._notes import note
from cnnpy.functional.dropout import _key

__all__ = ["Masks"]


class Masks:
    """Of layers with ``_rng``, a list of their seed and the number of calls so far: call number n has the masks of that seed and n."""

    _rng: list

    def peek(self, ahead=0):
        """The seed of the masks of the next call but `ahead`."""
        seed, call = self._rng
        return seed << 31 | ((call + ahead) & 0x7FFFFFFF)

    def skip(self, calls=1):
        """Counts calls."""
        seed, call = self._rng
        self._rng = [seed, call + calls]

    def drawn(self):
        """The seed of this call's masks; tells who records the call."""
        rng = self.peek()
        self.skip()
        note("mask", self, rng)
        return rng

    def keys(self, rng):
        """The keys of the masks that a call with this seed uses, in order."""
        return [_key("dropout", rng)]


def layer_keys(rng, count):
    """The keys of `count` masks between the layers of a recurrent network."""
    generator = np.random.default_rng(_key("dropout", rng))
    return [_key("dropout", generator) for _ in range(count)]
