"""Mutants: one small change of the package at a time, which the tests must notice.

``python -m tests.reliability.mutate c|python COUNT [SEED [WORKERS]]`` makes COUNT random mutants in copies of the checkout, runs the tests that stand for
the changed file, and prints who survived. A mutant of C is rebuilt; one that does not compile, or changes no byte of an object file, does not count.
"""

import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cnnpy.functional.runtime import config

ROOT = Path(__file__).resolve().parents[2]
SWAPS = {"<=": "<", ">=": ">", "<": "<=", ">": ">=", "==": "!=", "!=": "==", "&&": "||", "||": "&&", "+": "-", "-": "+", "*": "+"}
TOKEN = re.compile(r" (<=|>=|<|>|==|!=|&&|\|\||\+|-|\*) (?=[\w(])|(?<![\w.\"])([01])(?![\w.\"])")
SECONDS = 900
BUILD = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]

# The tests that stand for a room, cheapest first.
C_TESTS = [
    "tests/reliability/test_exact.py", "tests/reliability/test_gradients.py", "tests/functional", "tests/reliability/test_bits.py",
    "tests/reliability/test_pool.py", "tests/reliability/test_special_values.py", "tests/reliability/test_layouts.py",
    "tests/reliability/test_arguments.py", "tests/compiler", "tests/optim", "tests/nn",
]  # fmt: skip
PYTHON_TESTS = {
    "functional": ["tests/functional", "tests/reliability/test_exact.py", "tests/reliability/test_arguments.py", "tests/reliability/test_gradients.py"],
    "autograd": ["tests/test_autograd.py", "tests/nn", "tests/reliability/test_gradients.py"],
    "compiler": ["tests/compiler", "tests/reliability/test_rare.py"],
    "nn": ["tests/nn", "tests/models", "tests/reliability/test_rare.py", "tests/reliability/test_sentences.py"],
    "models": ["tests/models"],
    "optim": ["tests/optim", "tests/reliability/test_rare.py"],
    "data": ["tests/data"],
    "transforms": ["tests/test_transforms.py"],
    "image": ["tests/test_image.py"],
    "io": ["tests/io", "tests/reliability/test_power_loss.py"],
    "tools": ["tests/tools", "tests/test_cli_demo.py", "tests/plot", "tests/reliability/test_rare.py"],
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


def tier_of(tests):
    """Large models are built in the full tier alone."""
    return {"CNNPY_TIER": "full"} if tests == PYTHON_TESTS["models"] else {}


def objects(copy):
    return {p: p.read_bytes() for p in (copy / "build").rglob("*.o")}


class Workers:
    """Mutants of one language, some at a time, each worker in a copy of its own."""

    def __init__(self, language, count, seed, folder):
        self.language, self.count, self.folder = language, count, Path(folder)
        places = list(c_places() if language == "c" else python_places())
        random.Random(seed).shuffle(places)
        self.places, self.lock = iter(places), threading.Lock()
        self.killed, self.survivors, self.trials, self.sound = 0, [], {}, {}

    def environment(self, copy):
        return {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "CNNPY_INSTRUCTION_SETS": f"base {config()['isa']}"}

    def first_copy(self):
        copy = self.folder / "copy"
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        for name in [*listed, *(str(p.relative_to(ROOT)) for p in ROOT.glob("cnnpy/_core*.so"))]:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
        if self.language == "c":
            subprocess.run(BUILD, cwd=copy, env=self.environment(copy), check=True, capture_output=True)
        return copy

    def check(self, tests):
        """Whether the tests pass without a mutant: tried once, in a copy that nobody changes."""
        name = " ".join(tests)
        with self.lock:
            trial = self.trials.setdefault(name, threading.Lock())
        with trial:
            if name not in self.sound:
                pristine = self.folder / "copy"
                self.sound[name] = passes(pristine, self.environment(pristine) | tier_of(tests), tests)
            return self.sound[name]

    def work(self, number):
        copy = self.folder / str(number)
        shutil.copytree(self.folder / "copy", copy)
        env, same = self.environment(copy), objects(copy)
        while True:
            with self.lock:
                place = next(self.places, None) if self.killed + len(self.survivors) < self.count else None
            if place is None:
                return
            tests = C_TESTS if self.language == "c" else PYTHON_TESTS[place[0].relative_to(ROOT / "cnnpy").parts[0].removesuffix(".py")]
            if not self.check(tests):
                continue
            said, before = write_mutant(copy, place)
            fate = ""
            if self.language == "c":
                if subprocess.run(BUILD, cwd=copy, env=env, capture_output=True).returncode:
                    fate = "does not compile"
                elif objects(copy) == same:
                    fate = "is the same code"
            fate = fate or ("survived" if passes(copy, env | tier_of(tests), tests) else "killed")
            with self.lock:
                self.killed += fate == "killed"
                self.survivors += [said] if fate == "survived" else []
                print(f"{fate}: {said}", flush=True)
            (copy / place[0].relative_to(ROOT)).write_text(before)


def run(language, count, seed=0, workers=1):
    """(killed, counted, survivors); prints each mutant's fate."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        mutants = Workers(language, count, seed, folder)
        mutants.first_copy()
        for done in [pool.submit(mutants.work, i) for i in range(workers)]:
            done.result()
        unsound = [name for name, sound in mutants.sound.items() if not sound]
        if unsound:
            raise RuntimeError(f"mutate: {unsound[0]} fail without a mutant")
        return mutants.killed, mutants.killed + len(mutants.survivors), mutants.survivors


if __name__ == "__main__":
    dead, all_of_them, alive = run(sys.argv[1], *map(int, sys.argv[2:5]))
    print(f"{dead} of {all_of_them} mutants killed")
