"""Failing allocations, threads and system calls, injected into a Python process by tests/c/faults.c.

``python tests/reliability/faults.py memory MOST NAME...`` fails every allocation of a function in turn, forward and backward, once and for
ever; ``save FOLDER`` every system call of a save. Both print what they did and end with 1 when a promise was broken.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import traceback
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEMORY, THREAD, OPEN, WRITE, FSYNC, RENAME, LINK, UNLINK, CLOSE, SHORT_WRITE, INTERRUPTED = range(11)
NAMES = ("memory", "thread", "open", "write", "fsync", "rename", "link", "unlink", "close", "short write", "interrupted write")


def build(folder):
    """The library to preload, or None and why there is none."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if sys.platform != "linux" or not compiler:
        return None, "needs Linux and a C compiler"
    if os.environ.get("LD_PRELOAD"):
        return None, "another library is preloaded"
    target = Path(folder) / "faults.so"
    command = [*compiler.split(), "-shared", "-fPIC", "-O1", "-std=gnu11", str(ROOT / "tests/c/faults.c"), "-o", str(target), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    return (target, None) if done.returncode == 0 else (None, f"the library does not build: {done.stderr[-200:]}")


def run(library, *arguments, timeout=600):
    """This file as a program with the library preloaded."""
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc", "CNNPY_NUM_THREADS": "2"}
    code = f"import runpy, sys; sys.path.append({str(ROOT)!r}); sys.argv[0] = 'faults'; runpy.run_module('tests.reliability.faults', run_name='__main__')"
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]  # the installed package, the tests of this folder
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)


class Faults:
    """The preloaded library, armed for calls of this thread."""

    def __init__(self):
        self._library = ctypes.CDLL(None)
        self._library.fault_disarm.restype = ctypes.c_long
        self._library.fault_main_thread()
        self.error = ctypes.c_int.in_dll(self._library, "fault_error")
        self.least = ctypes.c_size_t.in_dll(self._library, "fault_least")

    def call(self, kind, number, forever, function):
        """(result, exception, calls of that kind)."""
        result = error = None
        self._library.fault_arm(kind, number, forever)
        try:
            result = function()
        except BaseException as raised:
            error = raised
        calls = self._library.fault_disarm()
        return result, error, calls


def _arrays(value):
    import numpy as np

    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (tuple, list)):
        for v in value:
            yield from _arrays(v)


def digest(value):
    """A hash of all arrays inside."""
    sha = hashlib.sha256()
    for a in _arrays(value):
        sha.update(f"{a.dtype}{a.shape}".encode())
        sha.update(a.tobytes())
    return sha.hexdigest()


def _of_others(error):
    """Whether NumPy or the interpreter raised something else: NumPy's iterators lose the exception, and a lock without memory is a RuntimeError."""
    if isinstance(error, RuntimeError) and str(error) == "can't allocate lock":
        return True
    if not isinstance(error, SystemError) or "without" not in str(error):
        return False
    last = traceback.extract_tb(error.__traceback__)[-1]
    return "_core." not in (last.line or "_core.")


def every_allocation(faults, name, call, given, most, stride=1, counted=True):
    """Fails allocation 1, 2, ... of a call until none is left; returns how many failed. Anything but MemoryError, or a changed argument, raises."""
    from cnnpy import _core

    for _ in range(3):
        expected = digest(call())
    before, points = digest(given), 0
    for forever in (0, 1):
        faults.least.value = 512 if forever else 0
        for number in range(1, most + 1, stride):
            _core.trim_memory()  # a kept buffer would spare the call an allocation
            used = _core.configuration()["memory_used"]
            result, error, calls = faults.call(MEMORY, number, forever, call)
            where = f"{name}: memory {number}{' and all after it' if forever else ''}"
            if error is not None and not isinstance(error, MemoryError) and not _of_others(error):
                raise AssertionError(f"{where}: {type(error).__name__}: {error}")
            if error is None and digest(result) != expected:
                raise AssertionError(f"{where}: another result")
            if digest(given) != before:
                raise AssertionError(f"{where}: an argument changed")
            result = error = None
            if counted and _core.configuration()["memory_used"] != used:
                raise AssertionError(f"{where}: {_core.configuration()['memory_used'] - used} bytes of the core were not given back")
            if digest(call()) != expected:
                raise AssertionError(f"{where}: the next call is wrong")
            if calls < number:
                break
            points += 1
    return points


def memory_main(most, names):
    import numpy as np

    from tests.reliability.cases import CASES
    from tests.reliability.flat import FLAT

    faults, total, broken = Faults(), 0, []
    for name in names or sorted(CASES):
        op, rng = FLAT[name], np.random.default_rng([ord(c) for c in name])
        arrays, options = CASES[name](rng, np.float32, small=True)
        y = op.forward(*arrays, **options)
        dy = np.ones_like(y) if isinstance(y, np.ndarray) else None
        calls = [(name, partial(op.forward, *arrays, **options), arrays)]
        if dy is not None:
            calls.append((f"{name}_backward", partial(op.backward, dy, *arrays, **options), (dy, *arrays)))
        for call in calls:
            try:
                total += every_allocation(faults, *call, most)
            except AssertionError as error:
                broken.append(str(error))
    if broken:
        raise SystemExit("\n".join(broken))
    print(f"memory: {total} allocations failed in {len(names) or len(CASES)} functions; each raised MemoryError or was not needed")


def training_main(stride):
    """Every `stride`-th allocation of a forward and backward pass, of an update, of a compiled step's first calls and of inference by a program.

    What the core handed out is not counted here: CPython 3.11 itself loses the arguments of a frame for which it gets no memory.
    """
    import warnings

    import numpy as np

    import cnnpy
    from cnnpy import functional as F
    from cnnpy import models, optim

    warnings.simplefilter("ignore")  # a program for which there is no memory runs eagerly, and says so
    faults, total = Faults(), 0
    x, y = np.random.default_rng(0).normal(size=(4, 1, 28, 28)).astype(np.float32), np.arange(4)

    def gradients():
        model = models.lenet5(rng=0)
        F.cross_entropy(model(cnnpy.Tensor(x)), y).backward()
        return [p.grad for p in model.parameters()]

    def steps():
        model = models.lenet5(rng=0)
        step = cnnpy.compile_step(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
        return [np.float64(step(x, y)) for _ in range(4)] + list(model.state_dict().values())

    def inference():
        predict = cnnpy.compile(models.lenet5(rng=0))
        return [predict(x) for _ in range(3)]

    for name, call in (("gradients", gradients), ("compiled steps", steps), ("compiled inference", inference)):
        total += every_allocation(faults, name, call, (x, y), 10**9, stride, counted=False)
    print(f"training: {total} allocations failed; each raised MemoryError or was not needed")


def threads_main():
    """The pool's threads cannot be made, at its first use: the calling thread does all the work, to the same bits."""
    import numpy as np

    import cnnpy
    from cnnpy import functional as F

    faults, rng = Faults(), np.random.default_rng(0)
    x, w = rng.normal(size=(4, 64, 40, 40)).astype(np.float32), rng.normal(size=(64, 64, 3, 3)).astype(np.float32)
    cnnpy.set_num_threads(4)
    alone, error, calls = faults.call(THREAD, 1, 1, lambda: F.conv2d(x, w, padding=1))
    if error is not None or not calls:
        raise AssertionError(f"threads: {calls} were asked for, {error!r}")
    if digest(F.conv2d(x, w, padding=1)) != digest(alone):
        raise AssertionError("threads: another result")
    print(f"threads: {calls} could not be made; the result has the same bits")


def planted_main():
    """An allocation whose failure nobody looks at must be found."""
    import numpy as np

    faults, kept = Faults(), {}

    def careless():
        try:
            return np.zeros(3000)
        except MemoryError:
            return np.full(2, kept.setdefault("n", 1.0))

    try:
        every_allocation(faults, "planted", careless, (), 20)
    except AssertionError as error:
        print(f"planted: found: {error}")
        return
    raise AssertionError("planted: not found")


def save_main(folder):
    """Every system call of io.save fails in turn, with ENOSPC and EIO: the old file or the new one is whole, nothing is left beside it."""
    import errno

    import numpy as np

    from cnnpy import io

    faults, path, points = Faults(), Path(folder) / "model.safetensors", 0
    old, new = ({"w": np.full((300, 70), v, np.float32), "b": np.full(3, v)} for v in (1.0, 2.0))
    for number in (errno.ENOSPC, errno.EIO):
        faults.error.value = number
        for kind in (OPEN, WRITE, FSYNC, RENAME, UNLINK, CLOSE, SHORT_WRITE, INTERRUPTED):
            for forever in (0, 1):
                for count in range(1, 100):
                    if kind == SHORT_WRITE and forever and count > 1:
                        break
                    io.save(old, path)
                    _, error, calls = faults.call(kind, count, forever and kind != INTERRUPTED, lambda: io.save(new, path))
                    where = f"save: {NAMES[kind]} {count}{' and all after it' if forever else ''}"
                    value = float(io.load(path)["w"][0, 0])
                    if error is None and value != 2:
                        raise AssertionError(f"{where}: it returned, the file is the old one")
                    if error is not None and not isinstance(error, OSError):
                        raise AssertionError(f"{where}: {type(error).__name__}: {error}")
                    if error is not None and (
                        kind in (SHORT_WRITE, INTERRUPTED) or (path.name not in str(error) and str(folder) not in str(error))
                    ):
                        raise AssertionError(f"{where}: the error does not name the file: {error!r}")
                    if error is not None and value == 2 and kind not in (CLOSE, FSYNC, OPEN):
                        raise AssertionError(f"{where}: it failed, the file is the new one")
                    left = sorted(p.name for p in Path(folder).iterdir() if p != path)
                    if left and kind != UNLINK:
                        raise AssertionError(f"{where}: {left} is left")
                    for name in left:
                        os.unlink(Path(folder) / name)
                    if calls < count:
                        break
                    points += 1
    print(f"save: {points} system calls failed; the old file or the new one was whole each time")


if __name__ == "__main__":
    if sys.argv[1] == "memory":
        memory_main(int(sys.argv[2]), sys.argv[3:])
    elif sys.argv[1] == "planted":
        planted_main()
    elif sys.argv[1] == "threads":
        threads_main()
    elif sys.argv[1] == "training":
        training_main(int(sys.argv[2]))
    else:
        save_main(sys.argv[2])
