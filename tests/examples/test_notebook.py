"""The notebook runs from top to bottom as it is committed, without outputs."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

nbformat = pytest.importorskip("nbformat", reason="notebooks need nbformat (extra `dev`)")
nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient (extra `dev`)")
pytest.importorskip("ipykernel", reason="notebooks are run in ipykernel (extra `dev`)")

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_is_committed_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(notebook))


def test_the_notebook_opens_the_door(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=100, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    _, predicted, shown, saved = code_cells(notebook)
    assert predicted.outputs[0].text.startswith("revolute, ")
    assert int(saved.outputs[0].data["text/plain"]) == (tmp_path / "half_open.ply").stat().st_size > 0
    picture = Image.open(io.BytesIO(base64.b64decode(shown.outputs[0].data["image/png"]))).convert("L")
    closed, half, opened = np.split(np.asarray(picture, dtype=float), 3, axis=1)
    assert 1 < np.abs(closed - half).mean() < np.abs(closed - opened).mean()
