"""Every notebook runs from top to bottom, in a folder of its own: the copies that ``cnnpy notebooks`` makes, on the package that is installed."""

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = "transfer_learning"  # needs CIFAR-10, which no package holds
nbclient = pytest.importorskip("nbclient", reason="it comes with the notebooks extra")
pytest.importorskip("ipykernel", reason="it comes with the notebooks extra")
pytest.importorskip("matplotlib", reason="it comes with the plot extra")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    from cnnpy import cli

    folder = tmp_path_factory.mktemp("course")
    assert cli.main(["notebooks", str(folder)]) == 0
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [p.stem for p in NOTEBOOKS])
def test_runs(name, course, request, tmp_path, monkeypatch):
    import nbformat

    if name == PICTURES:
        monkeypatch.setenv("CNNPY_CIFAR10", str(request.getfixturevalue("shared") / "cifar10-jpg.zip"))
    monkeypatch.setenv("CNNPY_NOTEBOOK_EPOCHS", os.environ.get("CNNPY_NOTEBOOK_EPOCHS", "1"))
    copy = course / f"{name}.ipynb"
    assert copy.read_bytes() == (ROOT / "notebooks" / copy.name).read_bytes()
    notebook = nbformat.read(copy, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)) and len(counts) > 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_is_kept_without_results(path):
    for cell in json.loads(path.read_text())["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"] == [] and cell["execution_count"] is None)
