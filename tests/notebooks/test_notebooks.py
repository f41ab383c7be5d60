"""Every notebook runs from top to bottom, in a folder of its own: the copies that ``cnnpy notebooks`` makes, on the package that is installed."""

import json
import os
import re
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


def execute(path, folder):
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)) and len(counts) > 3
    return "".join(o.text for c in notebook.cells if c.cell_type == "code" for o in c.outputs if o.output_type == "stream")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [p.stem for p in NOTEBOOKS])
def test_runs(name, course, request, tmp_path, monkeypatch):
    for variable in ("CNNPY_MNIST", "CNNPY_CIFAR10"):
        monkeypatch.delenv(variable, raising=False)
    if name == PICTURES:
        monkeypatch.setenv("CNNPY_CIFAR10", str(request.getfixturevalue("shared") / "cifar10-jpg.zip"))
    monkeypatch.setenv("CNNPY_NOTEBOOK_EPOCHS", os.environ.get("CNNPY_NOTEBOOK_EPOCHS", "1"))
    copy = course / f"{name}.ipynb"
    assert copy.read_bytes() == (ROOT / "notebooks" / copy.name).read_bytes()
    execute(copy, tmp_path)


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "variable", "data", "least"),
    [("09_lenet_in_six_steps", "CNNPY_MNIST", "mnist", 0.95), ("12_residual_networks", "CNNPY_CIFAR10", "cifar10-jpg.zip", 0.3)],
)
def test_runs_on_the_real_set(name, variable, data, least, course, shared, tmp_path, monkeypatch):
    if "cifar" in data and os.environ.get("CNNPY_TIER", "quick") == "quick":
        pytest.skip("two minutes of training; CNNPY_TIER=full runs it")
    monkeypatch.setenv(variable, str(shared / data))
    monkeypatch.setenv("CNNPY_NOTEBOOK_EPOCHS", "1")
    text = execute(course / f"{name}.ipynb", tmp_path)
    assert float(re.search(r"测试正确率 ([0-9.]+)", text)[1]) >= least


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_is_kept_without_results(path):
    for cell in json.loads(path.read_text())["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"] == [] and cell["execution_count"] is None)
