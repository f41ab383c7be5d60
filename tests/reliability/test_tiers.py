"""The commands of the three tiers, without the hours."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*command):
    environment = {k: v for k, v in os.environ.items() if k != "CNNPY_TIER"}
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, env=environment, timeout=120)


def test_the_long_tier_is_a_script():
    done = run("tests/long.py", "F99")
    assert done.returncode == 2 and "unknown figure F99, expected F1 to F26" in done.stderr


def test_full_tries_more():
    node = "tests/reliability/test_convolution_driver.py"
    for option, expected in (((), False), (("--full",), True)):
        done = run("-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "test_no_data_race", "--setup-only", *option, node)
        assert ("full tier only" not in done.stdout) == expected, done.stdout


def test_an_unknown_tier_is_refused():
    code = "import runpy, sys; sys.path.append('.'); sys.argv[1:] = ['huge']; runpy.run_module('tests.reliability', run_name='__main__')"
    done = run("-P", "-c", code)
    assert done.returncode == 2 and "quick|full|long" in done.stderr
