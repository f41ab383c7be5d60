"""Data-parallel training over MPI: every process takes its share of each batch, gradients are added, all processes make the same update."""

import hashlib
import json
import sys
import time

import numpy as np

__all__ = ["MPIReducer"]


def _mpi():
    try:
        from mpi4py import MPI
    except ImportError:
        raise ImportError("MPIReducer: needs mpi4py and an MPI; install both with: pip install 'cnnpy[mpi]'") from None
    return MPI


class MPIReducer:
    """For ``train.fit(reducer=...)`` in every process of an ``mpiexec -n R`` job.

    A step takes ``R * batch_size`` samples, process r the r-th of R equal parts. With n_r samples there and gradient g_r of their mean loss, every
    process gets ``g = sum_r (n_r / n) g_r``: the gradient of one process with the whole batch, within rounding. What a layer computes over its batch (the
    statistics of batch normalisation) is computed over the own part, as is usual; running statistics are those of process 0.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        COMM_WORLD by default; a copy of it is used.
    ordered : bool
        Add in the order of ranks, by every process alike: the same bits at every run, whatever the MPI does. Without it the MPI chooses the order.
    timeout : float
        Seconds to wait for the others. A process that is stopped or hangs ends the job after it.

    Attributes
    ----------
    rank, size : int

    Notes
    -----
    Gradients travel in one flat buffer a dtype, after the backward pass: for the networks here the sum takes well under a hundredth of a step within a
    machine, so overlapping it would gain nothing. A process that raises prints its rank, step and reason and ends the whole job.

    Raises
    ------
    ImportError
        Without mpi4py; the sentence names the extra.
    """

    def __init__(self, comm=None, *, ordered=False, timeout=60.0):
        self._MPI = _mpi()
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
            raise ValueError(f"MPIReducer: timeout is {timeout!r}, expected a number of seconds above 0")
        if not isinstance(ordered, bool):
            raise TypeError(f"MPIReducer: ordered is {type(ordered).__name__}, expected True or False")
        self.comm = (self._MPI.COMM_WORLD if comm is None else comm).Dup()
        self.ordered, self.timeout, self.step = ordered, float(timeout), 0
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()

    def local_size(self):
        """How many of the processes run on this machine."""
        return self.comm.Split_type(self._MPI.COMM_TYPE_SHARED).Get_size()

    def _wait(self, request, what):
        """Polls, sleeping longer the longer it takes, up to the time limit."""
        begin, pause = time.monotonic(), 0.0
        while not request.Test():
            waited = time.monotonic() - begin
            if waited > self.timeout:
                self.abort(TimeoutError(f"the others did not come to {what} within {self.timeout:g} s"))
            if waited > 0.002:
                pause = min(pause + 1e-4, 0.005)
            time.sleep(pause)

    def gather(self, array, what="gather"):
        """The arrays of all ranks, shape (size, *array.shape); all must have the same shape and dtype."""
        array = np.ascontiguousarray(array)
        result = np.empty((self.size, *array.shape), array.dtype)
        self._wait(self.comm.Iallgather(array, result), what)
        return result

    def sum(self, array, what="sum"):
        """The sum over ranks, in their order if ``ordered``."""
        array = np.ascontiguousarray(array)
        if self.ordered:
            parts = self.gather(array, what)
            total = parts[0].copy()
            for part in parts[1:]:
                total += part
            return total
        total = np.empty_like(array)
        self._wait(self.comm.Iallreduce(array, total, op=self._MPI.SUM), what)
        return total

    def broadcast(self, arrays, what="broadcast"):
        """Overwrites the arrays by those of rank 0."""
        for array in arrays:
            flat = np.ascontiguousarray(array)
            self._wait(self.comm.Ibcast(flat, root=0), what)
            if flat is not array:
                array[...] = flat

    def agree(self, what, value):
        """Raises on every rank if a value (anything JSON or bytes) differs between ranks."""
        content = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, default=str).encode()
        digest = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
        digests = self.gather(digest, what)
        different = [r for r in range(self.size) if not np.array_equal(digests[r], digests[0])]
        if different:
            raise ValueError(f"fit: {what} of rank {', '.join(map(str, different))} is not that of rank 0")

    def agree_on_weights(self, model):
        """Raises if the parameters of the ranks differ in a bit: before a checkpoint is written."""
        hashes = [hashlib.sha256(np.ascontiguousarray(p._data).data).hexdigest() for p in model.parameters()]
        self.agree("weights", hashes)

    def reduce(self, parameters, samples):
        """Replaces every gradient by the mean over all samples of the step.

        Parameters
        ----------
        parameters : list of Parameter
        samples : int
            How many samples this rank's gradients are the mean of; 0 if it had none.

        Returns
        -------
        int
            Samples of all ranks.
        """
        counts = self.gather(np.array([samples], np.int64), f"step {self.step + 1}")[:, 0]
        total = int(counts.sum())
        share = samples / max(1, total)
        for dtype in sorted({p.dtype for p in parameters}, key=str):
            group = [p for p in parameters if p.dtype == dtype]
            sizes = [p._data.size for p in group]
            flat = np.zeros(sum(sizes) + len(group), dtype)  # the gradients, then a 1 for every parameter that has one
            begin = 0
            for i, (p, size) in enumerate(zip(group, sizes, strict=True)):
                if p.grad is not None and samples:
                    np.multiply(p.grad, share, out=flat[begin : begin + size].reshape(p.shape), casting="same_kind")
                    flat[sum(sizes) + i] = 1
                begin += size
            flat = self.sum(flat, f"step {self.step + 1}")
            begin = 0
            for i, (p, size) in enumerate(zip(group, sizes, strict=True)):
                p.grad = flat[begin : begin + size].reshape(p.shape) if flat[sum(sizes) + i] else None
                begin += size
        self.step += 1
        return total

    def abort(self, error):
        """Prints this rank's reason and ends the processes of the whole job."""
        print(f"rank {self.rank} of {self.size}, step {self.step}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        self.comm.Abort(1)
