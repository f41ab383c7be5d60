"""The house rules, read from the source: who may know whom, what every operation must have, what must not be there."""

import ast
import re
from pathlib import Path

import pytest

from cnnpy import _core, functional
from cnnpy.autograd import OPERATIONS
from tests.reference import BACKWARD, FORWARD
from tests.reliability.cases import CASES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, CSRC = ROOT / "cnnpy", ROOT / "csrc"
MODULES = sorted(PACKAGE.rglob("*.py"))

# room -> rooms of the package that it may import
MAY_KNOW = {
    "_operation": set(),
    "_pickles": set(),
    "autograd": {"_operation"},
    "functional": {"autograd", "_core"},
    "nn": {"nn", "functional", "autograd"},
    "models": {"models", "nn", "io"},
    "compiler": {"compiler", "functional", "autograd", "_core"},
    "optim": {"optim", "functional", "autograd"},
    "data": {"data", "_pickles"},
    "transforms": set(),
    "image": {"functional"},
    "io": {"io", "_pickles", "nn", "functional", "autograd"},
    "tools": {"tools", "autograd", "nn", "functional"},
    "train": {"train", "functional", "autograd", "data", "io", "transforms", "nn", "optim", "compiler"},
    "plot": {"plot", "train", "tools", "functional", "autograd", "io", "nn"},
    "dist": set(),
    "bench": None,
    "cli": None,
    "__main__": None,
    "__init__": None,
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_python_rooms(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    allowed = MAY_KNOW[room]
    rooms = {m.split(".")[1] for m in imports(path) if m.startswith("cnnpy.")}
    if allowed is not None:
        known = {r for r in rooms if (PACKAGE / r).is_dir() or (PACKAGE / f"{r}.py").is_file() or r == "_core"}
        assert known <= allowed | {room}, f"{path.name} imports {known - allowed - {room}}"
    if room not in ("functional", "compiler"):
        assert "_core" not in rooms, "only functional and compiler import the extension"


def includes(path):
    return re.findall(r'#include [<"]([^>"]+)[>"]', path.read_text())


def test_c_rooms():
    for path in CSRC.rglob("*.[ch]"):
        room, found = path.relative_to(CSRC).parts[0], includes(path)
        if room != "bind":
            assert not [i for i in found if "Python.h" in i or "numpy" in i], path
        reach = {Path(i).parts[1] for i in found if i.startswith("../") and len(Path(i).parts) > 2}
        allowed = {"base": set(), "kernels": {"base"}, "program": {"base", "kernels"}, "bind": {"base", "program"}}[room]
        assert reach <= allowed, f"{path} includes {reach}"


def test_kernels_cannot_fail_print_or_allocate():
    for path in (CSRC / "kernels").glob("*.[ch]"):
        text = path.read_text().replace("_Static_assert(", "")
        for word in ("malloc", "free(", "printf", "abort", "exit(", "alloca", "assert(", "static int ", "omp.h", "getenv"):
            if word == "static int ":
                assert not re.search(r"^static (?!inline|const)[\w ]+\b\w+( = |;)", text, re.M), f"{path}: a mutable global"
            else:
                assert word not in text, f"{path}: {word}"
        assert not re.search(r"\b(f32|f64|avx2|avx512|__m\d+)\b", re.sub(r"/\*.*?\*/", "", text, flags=re.S)), f"{path} names a variant"


def test_every_operation_is_complete():
    """A registered pair has a reference, a case, a documented forward and backward: so every generator of tests covers it."""
    for name, op in OPERATIONS.items():
        assert name in CASES, f"{name}: no sample generator in tests/reliability/cases.py"
        assert name in FORWARD and name in BACKWARD, f"{name}: no reference"
        assert op.backward is not None and op.forward.__doc__ and op.backward.__doc__, name
        if name in functional.__all__:
            assert f"{name}_backward" in functional.__all__, f"{name} is public, its pair is not"
    assert set(CASES) == set(OPERATIONS)


def test_every_kernel_entry_is_called_by_a_binding():
    bind = "".join(p.read_text() for p in (CSRC / "bind").glob("*.c"))
    for entry in _core.entry_names():
        stem = entry.removesuffix("_forward").removesuffix("_backward")
        assert f"CNN_{entry}" in bind or f"PAIR({stem}" in bind, f"{entry} is in ops.def and nobody calls it"


def test_no_foreign_arithmetic():
    """NumPy's own sums and products depend on its libraries' threads and vector width: not in a result of ours."""
    for room in ("functional", "nn", "optim"):
        for path in (PACKAGE / room).rglob("*.py"):
            text = re.sub(r'""".*?"""', "", path.read_text(), flags=re.S)
            for word in ("np.dot", "np.einsum", "np.matmul", "np.tensordot", "np.sum(", "np.mean(", ".mean(", "np.linalg"):
                if word == "np.linalg" and path.name == "init.py":
                    continue
                assert word not in text, f"{path}: {word}"
            assert not re.search(r"\w @ \w", text), f"{path}: @"


def test_files_stay_short():
    long = [f"{p.relative_to(ROOT)}: {n}" for p in [*MODULES, *CSRC.rglob("*.[ch]")] if (n := len(p.read_text().splitlines())) > 520]
    assert not long, long


def test_nothing_speaks_of_this_machine():
    for path in [
        *MODULES,
        *CSRC.rglob("*.*"),
        *(ROOT / "tests").rglob("*.py"),
        ROOT / "README.md",
        ROOT / "pyproject.toml",
        ROOT / "setup.py",
    ]:
        text = path.read_text()
        for word in ("/wo" + "rk/", "/tm" + "p/", "pypi" + ".org"):
            assert word not in text, f"{path}: {word}"


def test_only_text_is_tracked_at_the_root():
    """No profile, wheel or other leftover of work."""
    import shutil
    import subprocess

    if not shutil.which("git"):
        pytest.skip("git is not installed")
    done = subprocess.run(["git", "ls-files", "--", ":(glob)*"], cwd=ROOT, capture_output=True)
    names = done.stdout.decode().split()
    if done.returncode or "pyproject.toml" not in names:
        pytest.skip("not a checkout of git")
    for name in names:
        if (ROOT / name).exists():
            (ROOT / name).read_text(encoding="utf-8")


def test_import_is_light():
    """Importing the package loads NumPy and the extension, nothing optional."""
    import subprocess
    import sys

    code = "import sys, numpy; before = set(sys.modules); import cnnpy; print(*sorted(m.split('.')[0] for m in set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert not set(out.split()) & {"tqdm", "safetensors", "PIL", "sklearn", "matplotlib", "pooch", "scipy", "mpi4py", "onnx"}


def test_the_planted_rule_breaks_are_found(tmp_path):
    bad = tmp_path / "x.py"
    bad.write_text("from cnnpy.models import lenet5\nimport cnnpy._core\n")
    assert {"cnnpy.models", "cnnpy.models.lenet5", "cnnpy._core"} <= set(imports(bad))


def test_stub_matches_the_extension():
    names = set(re.findall(r"^def (\w+)", (PACKAGE / "_core.pyi").read_text(), re.M))
    assert names == {n for n in dir(_core) if not n.startswith("_")}
