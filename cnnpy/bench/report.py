"""The tables that ``cnnpy bench`` prints."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys

import numpy as np

from cnnpy.bench import workloads as W
from cnnpy.bench.harness import Side, measure

__all__ = ["run"]

NAMES = ("machine", "conv", "lenet", "calls")


def _header(against):
    from cnnpy.functional.runtime import config

    c = config()
    versions = [f"{p} {importlib.metadata.version(p)}" for p in ("numpy", *against)]
    print(
        f"cnnpy on {c['isa']}, {c['processors']} processors, L1 {c['l1'] >> 10} KB, L2 {c['l2'] >> 10} KB, L3 {c['l3'] >> 10} KB; {', '.join(versions)}"
    )
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
            print(f"huge pages: {file.read().strip()}")
    except OSError:
        pass


def _fresh(code, runs=11):
    """Median seconds that `code` prints in fresh interpreters."""
    times = [
        float(subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout) for _ in range(runs)
    ]
    return float(np.median(times))


def _machine(sides, threads):
    ours = [s for s in sides if s.name == "cnnpy"]
    t, _ = measure(ours, ("probe",), threads)
    from cnnpy.functional.runtime import config

    lanes = {"base": 4, "avx2": 8, "avx512": 16}[config()["isa"]]
    peak = 2 * 200_000 * 8 * lanes * threads / t["cnnpy"]
    t, _ = measure(ours, ("stream",), threads, turns=3)
    print(
        f"{threads} threads: multiply-add ceiling {peak / 1e9:.0f} GF/s; stream (read + write, one thread) {2 * 4 * 2**24 / t['cnnpy'] / 1e9:.0f} GB/s"
    )
    return peak


def _conv(sides, threads, peak):
    print(
        f"\nconvolution, {threads} threads: GF/s (fraction of the ceiling)"
        + ("; ratio = best peer's time / ours" if len(sides) > 1 else "")
    )
    for shape in W.CONV:
        n, c, k, size, window, stride, groups = shape
        row = f"n{n:<3d} {c:4d}->{k:<4d} @{size:<3d} k{window} s{stride} g{groups:<3d}"
        for which in W.PASSES:
            times, values = measure(sides, ("conv", shape, which), threads, turns=6)
            speed = W.conv_flops(*shape) / times["cnnpy"]
            row += f" | {which:7s} {speed / 1e9:4.0f} ({speed / peak:.2f})"
            if len(times) > 1:
                best = min((t, name) for name, t in times.items() if name != "cnnpy")
                row += f" {best[0] / times['cnnpy']:5.2f}x {best[1].split()[-1]}"
                _agree(values)
        print(row, flush=True)


def _agree(values, bound=1e-3):
    ours = values["cnnpy"]
    for name, theirs in values.items():
        worst = np.max(np.abs(ours - theirs)) / max(1e-6, float(np.max(np.abs(ours))))
        if not worst < bound:
            raise RuntimeError(f"bench: {name} and cnnpy disagree by {worst:.2g}")


def _lenet(sides, threads, peak):
    for batch in (1, 64):
        times, values = measure(sides, ("lenet", batch), threads)
        row = (
            f"LeNet-5 training step (forward, backward, SGD with momentum), batch {batch}, {threads} threads: {times['cnnpy'] * 1e3:.3f} ms"
        )
        for name, t in times.items():
            if name != "cnnpy":
                row += f"; {name} {t * 1e3:.3f} ms, {t / times['cnnpy']:.2f}x"
        if values:
            _agree({k: np.atleast_1d(v) for k, v in values.items()})
        print(row, flush=True)


def _calls(sides):
    ours = [s for s in sides if s.name == "cnnpy"]
    for name in W.CALLS:
        t, _ = measure(ours, ("call", name), 1)
        print(f"{name}: {t['cnnpy'] * 1e3:.2f} us a call")
    code = "import numpy, time; t = time.perf_counter(); import cnnpy; print(time.perf_counter() - t)"
    print(f"import cnnpy after numpy: {_fresh(code) * 1e3:.1f} ms (median of 11 fresh interpreters)")
    import cnnpy

    folder = os.path.dirname(cnnpy.__file__)
    size = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(folder) for f in files if not f.endswith(".pyc"))
    print(f"installed size: {size / 2**20:.2f} MB")


def run(name="all", against=(), thread_counts=None):
    """Measures and prints.

    Parameters
    ----------
    name : {'all', 'machine', 'conv', 'lenet', 'calls'}
    against : sequence of str
        Peers to run beside: 'torch' (both memory formats).
    thread_counts : sequence of int, optional
        1 and all allowed by default.
    """
    if name != "all" and name not in NAMES:
        raise ValueError(f"bench: {name!r} is not known, expected all or one of {', '.join(NAMES)}")
    for peer in against:
        if peer != "torch":
            raise ValueError(f"bench: peer {peer!r} is not known, expected torch")
        if importlib.util.find_spec(peer) is None:
            raise ImportError(f"bench: needs {peer}; install it with: pip install 'cnnpy[bench]'")
    from cnnpy.functional.runtime import num_threads

    counts = thread_counts or sorted({1, num_threads()})
    _header(against)
    sides = [Side("cnnpy"), *(Side(s) for s in W.SIDES[1:] if "torch" in against)]
    try:
        for threads in counts:
            peak = _machine(sides, threads)
            if name in ("all", "conv"):
                _conv(sides, threads, peak)
            if name in ("all", "lenet"):
                _lenet(sides, threads, peak)
        if name in ("all", "calls"):
            _calls(sides)
    finally:
        for side in sides:
            side.close()
