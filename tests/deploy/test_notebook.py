"""The quickstart notebook, executed from its first cell to its last."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.deploy.documents import ROOT

NOTEBOOK = ROOT / "deploy" / "notebooks" / "quickstart.ipynb"


def printed(cell: nbformat.NotebookNode) -> str:
    """Return what a cell has printed."""
    return "".join(output.get("text", "") for output in cell.get("outputs", ()))


@pytest.mark.slow
def test_every_cell_runs(shared_teachers: Path, tmp_path: Path) -> None:
    zoo = shared_teachers / "sb3-zoo" / "ppo" / "CartPole-v1" / "CartPole-v1.zip"
    shutil.copy(zoo, tmp_path)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    everything = "".join(map(printed, notebook.cells))
    assert "share of the teacher" in everything
    assert "the exported student balanced for 500 steps" in everything
    shown = [
        output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())
    ]
    assert any("<video" in data.get("text/html", "") for data in shown)


def test_it_holds_no_outputs_of_its_author() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
