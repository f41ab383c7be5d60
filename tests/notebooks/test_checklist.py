"""Each row of notebooks/CHECKLIST.md points to functions, a test and a section of a lesson that exist."""

import json
import re
from pathlib import Path

import pytest

import cnnpy

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|\n ").split("|")]
    for line in (ROOT / "notebooks/CHECKLIST.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| M\d+ ", line)
]


def test_all_rows_are_there():
    assert [row[0] for row in ROWS] == [f"M{i}" for i in range(1, 49)]
    assert {row[4] for row in ROWS} <= {f"{i:02d}" for i in range(1, 21)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_a_row_points_to_exists(row):
    _, topic, functions, test, lesson, section = row
    assert topic and functions
    for name in functions.split():
        found = cnnpy
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found), name
    path, function = test.split("::")
    assert re.search(rf"^def {function}\(", (ROOT / path).read_text(encoding="utf-8"), re.M), test
    (notebook,) = (ROOT / "notebooks").glob(f"{lesson}_*.ipynb")
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    headings = [line for c in cells if c["cell_type"] == "markdown" for line in "".join(c["source"]).splitlines() if line.startswith("#")]
    assert any(section in heading for heading in headings), (section, headings)


def test_every_lesson_has_its_parts():
    """Goal, formula, example by hand, code, picture, exercise with a checked answer."""
    books = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    assert [b.stem[:2] for b in books] == [f"{i:02d}" for i in range(1, 21)]
    for book in books:
        cells = json.loads(book.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        for part in ("**目标**", "## 公式", "## 手算的例子", "## 练习"):
            assert part in text, (book.name, part)
        assert re.search(r"plot\.\w+\(|ax\.(plot|bar|barh)\(", code), f"{book.name} has no picture"
        number = book.stem[:2]
        assert f'check_exercise("{number}", answer)' in code and f'assert check_exercise("{number}", solution)' in code
