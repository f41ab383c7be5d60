"""The convolution kernels without Python: random problems against naive loops under the sanitizers and the race detector, and fuzzed."""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [*sorted((ROOT / "csrc/kernels").glob("*.c")), *sorted((ROOT / "csrc/base").glob("*.c"))]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
GCC, CLANG = shutil.which("gcc"), shutil.which("clang")
pytestmark = pytest.mark.skipif(os.environ.get("CNNPY_TIER", "quick") == "quick", reason="the kernels compiled again: full tier only")


def build(folder, compiler, *flags, link=(), planted=False):
    """The driver, its kernels compiled with `flags`; skips where the compiler lacks them."""
    if not compiler:
        pytest.skip("the compiler is not installed")
    common = [compiler, "-std=gnu11", "-O1", "-g", "-pthread", "-ffp-contract=fast", *flags]

    def compile_one(source):
        rename = ["-Dcnn_parallel_for=pool_parallel_for"] if source.name == "parallel.c" else []
        target = folder / f"{source.stem}.o"
        subprocess.run(
            [*common, *rename, "-c", str(source), "-o", str(target)], check=True, capture_output=True, text=True, env=ENVIRONMENT
        )
        return str(target)

    program = folder / "convolution"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, SOURCES))
    main = [*(["-DPLANTED"] if planted else []), str(ROOT / "tests/c/convolution.c")]
    try:
        subprocess.run(
            [*common, *link, *main, *objects, "-lm", "-o", str(program)], check=True, capture_output=True, text=True, env=ENVIRONMENT
        )
    except subprocess.CalledProcessError as error:
        if "cannot find" in error.stderr or "unsupported" in error.stderr:
            pytest.skip(f"the compiler has no such detector: {error.stderr[-200:]}")
        raise
    return program


def run(program, *arguments, seconds=36_000):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=seconds, env=ENVIRONMENT)


def test_random_problems_under_the_sanitizers(tmp_path, budget):
    count = budget(quick=0, full=5_000, long=1_000_000)
    done = run(build(tmp_path, GCC, "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"), count, 3)
    assert done.returncode == 0 and done.stdout == f"{count} problems, 0 wrong\n", done.stderr[-3000:]
    print(f"driver: {done.stdout.strip()} under the sanitizers")


def test_random_problems(tmp_path, budget):
    count = budget(quick=0, full=20_000, long=500_000)
    done = run(build(tmp_path, GCC, "-O2"), count, 2, 7)
    assert done.returncode == 0 and done.stdout == f"{count} problems, 0 wrong\n", done.stderr[-3000:]
    print(f"driver: {done.stdout.strip()}")


def test_the_driver_finds_a_planted_fault(tmp_path):
    done = run(build(tmp_path, GCC, planted=True), 200, 1)
    assert done.returncode == 1 and re.fullmatch(r"200 problems, [1-9]\d* wrong\n", done.stdout), done


def test_no_data_race(tmp_path, budget):
    count = budget(quick=0, full=500, long=20_000)
    done = run(build(tmp_path, GCC, "-fsanitize=thread"), count, 4)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("the race detector does not run on this kernel's memory layout")
    assert done.returncode == 0 and done.stdout == f"{count} problems, 0 wrong\n", done.stderr[-3000:]
    print(f"driver: {done.stdout.strip()} under the race detector")


def test_fuzzed(tmp_path, budget):
    """libFuzzer looks for inputs that reach new code. No memory for its corpus but the process's own."""
    inputs = budget(quick=0, full=1200, long=50_000)
    flags = ("-DFUZZER", "-fsanitize=fuzzer-no-link,address,undefined", "-fno-sanitize-recover=all")
    program = build(tmp_path, CLANG, *flags, link=("-fsanitize=fuzzer",))
    done = run(program, f"-runs={inputs}", "-max_len=4096", "-len_control=0", "-seed=1", f"-artifact_prefix={tmp_path}/")
    assert done.returncode == 0, done.stderr[-3000:]
    runs = int(re.search(r"Done (\d+) runs", done.stderr)[1])
    assert runs >= inputs
    print(f"driver: {runs} fuzzed inputs")
