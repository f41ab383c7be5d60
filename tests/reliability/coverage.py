"""What the suite runs of the package: lines and branches, of Python by coverage.py, of C by gcov.

A line of C counts where it ran in one of the variants that this machine has: kernels are compiled once for every dtype and instruction set.
``python -m tests.reliability.coverage python|c`` prints what did not run.
"""

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from cnnpy.functional.runtime import config

ROOT = Path(__file__).resolve().parents[2]
SUITE = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--ignore=tests/notebooks"]


def of_python():
    """(lines, lines that ran, branches, branches that ran, {file: missing lines}), those that run in child processes too."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "settings")
        settings.write_text(f"[run]\nbranch = True\nsource = cnnpy\nparallel = True\ndata_file = {folder}/data\npatch = subprocess\n")
        call = [sys.executable, "-m", "coverage"]
        # tests of times and of leaks may fail while lines are counted: the suite itself says whether they pass
        subprocess.run([*call, "run", f"--rcfile={settings}", *SUITE], cwd=ROOT, check=False, stdout=sys.stderr)
        subprocess.run([*call, "combine", "-q", f"--rcfile={settings}"], cwd=ROOT, check=True)
        subprocess.run([*call, "json", "-q", f"--rcfile={settings}", "-o", f"{folder}/report.json"], cwd=ROOT, check=True)
        report = json.loads(Path(folder, "report.json").read_text())
    total = report["totals"]
    missing = {name: file["missing_lines"] for name, file in report["files"].items() if file["missing_lines"]}
    return total["num_statements"], total["covered_lines"], total["num_branches"], total["covered_branches"], missing


def of_c():
    """The same of csrc; a branch is one way out of a line, in the variant that ran most of the line's."""
    folder = Path(tempfile.mkdtemp())
    try:
        supported = config()["supported"]
        env = {**os.environ, "CNNPY_COVERAGE": "1", "CNNPY_INSTRUCTION_SETS": " ".join(supported), "CC": "gcc"}
        build = [sys.executable, "setup.py", "-q", "build_ext", "--build-temp", str(folder / "temp"), "--build-lib", str(folder / "lib")]
        subprocess.run(build, cwd=ROOT, env=env, check=True, stdout=sys.stderr)
        package = folder / "lib" / "cnnpy"
        for source in (ROOT / "cnnpy").rglob("*.py*"):
            if source.suffix in (".py", ".pyi") or source.name == "py.typed":
                target = package / source.relative_to(ROOT / "cnnpy")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        for isa in supported:
            env = {**os.environ, "PYTHONPATH": str(folder / "lib"), "CNNPY_ISA": isa}
            command = [
                sys.executable,
                "-P",
                *SUITE,
                "--import-mode=append",
                "--ignore=tests/test_dist.py",
                "--deselect=tests/test_architecture.py",
            ]
            subprocess.run(command, cwd=ROOT, env=env, check=False, stdout=sys.stderr)
        ran: dict = defaultdict(lambda: defaultdict(int))
        ways: dict = defaultdict(dict)
        for data in (folder / "temp").rglob("*.gcda"):
            subprocess.run(["gcov", "--json-format", "--branch-probabilities", data.name], cwd=data.parent, check=True, capture_output=True)
            for report in data.parent.glob("*.gcov.json.gz"):
                for file in json.loads(gzip.decompress(report.read_bytes()))["files"]:
                    name = os.path.normpath(file["file"])
                    if not name.startswith("csrc"):
                        continue
                    for line in file["lines"]:
                        number = line["line_number"]
                        ran[name][number] = max(ran[name][number], line["count"])
                        out = (sum(b["count"] > 0 for b in line["branches"]), len(line["branches"]))
                        ways[name][number] = max(ways[name].get(number, (0, 0)), out)
                report.unlink()
    finally:
        shutil.rmtree(folder)
    missing = {name: sorted(n for n, count in lines.items() if not count) for name, lines in ran.items()}
    lines = sum(len(v) for v in ran.values())
    out = [w for file in ways.values() for w in file.values()]
    return (
        lines,
        lines - sum(map(len, missing.values())),
        sum(n for _, n in out),
        sum(k for k, _ in out),
        {k: v for k, v in missing.items() if v},
    )


def figure(measured, line_target, branch_target):
    """(verdict, value) of a figure."""
    lines, run_lines, branches, run_branches, _ = measured
    shares = 100 * run_lines / lines, 100 * run_branches / max(1, branches)
    verdict = "PASS" if shares[0] >= line_target and shares[1] >= branch_target else "FAIL"
    return verdict, f"lines {shares[0]:.1f} % of {lines:,}, branches {shares[1]:.1f} % of {branches:,}"


if __name__ == "__main__":
    result = {"python": of_python, "c": of_c}[sys.argv[1]]()
    for path, numbers in sorted(result[-1].items(), key=lambda item: -len(item[1])):
        print(path, *numbers)
    print(*figure(result, 0, 0))
