"""The tables that ``cnnpy bench`` prints."""

import contextlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys

import numpy as np

from cnnpy.bench import families, networks, sequences, small, training
from cnnpy.bench import workloads as W
from cnnpy.bench.harness import Side, measure

__all__ = ["run"]

NAMES = ("machine", "conv", "families", "small", "training", "sequences", "models", "lenet", "calls")
PEERS = tuple(W.SIDES)


def _header(against):
    from cnnpy.functional.runtime import config

    c = config()
    versions = [f"{p} {importlib.metadata.version(p)}" for p in dict.fromkeys(("numpy", *(a.split("-")[0] for a in against)))]
    print(
        f"cnnpy on {c['isa']}, {c['processors']} processors, L1 {c['l1'] >> 10} KB, L2 {c['l2'] >> 10} KB, L3 {c['l3'] >> 10} KB; {', '.join(versions)}"
    )
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
            print(f"huge pages: {file.read().strip()}")
    except OSError:
        pass


def _ours(sides):
    return [s for s in sides if s.name in W.OURS]


def _best(times):
    """(name, seconds) of the fastest peer; None where none has the workload."""
    peers = [(t, name) for name, t in times.items() if name not in W.OURS]
    return min(peers)[::-1] if peers else None


def _fresh(code, runs=21):
    """Median seconds that `code` prints in fresh interpreters, which may keep their bytecode."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-P", "-c", code]
    times = [float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout) for _ in range(runs + 1)]
    return float(np.median(times[1:]))


def _machine(sides, threads):
    """(multiply-adds times two a second, bytes a second) that this machine reaches in registers and in memory."""
    from cnnpy.functional.runtime import fma_probe, num_threads

    one = _ours(sides)[:1]
    times, _ = measure(one, ("probe",), threads)
    peak = 2 * W.PROBE_ROUNDS * fma_probe(1) / num_threads() * threads / times[one[0].name]
    times, _ = measure(one, ("stream",), threads, turns=4)
    stream = 2 * 4 * 2**24 / times[one[0].name]
    print(f"{threads} threads: multiply-add ceiling {peak / 1e9:.0f} GF/s; stream (read + write) {stream / 1e9:.0f} GB/s")
    return peak, stream


def _cells(times, amount, ceiling):
    """One text for each memory order: speed, fraction of the ceiling, ratio to the best peer."""
    best = _best(times)
    for name in W.OURS:
        if name in times:
            speed = amount / times[name]
            ratio = f" {best[1] / times[name]:5.2f}x" if best else ""
            yield f"{speed / 1e9:4.0f} ({speed / ceiling:.2f}){ratio}"


def _conv(sides, threads, limits):
    orders = " / ".join(name.split()[-1] for name in W.OURS)
    print(
        f"\nconvolution, {threads} threads, arrays {orders}: GF/s (fraction of the ceiling)"
        + ("; ratio = best peer's time / ours" if len(sides) > len(W.OURS) else "")
    )
    for shape in W.CONV:
        n, c, k, size, window, stride, groups = shape
        row = f"n{n:<3d} {c:4d}->{k:<4d} @{size:<3d} k{window} s{stride} g{groups:<3d}"
        for which in W.PASSES:
            times, values = measure(sides, ("conv", shape, which), threads, turns=8)
            _agree(values)
            best = _best(times)
            row += f" | {which:7s} " + " / ".join(_cells(times, W.conv_flops(*shape), limits[0])) + (f" {best[0]}" if best else "")
        print(row, flush=True)


def _families(sides, threads, limits):
    print(f"\nother operations on images, {threads} threads: GF/s (of the ceiling) or GB/s of x and y (of the stream), else as above")
    for row in families.ROWS:
        text = f"{row[0]:46s}"
        y_shape = np.asarray(families.make_ours(row, "forward", True)()).shape
        work = families.flops(row, y_shape)
        amount, ceiling = (work, limits[0]) if work else (families.traffic(row, y_shape), limits[1])
        for which in W.PASSES[: 2 if row[3] is None else 3]:
            times, values = measure(sides, ("family", row, which), threads, turns=5)
            _agree(values)
            best = _best(times)
            text += f" | {which:7s} " + " / ".join(_cells(times, amount, ceiling)) + (f" {best[0]}" if best else "")
        print(text, flush=True)


def _small(sides, threads, limits):
    ratios = []
    print(f"\nsmall images, {threads} threads: microseconds; ratio = best peer's time / ours")
    for row in small.ROWS:
        text = f"{row[0]:46s}"
        for which in W.PASSES[: 2 if row[3] is None else 3]:
            times, values = measure(sides, ("family", row, which), threads, turns=3)
            _agree(values)
            best = _best(times)
            for name in W.OURS:
                text += f"{' |' if name == W.OURS[0] else ' /'} {times[name] * 1e6:6.0f}"
                if best:
                    ratios.append((best[1] / times[name], f"{row[0]}, {which}, {name.split()[-1]}"))
                    text += f" {ratios[-1][0]:5.2f}x"
        print(text, flush=True)
    if ratios:
        mean = np.exp(np.mean(np.log([ratio for ratio, _ in ratios])))
        below = [sum(ratio < bound for ratio, _ in ratios) for bound in (1, 0.5)]
        print(f"{len(ratios)} figures: geometric mean {mean:.2f}, {below[0]} below 1, {below[1]} below 0.5; the lowest:")
        for ratio, text in sorted(ratios)[:20]:
            print(f"  {ratio:.2f}x {text}")


def _training(sides, threads, limits):
    print(f"\nforward and backward, and updates of ResNet-18's parameters, {threads} threads: GB/s (of the stream), else as above")
    for row in training.ROWS:
        chosen = [s for s in sides if s.name != W.OURS[1]] if row[2] is None or len(row[2]) < 4 else sides
        times, values = measure(chosen, ("training", row), threads, turns=6)
        if row[1] not in ("dropout", *training.UPDATES):  # other random numbers; as many steps as there was time for
            _agree(values)
        best = _best(times)
        print(f"{row[0]:34s} " + " / ".join(_cells(times, training.traffic(row), limits[1])) + (f" {best[0]}" if best else ""), flush=True)


def _sequences(sides, threads, limits):
    print(f"\nsequences, {threads} threads: GF/s (of the FMA peak); forward, then forward and backward")
    for row in sequences.ROWS:
        text = f"{row[0]:46s}"
        for which in sequences.PASSES:
            chosen = [s for s in sides if s.name != W.OURS[1]]
            times, values = measure(chosen, ("sequence", row, which), threads, turns=6)
            _agree(values)
            best = _best(times)
            text += " | " + " / ".join(_cells(times, sequences.flops(row, which), limits[0])) + (f" {best[0]}" if best else "")
        print(text, flush=True)


def _models(sides, threads, limits):
    print(f"\nnetworks, {threads} threads: milliseconds (peak memory beside the libraries in MiB); ratio = time / ours. Dropout is off.")
    for row in networks.ROWS:
        memory: dict = {}
        fresh = [Side(s.name) for s in sides if s.name != W.OURS[1]]  # what a row before left over would hide what this one takes
        try:
            for side in fresh:
                with contextlib.suppress(NotImplementedError):
                    side.ask("make", side.name, ("network", ("", "lenet5", 1, row[3])), threads)
            times, values = measure(fresh, ("network", row), threads, turns=5, memory=memory)
        finally:
            for side in fresh:
                side.close()
        _agree({k: np.atleast_1d(v) for k, v in values.items()}, 2e-3 if row[3] == "inference" else 1e-2)
        ours = times[W.OURS[0]]
        text = f"{row[0]:24s} {row[3]:9s} cnnpy {ours * 1e3:9.3f} ({memory[W.OURS[0]] / 2**20:5.0f})"
        for name, t in times.items():
            if name not in W.OURS:
                text += f" | {name} {t * 1e3:9.3f} ({memory[name] / 2**20:5.0f}) {t / ours:5.2f}x"
        best = _best(times)
        print(text + (f" | best {best[0]} {best[1] / ours:.2f}x" if best else ""), flush=True)


def _agree(values, bound=2e-3):
    if not values:
        return
    ours = values[W.OURS[0]]
    for name, theirs in values.items():
        worst = np.max(np.abs(ours - theirs)) / max(1e-6, float(np.max(np.abs(ours))))
        if not worst < bound:
            raise RuntimeError(f"bench: {name} and cnnpy disagree by {worst:.2g}")


def _lenet(sides, threads, limits):
    sides = [s for s in sides if s.name != W.OURS[1]]
    for batch in (1, 64):
        times, values = measure(sides, ("lenet", batch), threads)
        ours = times[W.OURS[0]]
        row = f"LeNet-5 training step (forward, backward, SGD with momentum), batch {batch}, {threads} threads: {ours * 1e3:.3f} ms"
        for name, t in times.items():
            if name not in W.OURS:
                row += f"; {name} {t * 1e3:.3f} ms, {t / ours:.2f}x"
        _agree({k: np.atleast_1d(v) for k, v in values.items()})
        print(row, flush=True)


def _calls(sides):
    one = _ours(sides)[:1]
    for name in W.CALLS:
        t, _ = measure(one, ("call", name), 1)
        print(f"{name}: {t[one[0].name] * 1e3:.2f} us a call")
    code = "import numpy, time; t = time.perf_counter(); import cnnpy; print(time.perf_counter() - t)"
    print(f"import cnnpy after numpy: {_fresh(code) * 1e3:.1f} ms (median of 21 fresh interpreters)")
    import cnnpy

    folder = os.path.dirname(cnnpy.__file__)
    size = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(folder) for f in files if not f.endswith(".pyc"))
    print(f"installed size: {size / 2**20:.2f} MB")


def run(name="all", against=(), thread_counts=None):
    """Measures and prints.

    Parameters
    ----------
    name : {'all', 'machine', 'conv', 'families', 'small', 'training', 'sequences', 'models', 'lenet', 'calls'}
    against : sequence of str
        Peers to run beside: 'torch' (both memory formats), 'torch-compile' (networks), 'onnxruntime' (inference), 'openvino' (networks' inference).
    thread_counts : sequence of int, optional
        1 and all allowed by default.
    """
    if name != "all" and name not in NAMES:
        raise ValueError(f"bench: {name!r} is not known, expected all or one of {', '.join(NAMES)}")
    for peer in against:
        if peer not in PEERS:
            raise ValueError(f"bench: peer {peer!r} is not known, expected one of {', '.join(PEERS)}")
        if importlib.util.find_spec(peer.split("-")[0]) is None:
            raise ImportError(f"bench: needs {peer}; install it with: pip install 'cnnpy[bench]'")
    from cnnpy.functional.runtime import num_threads

    counts = thread_counts or sorted({1, num_threads()})
    _header(against)
    sides = [Side(s) for s in (*W.OURS, *(side for peer in against for side in W.SIDES[peer]))]
    tables = {
        "conv": _conv,
        "families": _families,
        "small": _small,
        "training": _training,
        "sequences": _sequences,
        "models": _models,
        "lenet": _lenet,
    }
    try:
        for threads in counts:
            limits = _machine(sides, threads)
            for table, make in tables.items():
                if name in ("all", table):
                    make(sides, threads, limits)
        if name in ("all", "calls"):
            _calls(sides)
    finally:
        for side in sides:
            side.close()
