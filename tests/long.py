"""The long tier, hours of it: ``python tests/long.py [F3 F17 ...]``. Results go into tests/RELIABILITY.md."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:] = [p for p in sys.path if Path(p).resolve() != here]  # its rooms are named like modules
    sys.path.append(str(here.parent))  # behind an installed cnnpy
    sys.argv[1:1] = ["long"]
    runpy.run_module("tests.reliability", run_name="__main__")
