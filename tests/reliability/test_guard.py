"""No read or write outside the arrays, none into inputs: every function on arrays between forbidden pages."""

import re
import subprocess
import sys
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")


def run(*arguments):
    return subprocess.run([sys.executable, "-P", str(GUARD), *arguments], capture_output=True, text=True, timeout=600)


def test_every_function_stays_within_its_arrays(budget):
    done = run(str(budget(quick=4, full=24)))
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-2000:]}"
    assert int(re.match(r"(\d+) calls", done.stdout)[1]) > 200


def test_the_guard_finds_a_planted_over_read():
    done = run("planted")
    assert done.returncode != 0 and not done.stdout and "Traceback" not in done.stderr, done
