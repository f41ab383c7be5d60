"""No memory, no threads, no disk: a call raises MemoryError or OSError, changes nothing and leaves nothing; the next call is right."""

import re

import pytest

from tests.reliability import faults


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path, why = faults.build(tmp_path_factory.mktemp("faults"))
    if path is None:
        pytest.skip(why)
    return path


def printed(done, pattern):
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    found = re.search(pattern, done.stdout)
    assert found, done.stdout
    return int(found[1])


def test_every_allocation_of_every_function(library, budget, capsys):
    done = faults.run(library, "memory", budget(quick=40, full=1000))
    count = printed(done, r"memory: (\d+) allocations failed in \d+ functions")
    assert count >= 2000
    with capsys.disabled():
        print(f"faults: {count} allocations", flush=True)


def test_training_and_programs(library, budget):
    assert printed(faults.run(library, "training", budget(quick=97, full=11)), r"training: (\d+) allocations failed") >= 100


def test_a_pool_without_threads(library):
    assert printed(faults.run(library, "threads"), r"threads: (\d+) could not be made") >= 1


def test_every_system_call_of_a_save(library, tmp_path):
    assert printed(faults.run(library, "save", tmp_path), r"save: (\d+) system calls failed") >= 50


def test_a_planted_careless_function_is_found(library):
    assert "planted: found" in faults.run(library, "planted").stdout
