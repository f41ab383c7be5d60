"""Every notebook runs from top to bottom, in a folder of its own."""

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
nbclient = pytest.importorskip("nbclient", reason="it comes with the notebooks extra")
pytest.importorskip("ipykernel", reason="it comes with the notebooks extra")
pytest.importorskip("matplotlib", reason="it comes with the plot extra")


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(path, shared, tmp_path, monkeypatch):
    import nbformat

    monkeypatch.setenv("CNNPY_CIFAR10", str(shared / "cifar10-jpg.zip"))
    monkeypatch.setenv("CNNPY_NOTEBOOK_EPOCHS", os.environ.get("CNNPY_NOTEBOOK_EPOCHS", "1"))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)) and len(counts) > 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_is_kept_without_results(path):
    for cell in json.loads(path.read_text())["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"] == [] and cell["execution_count"] is None)
