"""Copies the lessons that come with the package."""

from pathlib import Path

__all__ = ["copy_notebooks", "lessons"]


def lessons():
    """The notebooks of this installation, in order: inside the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "notebooks", package.parent / "notebooks"):
        found = sorted(folder.glob("*.ipynb"))
        if found:
            return found
    raise FileNotFoundError("notebooks: this installation has no lessons; install it again with pip")


def copy_notebooks(args):
    """Copies them to a folder; files of the same name that differ stay as they are, and are named."""
    target = Path(args.folder)
    target.mkdir(parents=True, exist_ok=True)
    kept = []
    for lesson in lessons():
        copy, content = target / lesson.name, lesson.read_bytes()
        if copy.exists():
            if copy.read_bytes() != content:
                kept.append(copy.name)
            continue
        copy.write_bytes(content)
    print(f"{len(lessons())} notebooks in {target}; start with: jupyter lab {target}")
    if kept:
        print(f"left as they are, because they were changed: {', '.join(kept)}")
    return 0
