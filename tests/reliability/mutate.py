"""Mutants: one small change of the package at a time, which the tests must notice.

``python -m tests.reliability.mutate c|python COUNT [SEED]`` makes COUNT random mutants in a copy of the checkout, runs the tests that stand for the
changed file, and prints who survived. A mutant of C is rebuilt; one that does not compile, or changes no byte of an object file, does not count.
"""

import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cnnpy.functional.runtime import config

ROOT = Path(__file__).resolve().parents[2]
SWAPS = {"<=": "<", ">=": ">", "<": "<=", ">": ">=", "==": "!=", "!=": "==", "&&": "||", "||": "&&", "+": "-", "-": "+", "*": "+"}
TOKEN = re.compile(r" (<=|>=|<|>|==|!=|&&|\|\||\+|-|\*) (?=[\w(])|(?<![\w.\"])([01])(?![\w.\"])")
SECONDS = 900

# The tests that stand for a room, cheapest first.
C_TESTS = [
    "tests/reliability/test_exact.py", "tests/reliability/test_gradients.py", "tests/functional", "tests/reliability/test_bits.py",
    "tests/reliability/test_pool.py", "tests/reliability/test_special_values.py", "tests/reliability/test_layouts.py",
    "tests/reliability/test_arguments.py", "tests/compiler", "tests/optim", "tests/nn",
]  # fmt: skip
PYTHON_TESTS = {
    "functional": ["tests/functional", "tests/reliability/test_exact.py", "tests/reliability/test_arguments.py", "tests/reliability/test_gradients.py"],
    "autograd": ["tests/test_autograd.py", "tests/nn", "tests/reliability/test_gradients.py"],
    "compiler": ["tests/compiler"],
    "nn": ["tests/nn", "tests/models"],
    "models": ["tests/models"],
    "optim": ["tests/optim"],
    "data": ["tests/data"],
    "transforms": ["tests/test_transforms.py"],
    "image": ["tests/test_image.py"],
    "io": ["tests/io", "tests/reliability/test_power_loss.py"],
    "tools": ["tests/tools"],
    "train": ["tests/train", "tests/test_cli.py"],
}  # fmt: skip


def c_places():
    """(file, position, text, what replaces it) of everything in the core that could be another; headers are left out, each would build everything anew."""
    for path in sorted(ROOT.glob("csrc/*/*.c")):
        text = path.read_text()
        code = re.sub(
            r"/\*.*?\*/|//[^\n]*|\"(\\.|[^\"])*\"|^\s*#[^\n]*", lambda m: re.sub(r"[^\n]", "\0", m.group()), text, flags=re.S | re.M
        )
        for match in TOKEN.finditer(code):
            word = match.group(1) or match.group(2)
            yield path, match.start(1 if match.group(1) else 2), word, SWAPS.get(word) or ("1" if word == "0" else "2")


COMPARED = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
COMBINED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def python_places():
    """(file, number of the node in the walk, None, None): comparisons, arithmetic, `and` and `or`, whole numbers, conditions."""
    for path in sorted(ROOT.glob("cnnpy/**/*.py")):
        if path.relative_to(ROOT / "cnnpy").parts[0].removesuffix(".py") in PYTHON_TESTS:
            for number, node in enumerate(ast.walk(ast.parse(path.read_text()))):
                if mutated(node, False):
                    yield path, number, None, None


def mutated(node, change=True):
    """Whether the node has a mutant; makes it one."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        node.ops[0] = COMPARED[type(node.ops[0])]() if change else node.ops[0]
    elif isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in COMBINED:
        node.op = COMBINED[type(node.op)]() if change else node.op
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        node.value += change
    elif isinstance(node, ast.If):
        node.test = ast.UnaryOp(ast.Not(), node.test) if change else node.test
    else:
        return False
    return True


def write_mutant(copy, place):
    """Changes the copy; returns what it says now, and the text before."""
    path, at, word, other = place
    target = copy / path.relative_to(ROOT)
    before = target.read_text()
    if word is not None:
        target.write_text(before[:at] + other + before[at + len(word) :])
        line = before.count("\n", 0, at) + 1
        return f"{path.relative_to(ROOT)}:{line}: {word} -> {other}: {before.splitlines()[line - 1].strip()[:110]}", before
    tree = ast.parse(before)
    node = list(ast.walk(tree))[at]
    old = ast.unparse(node)[:60]
    mutated(node)
    target.write_text(ast.unparse(tree))
    return f"{path.relative_to(ROOT)}:{node.lineno}: {old} -> {ast.unparse(node)[:60]}".replace("\n", " "), before


def passes(copy, env, tests):
    """Whether the tests pass in the copy; in time."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *[t for t in tests if (copy / t).exists()]]
    try:
        return subprocess.run(command, cwd=copy, env=env, capture_output=True, timeout=SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def objects(copy):
    return {p: p.read_bytes() for p in (copy / "build").rglob("*.o")}


def run(language, count, seed=0):
    """(killed, counted, survivors); prints each mutant's fate."""
    places = list(c_places() if language == "c" else python_places())
    random.Random(seed).shuffle(places)
    killed, survivors = 0, []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        for name in [*listed, *(str(p.relative_to(ROOT)) for p in ROOT.glob("cnnpy/_core*.so"))]:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
        env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "CNNPY_INSTRUCTION_SETS": f"base {config()['isa']}"}
        build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        if language == "c":
            subprocess.run(build, cwd=copy, env=env, check=True, capture_output=True)
        same = objects(copy)
        sound: list = []
        for place in places:
            if killed + len(survivors) >= count:
                break
            tests = C_TESTS if language == "c" else PYTHON_TESTS[place[0].relative_to(ROOT / "cnnpy").parts[0].removesuffix(".py")]
            if tests not in sound:
                if not passes(copy, env, tests):
                    raise RuntimeError(f"mutate: {' '.join(tests)} fail without a mutant")
                sound.append(tests)
            said, before = write_mutant(copy, place)
            target = copy / place[0].relative_to(ROOT)
            fate = ""
            if language == "c":
                if subprocess.run(build, cwd=copy, env=env, capture_output=True).returncode:
                    fate = "does not compile"
                elif objects(copy) == same:
                    fate = "is the same code"
            if not fate:
                survived = passes(copy, env, tests)
                fate = "survived" if survived else "killed"
                killed += not survived
                survivors += [said] if survived else []
            print(f"{fate}: {said}", flush=True)
            target.write_text(before)
        return killed, killed + len(survivors), survivors


if __name__ == "__main__":
    dead, all_of_them, alive = run(sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:4]))
    print(f"{dead} of {all_of_them} mutants killed")
