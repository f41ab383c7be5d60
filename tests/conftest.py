import os
import signal
from pathlib import Path

import numpy as np
import pytest

import cnnpy
from cnnpy import _core

SHARED = Path(os.environ.get("CNNPY_SHARED", Path(__file__).resolve().parents[2] / "shared"))
VARIANTS = _core.configuration()["supported"]
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in its background; children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="as many cases as in CI (minutes; CNNPY_TIER=full)")


def pytest_configure(config):
    if config.getoption("full"):
        os.environ["CNNPY_TIER"] = "full"  # before test files are read; workers inherit it


@pytest.fixture
def rng(request):
    """Random numbers seeded by the test's name: every run sees the same."""
    return np.random.default_rng([ord(c) for c in request.node.name])


@pytest.fixture
def budget():
    """How many cases to try: few in the suite, many with --full (what CI adds), all where CNNPY_TIER=long (tests/long.py: hours, by hand)."""
    tier = os.environ.get("CNNPY_TIER", "quick")
    return lambda quick, full, long=None: quick if tier == "quick" else full if tier == "full" or long is None else long


@pytest.fixture(params=VARIANTS)
def isa(request):
    """Runs a test once for every instruction set of this machine."""
    before = _core.configuration()["isa"]
    _core.choose_isa(request.param)
    yield request.param
    _core.choose_isa(before)


@pytest.fixture
def shared():
    """The development data folder; users do not have it."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED / "data"


@pytest.fixture
def strict():
    """Convolutions are direct sums: whole numbers come out exact."""
    before = cnnpy.precision()
    cnnpy.set_precision("strict")
    yield
    cnnpy.set_precision(before)
