"""The thread pool by itself, as a plain C program: every block runs exactly once, and before its loop returns."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "tests/c/pool.c", ROOT / "csrc/base/parallel.c", ROOT / "csrc/base/machine.c"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
COMPILER = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    if not COMPILER:
        pytest.skip("no C compiler to build the driver with")

    def build(*flags):
        program = tmp_path_factory.mktemp("pool") / "pool"
        command = [*COMPILER.split(), "-O2", "-g", "-std=gnu11", "-pthread", *flags, *map(str, SOURCES), "-o", str(program)]
        subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
        return program

    return build


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_every_block_runs_once(driver, threads, budget):
    loops = budget(quick=100_000, full=1_000_000)
    done = subprocess.run([driver(), str(loops), str(threads)], capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
    assert done.returncode == 0 and re.fullmatch(rf"{loops} loops, 0 wrong\n", done.stdout), done


def test_no_data_race(driver):
    try:
        program = driver("-fsanitize=thread")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the compiler has no race detector: {error.stderr[-200:]}")
    done = subprocess.run([program, "3000", "4"], capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("the race detector does not run on this kernel's memory layout")
    assert done.returncode == 0, done.stderr[-3000:]
