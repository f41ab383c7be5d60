"""Turns: one process a side, the parent lets one of them work at a time."""

import contextlib
import gc
import multiprocessing
import time

import numpy as np

__all__ = ["Side", "measure"]

TURN_SECONDS = 0.06


def _nothing() -> object:
    raise RuntimeError("nothing was made yet")


def _resident(reset=False, peak=False):
    """Bytes in memory now, or the most since the last reset; 0 where the system does not say."""
    try:
        if reset:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        with open("/proc/self/status") as file:
            rows = dict(line.split(":", 1) for line in file)
        return int(rows["VmHWM" if peak else "VmRSS"].split()[0]) * 1024
    except (OSError, KeyError):
        return 0


def _serve(connection):
    """A side's process: ('make', side, workload, threads) -> ok; ('turn',) -> times of the repetitions; ('value',) -> the result of the fifth call;
    ('memory',) -> the most bytes that the process held since 'make' beyond those of before."""
    from cnnpy.bench.workloads import make

    call, before = _nothing, 0
    while True:
        try:
            message = connection.recv()
        except EOFError:
            return
        try:
            if message[0] == "make":
                call = _nothing
                gc.collect()
                before = _resident(reset=True)
                call = make(*message[1:])
                for _ in range(4):
                    call()
                connection.send(None)
            elif message[0] == "memory":
                connection.send(_resident(peak=True) - before)
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


def measure(sides, workload, threads, turns=10, memory=None):
    """{side name: seconds, the minimum over all repetitions of all turns}, and {side name: result}. Sides that lack the workload are left out.

    memory: a dict that gets the most bytes that each side's process held beyond what it held before."""
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
    if memory is not None:
        memory.update({side.name: side.ask("memory") for side in sides})
    return {name: min(t) for name, t in times.items()}, values
