"""What the suite runs of the package: lines and branches, of Python by coverage.py, of C by clang's counters.

The counters are those of the source, set before anything is inlined: a condition has two ways out however often its function is copied into
others. It counts where it ran in one of the variants that this machine has, since kernels are compiled once for every dtype and instruction
set; a condition that is a constant in each of them has no branches. ``python -m tests.reliability.coverage python|c`` prints what did not run.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from importlib.util import find_spec
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
    """The same of csrc; missing lines are followed by the conditions of which a way did not run, as "line:column true" or "false"."""
    folder = Path(tempfile.mkdtemp())
    try:
        supported = config()["supported"]
        env = {
            **os.environ,
            "CNNPY_COVERAGE": "1",
            "CNNPY_INSTRUCTION_SETS": " ".join(supported),
            "CC": "clang",
            "LDSHARED": "clang -shared",
        }
        build = [sys.executable, "setup.py", "-q", "build_ext", "--build-temp", str(folder / "temp"), "--build-lib", str(folder / "lib")]
        subprocess.run(build, cwd=ROOT, env=env, check=True, stdout=sys.stderr)
        package = folder / "lib" / "cnnpy"
        for source in (ROOT / "cnnpy").rglob("*.py*"):
            if source.suffix in (".py", ".pyi") or source.name == "py.typed":
                target = package / source.relative_to(ROOT / "cnnpy")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        for isa in supported:
            env = {**os.environ, "PYTHONPATH": str(package.parent), "CNNPY_ISA": isa, "LLVM_PROFILE_FILE": f"{folder}/counts/%m-%p.profraw"}
            command = [
                sys.executable,
                "-P",
                *SUITE,
                *(("-n", "auto") if find_spec("xdist") else ()),
                "--import-mode=append",
                "--ignore=tests/test_dist.py",
                "--deselect=tests/test_architecture.py",
            ]
            subprocess.run(command, cwd=ROOT, env=env, check=False, stdout=sys.stderr)
        return counted(folder / "counts", next(package.glob("_core*")))
    finally:
        shutil.rmtree(folder)


def counted(counts, library):
    """What the counters in the folder say of the library."""
    merged = counts / "all.profdata"
    subprocess.run(["llvm-profdata", "merge", "-sparse", str(counts), "-o", str(merged)], check=True)
    export = ["llvm-cov", "export", "-instr-profile", str(merged), str(library)]
    report = json.loads(subprocess.run(export, check=True, capture_output=True).stdout)["data"][0]

    def own(path):
        name = os.path.relpath(path, ROOT)
        return name if name.startswith("csrc") else None

    missing, lines, branches, out = defaultdict(list), 0, 0, 0
    for file in report["files"]:
        if name := own(file["filename"]):
            of_lines = counts_of_lines(file["segments"])
            lines += len(of_lines)
            missing[name] += [number for number, count in sorted(of_lines.items()) if not count]
    ways: dict = defaultdict(lambda: [0, 0])
    for function in report["functions"]:
        for first, column, last, end, yes, no, place, *_ in function.get("branches", ()):
            if name := own(function["filenames"][place]):
                way = ways[name, first, column, last, end]
                way[0] += yes
                way[1] += no
    for (name, first, column, last, end), way in sorted(ways.items()):
        if first == last and not any(way) and is_constant((ROOT / name).read_text().splitlines()[first - 1][column - 1 : end - 1]):
            continue
        branches += 2
        out += sum(count > 0 for count in way)
        missing[name] += [f"{first}:{column} {'false' if way[0] else 'true'}"] if any(way) and not all(way) else []
    never = sum(len([m for m in v if isinstance(m, int)]) for v in missing.values())
    return lines, lines - never, branches, out, {k: v for k, v in missing.items() if v}


def is_constant(condition):
    """Whether all names in it are macros, constants of an enumeration or types: compilers count nothing there."""
    return not re.search(r"\b[a-z]\w*", re.sub(r"\b(sizeof|real|int|long)\b", "", condition))


def counts_of_lines(segments):
    """{line: how often it ran at most} from the places where counts change: [line, column, count, has a count, begins a region, is a gap]."""
    starts = defaultdict(list)
    for segment in segments:
        starts[segment[0]].append(segment)
    counts, before = {}, None
    for line in range(segments[0][0], segments[-1][0] + 1) if segments else ():
        here = starts[line]
        begun = [s for s in here if s[3] and s[4] and not s[5]]
        skipped = bool(here) and not here[0][3] and here[0][4]
        if not skipped and (begun or (before and before[3])):
            counts[line] = max([before[2] if before and before[3] else 0, *(s[2] for s in begun)])
        if here:
            before = here[-1]
    return counts


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
