"""Turns: one process a side, the parent lets one of them work at a time."""

import contextlib
import multiprocessing
import time

import numpy as np

__all__ = ["Side", "measure"]

TURN_SECONDS = 0.06


def _serve(connection):
    """A side's process: ('make', side, workload, threads) -> ok; ('turn',) -> times of the repetitions; ('value',) -> the result."""
    from cnnpy.bench.workloads import make

    def call() -> object:
        raise RuntimeError("nothing was made yet")

    while True:
        try:
            message = connection.recv()
        except EOFError:
            return
        try:
            if message[0] == "make":
                call = make(*message[1:])
                for _ in range(3):
                    call()
                connection.send(None)
            elif message[0] == "value":
                result = call()
                connection.send(np.asarray(result, np.float32))
            else:
                call()
                times: list = []
                end = time.perf_counter() + TURN_SECONDS
                while not times or time.perf_counter() < end:
                    begin = time.perf_counter()
                    call()
                    times.append(time.perf_counter() - begin)
                connection.send(times)
        except NotImplementedError as error:
            connection.send(error)
        except Exception as error:
            connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


class Side:
    """One library in a process of its own."""

    def __init__(self, name):
        self.name = name
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, *message):
        self.connection.send(message)
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self.connection.close()
        self.process.join(5)


def measure(sides, workload, threads, turns=10):
    """{side name: seconds, the minimum over all repetitions of all turns}, and {side name: result}. Sides that lack the workload are left out."""
    able = []
    for side in sides:
        with contextlib.suppress(NotImplementedError):
            side.ask("make", side.name, workload, threads)
            able.append(side)
    sides = able
    values = {side.name: side.ask("value") for side in sides} if len(sides) > 1 else {}
    times: dict = {side.name: [] for side in sides}
    for _ in range(turns):
        for side in sides:
            times[side.name] += side.ask("turn")
            time.sleep(0.002)  # this side's spinning threads come to rest
    return {name: min(t) for name, t in times.items()}, values
