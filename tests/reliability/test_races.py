"""No data race in any kernel: the whole extension is built with the race detector, and the tests of bits, which let 16 threads share every
operation forward and backward, run in it."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = "test_operation_bits or test_a_training_epoch or test_python_threads or test_convolution_bits"
RACE = """
import threading
import numpy as np
from cnnpy import functional as F

x, out, gate = np.ones((200, 300), np.float32), np.zeros((200, 300), np.float32), threading.Barrier(2)

def work():
    gate.wait()
    for _ in range(5000):  # the detector ends it at the first race that it sees
        F.relu(x, out=out)

threads = [threading.Thread(target=work) for _ in range(2)]
[t.start() for t in threads]
[t.join() for t in threads]
"""


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """How to run Python, with the package built so that each access to memory is watched."""
    if os.environ.get("CNNPY_TIER", "quick") == "quick":
        pytest.skip("the whole extension compiled again: full tier only")
    gcc = shutil.which("gcc")
    runtime = gcc and subprocess.run([gcc, "-print-file-name=libtsan.so"], capture_output=True, text=True).stdout.strip()
    if platform.system() != "Linux" or not runtime or not os.path.isabs(runtime) or not shutil.which("setarch"):
        pytest.skip("gcc with its race detector, or setarch, is not installed")
    folder = tmp_path_factory.mktemp("races")
    build = [sys.executable, "setup.py", "-q", "build_ext", "--build-temp", str(folder / "temp"), "--build-lib", str(folder / "lib")]
    settings = {"CC": gcc, "CNNPY_SANITIZE": "thread", "CNNPY_INSTRUCTION_SETS": "base"}
    subprocess.run(build, cwd=ROOT, env={**os.environ, **settings}, check=True, capture_output=True)
    for source in (ROOT / "cnnpy").rglob("*.py"):
        target = folder / "lib" / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    environment = {k: v for k, v in os.environ.items() if k != "CNNPY_ISA"}
    environment |= {"PYTHONPATH": str(folder / "lib"), "LD_PRELOAD": runtime, "TSAN_OPTIONS": "halt_on_error=1 exitcode=66"}

    def run(*arguments):
        command = ["setarch", "-R", sys.executable, "-P", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3600)

    done = run("-c", "import cnnpy._core as c; print(c.__file__)")
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("the race detector does not run on this kernel's memory layout")
    assert done.stdout.startswith(str(folder)), done.stderr
    return run


def test_a_planted_race_is_found(detector):
    """Two Python threads write one array, against the rules."""
    done = detector("-c", RACE)
    assert done.returncode == 66 and "data race" in done.stderr and "relu_forward" in done.stderr, done


def test_no_data_race_in_any_kernel(detector):
    done = detector("-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=append", "tests/reliability/test_bits.py", "-k", TESTS)
    assert done.returncode == 0 and "data race" not in done.stdout + done.stderr, done.stdout[-3000:] + done.stderr[-3000:]
    print(f"race detector, every operation: {done.stdout.strip().splitlines()[-1]}")
