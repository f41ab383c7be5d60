"""The figures of reliability, measured: ``python -m tests.reliability quick|full|long [F3 F17 ...]``, and ``report``.

A figure is a set of tests and what they count. Each run prints it, and keeps figure, value, date and machine in ``results.json``; ``report`` writes
the last result of every figure into ``tests/RELIABILITY.md``: those that failed, and those that were never run, too.
"""

import json
import os
import platform
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.reliability import coverage, mutate

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results.json"
R = "tests/reliability"

# figure: (promise and target, tests or None, lines of their output that hold the count, what is missing)
FIGURES = {
    "F1": ("exact agreement with the naive loops: 0 differing bits", [f"{R}/test_exact.py", f"{R}/test_grid.py", f"{R}/test_convolution_driver.py::test_random_problems"], r"(grid|driver): .*", ""),
    "F2": ("rounding error within the derived bounds, functions within 4 ulp", [f"{R}/test_special_values.py", f"{R}/test_exact.py", "tests/functional/test_winograd.py"], r"ulp.*|all floats.*", ""),
    "F3": ("gradients equal central differences below 1e-7; adjoint exact on whole numbers", [f"{R}/test_gradients.py"], None, ""),
    "F4": ("ONNX node vectors: right, or refused in a sentence", ["tests/io/test_onnx_vectors.py"], r"onnx vectors: .*", "nodes that import_onnx does not know; models are compared with onnxruntime too (tests/io/test_onnx.py)"),
    "F5": ("random problems under sanitizers: 0 reports, 0 suppressions", [f"{R}/test_convolution_driver.py::test_random_problems_under_the_sanitizers", f"{R}/test_convolution_driver.py::test_the_driver_finds_a_planted_fault", f"{R}/test_convolution_driver.py::test_fuzzed"], r"driver: .*", "convolutions alone; the whole suite runs under the sanitizers in .ci/run"),
    "F6": ("bad arguments: the right class, naming the argument", [f"{R}/test_arguments.py"], None, ""),
    "F7": ("C coverage: lines 100 %, branches 95 %", None, None, "clang counts conditions of the source; by the quick tier on every instruction set"),
    "F8": ("Python coverage: lines 99 %, branches 97 %", None, None, ""),
    "F9": ("mutants killed: C 85 %, Python 90 %", None, None, "a random sample; C by its .c files"),
    "F10": ("every allocation fails in turn: MemoryError, nothing changed, nothing lost", [f"{R}/test_faults.py"], r"faults: .*", ""),
    "F11": ("no byte, block or reference is left by a call or an error", [f"{R}/test_leaks.py"], None, ""),
    "F12": ("same bits for any number of threads", [f"{R}/test_bits.py"], None, ""),
    "F13": ("no data race in the pool, nor in any kernel", [f"{R}/test_pool.py", f"{R}/test_convolution_driver.py::test_no_data_race", f"{R}/test_races.py"], r"(driver:|race detector,) .*", ""),
    "F14": ("kill -9 while saving: 0 torn, 0 acknowledged lost", [f"{R}/test_kill.py"], r"kill.*", ""),
    "F15": ("states after a power loss: the old or the new file", [f"{R}/test_power_loss.py"], r"power loss: .*", ""),
    "F16": ("every system call of a save fails: the old file whole, the path named", [f"{R}/test_faults.py::test_every_system_call_of_a_save"], None, ""),
    "F17": ("malformed files: one ValueError, no hang", ["tests/io", "tests/data"], r"(npz|pth|safetensors|onnx|idx): .*", "ONNX, safetensors, .pth, IDX and CIFAR by mutation in Python; no C fuzzer"),
    "F18": ("killed and resumed: the weights of an unbroken run, to the bit", [f"{R}/test_kill.py::test_killed_and_resumed"], r"resumed.*", ""),
    "F19": ("fork after and during use: no hang", [f"{R}/test_bits.py::test_a_hundred_forked_children_finish", f"{R}/test_bits.py::test_multiprocessing"], None, ""),
    "F20": ("8 Python threads: no wrong result", [f"{R}/test_bits.py::test_python_threads", f"{R}/test_bits.py::test_a_soak_of_python_threads"], r"soak: .*", ""),
    "F21": ("Ctrl-C within 0.5 s, state before or after a step", [f"{R}/test_signals.py", "tests/compiler/test_whole_or_not.py"], r"signals: .*", ""),
    "F22": ("more than 2^31 elements: the right answer", [f"{R}/test_large.py"], r"large: .*", "real arrays in the long tier only"),
    "F23": ("the floating-point state of the process stays, ours does not follow it", [f"{R}/test_special_values.py::test_flush_to_zero_of_others_does_not_reach_us"], None, ""),
    "F24": ("NaN, infinities, subnormals, -0", [f"{R}/test_special_values.py"], None, ""),
    "F25": ("an MPI rank raises, is killed, is stopped: all end", ["tests/test_dist.py"], None, ""),
    "F26": ("lines of tests, tests, run time", None, None, ""),
}  # fmt: skip


def processor():
    try:
        return re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def commit():
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "-"


def lines_of(pattern):
    return sum(len(p.read_text(errors="replace").splitlines()) for p in ROOT.glob(pattern))


def measure(name, tier):
    """The result of a figure: a dict with verdict, value and where it came from."""
    _, tests, pattern, missing = FIGURES[name]
    row = {"tier": tier, "date": datetime.now(UTC).strftime("%Y-%m-%d"), "commit": commit(), "cpu": processor()}
    if name == "F26":
        tests_, c, python = lines_of("tests/**/*.py"), lines_of("csrc/**/*.[ch]"), lines_of("cnnpy/**/*.py")
        return row | {"verdict": "PASS", "value": f"{tests_:,} lines of tests for {c:,} of C and {python:,} of Python", "seconds": 0}
    if name in ("F7", "F8") and tier != "quick":
        begin = time.monotonic()
        measured, targets = (coverage.of_c(), (100, 95)) if name == "F7" else (coverage.of_python(), (99, 97))
        verdict, value = coverage.figure(measured, *targets)
        for path, numbers in sorted(measured[-1].items(), key=lambda item: -len(item[1])):
            print("did not run:", path, *numbers, file=sys.stderr)
        return row | {"verdict": verdict, "value": value, "seconds": round(time.monotonic() - begin)}
    if name == "F9" and tier != "quick":
        begin = time.monotonic()
        figures = [mutate.run(language, 24 if tier == "full" else 300)[:2] for language in ("c", "python")]
        good = all(killed >= share * count for (killed, count), share in zip(figures, (0.85, 0.9), strict=True))
        value = ", ".join(f"{what} {k} of {n} killed" for what, (k, n) in zip(("C", "Python"), figures, strict=True))
        return row | {"verdict": "PASS" if good else "FAIL", "value": value, "seconds": round(time.monotonic() - begin)}
    if tests is None:
        return row | {"verdict": "NOT RUN", "value": missing, "seconds": 0}
    absent = [t for t in tests if not (ROOT / t.split("::")[0]).exists()]
    if absent:
        return row | {"verdict": "NOT RUN", "value": f"{', '.join(absent)} is not written", "seconds": 0}
    begin = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "CNNPY_TIER": tier})
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-200:]
    counts = [m[0].lstrip(".") for m in re.finditer(pattern, done.stdout)] if pattern else []
    value = "; ".join([*dict.fromkeys(counts), re.sub(r" in [\d.]+s.*", "", last)])
    verdict = "FAIL" if done.returncode else "PASS" if "passed" in last else "NOT RUN"
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-2000:], file=sys.stderr)
    return row | {"verdict": verdict, "value": value[:300], "seconds": round(time.monotonic() - begin)}


def report(results):
    text = [
        "# Reliability: the figures",
        "",
        "What the project promises, and what was measured last. Made by `python -m tests.reliability report`; a figure is measured by",
        "`python -m tests.reliability quick|full|long F10`. `quick` is what `pytest` does, `full` what CI adds, `long` takes hours.",
        "Detectors are tried on planted faults in the same tests: an over-read, a leak, a wrong gradient, a careless allocation, a file that executes.",
        "Random tests are seeded by their names. Nothing is suppressed in the sanitizers' and the analyzer's reports.",
        "",
        "| | promise and target | result | value | tier | date, commit | not covered |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (title, *_, missing) in FIGURES.items():
        row = results.get(name)
        if row is None:
            text.append(f"| {name} | {title} | NEVER RUN | | | | {missing} |")
            continue
        value = row["value"] if row["verdict"] != "NOT RUN" else ""
        text.append(
            f"| {name} | {title} | {row['verdict']} | {value.replace('|', '/')} ({row['seconds']} s) | {row['tier']} | {row['date']}, {row['commit']} | {missing} |"
        )
    machines = sorted({row["cpu"] for row in results.values()})
    text += ["", f"Machine: {'; '.join(machines)}.", ""]
    (ROOT / "tests/RELIABILITY.md").write_text("\n".join(text))


def main(arguments):
    if not arguments or arguments[0] not in ("quick", "full", "long", "report"):
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    failed = 0
    if arguments[0] != "report":
        names = arguments[1:] or list(FIGURES)
        unknown = [n for n in names if n not in FIGURES]
        if unknown:
            print(f"unknown figure {unknown[0]}, expected F1 to F26", file=sys.stderr)
            return 2
        for name in names:
            row = measure(name, arguments[0])
            failed += row["verdict"] == "FAIL"
            results[name] = row
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{name:4} {row['verdict']:8} {row['seconds']:5} s  {row['value']}", flush=True)
    report(results)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
