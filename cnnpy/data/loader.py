"""Batches."""

import collections
from concurrent.futures import ThreadPoolExecutor

import numpy as np

__all__ = ["DataLoader"]


class DataLoader:
    """Batches of a data set, shuffled anew each epoch by a seed, resumable at any batch.

    Parameters
    ----------
    dataset : object with ``len`` and ``dataset[indices]`` -> (x, y)
    batch_size : int
    shuffle : bool
    rng : int
        Seed; the order of an epoch is a function of it and of the epoch's number alone.
    drop_last : bool
        Leave out a last batch that is not full.
    transform : callable, optional
        ``transform(x, rng) -> x`` for a whole batch, or ``transform(x, y, rng) -> x, y`` if it has ``with_targets = True``; rng is seeded by
        seed, epoch and batch.
    workers : int
        Threads that prepare batches ahead; the batches are the same for any number.
    shard : (int, int)
        (rank, size): a step takes ``size * batch_size`` samples, this loader yields the rank-th of size parts of them. The last step's parts may be
        shorter or empty.

    Attributes
    ----------
    epoch, position : int
        Where the next iteration begins: ``state_dict`` keeps them.
    """

    def __init__(self, dataset, batch_size=64, *, shuffle=False, rng=0, drop_last=False, transform=None, workers=0, shard=(0, 1)):
        for name, value, low in (("batch_size", batch_size, 1), ("workers", workers, 0)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"DataLoader: {name} is {type(value).__name__}, expected an integer")
            if value < low:
                raise ValueError(f"DataLoader: {name} is {value}, expected at least {low}")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, int(batch_size), shuffle, drop_last
        self.transform, self.workers = transform, int(workers)
        self.seed = int(rng.integers(2**63)) if isinstance(rng, np.random.Generator) else int(rng)
        self.rank, self.size = (int(v) for v in shard)
        if not 0 <= self.rank < self.size:
            raise ValueError(f"DataLoader: shard is {shard!r}, expected (rank, size) with 0 <= rank < size")
        self.epoch = self.position = 0

    def __len__(self):
        full, rest = divmod(len(self.dataset), self.batch_size * self.size)
        return full + bool(rest and not self.drop_last)

    def order(self):
        """Indices of this epoch's samples."""
        if not self.shuffle:
            return np.arange(len(self.dataset))
        return np.random.default_rng([self.seed, self.epoch]).permutation(len(self.dataset))

    def _batch(self, order, number):
        step = self.batch_size * self.size
        whole = order[number * step : (number + 1) * step]
        x, y = self.dataset[whole[len(whole) * self.rank // self.size : len(whole) * (self.rank + 1) // self.size]]
        if self.transform is not None:
            rng = np.random.default_rng([self.seed, self.epoch, number + 1, *([self.rank] if self.rank else [])])
            if getattr(self.transform, "with_targets", False):
                x, y = self.transform(x, y, rng)
            else:
                x = self.transform(x, rng)
        return x, y

    def __iter__(self):
        order, count = self.order(), len(self)
        if not self.workers:
            while self.position < count:
                batch = self._batch(order, self.position)
                self.position += 1
                yield batch
        else:
            with ThreadPoolExecutor(self.workers) as pool:
                ahead: collections.deque = collections.deque()
                following = self.position
                try:
                    while self.position < count:
                        while following < count and len(ahead) < 2 * self.workers:
                            ahead.append(pool.submit(self._batch, order, following))
                            following += 1
                        batch = ahead.popleft().result()
                        self.position += 1
                        yield batch
                finally:
                    for future in ahead:
                        future.cancel()
        self.epoch += 1
        self.position = 0

    def state_dict(self):
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state):
        self.seed, self.epoch, self.position = int(state["seed"]), int(state["epoch"]), int(state["position"])
