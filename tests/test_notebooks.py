"""notebooks/: each runs from its first cell to its last in a fresh kernel, and is committed with what it showed."""

import ast
import glob
import os

import nbclient
import nbformat
import pytest

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "notebooks")
NAMES = sorted(os.path.basename(path) for path in glob.glob(os.path.join(glob.escape(FOLDER), "*.ipynb")))


def read(name):
    return nbformat.read(os.path.join(FOLDER, name), 4)


def test_all_notebooks_are_there():
    """Catches a notebook lost, which the other tests would not miss."""
    promised = {"dream", "plot_training_progress", "results", "rnn_test", "vae_test", "what_h_knows"}
    assert promised <= {os.path.splitext(name)[0] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name):
    """Catches a cell that raises: a name that moved in common/, a file that is no longer there."""
    resources = {"metadata": {"path": FOLDER}}
    notebook = nbclient.NotebookClient(read(name), timeout=600, kernel_name="python3", resources=resources).execute()
    assert pictures(notebook)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_committed_with_its_outputs(name):
    """Catches a notebook cleared, run in part, out of order or with an error, and one that bloats the repository."""
    notebook = read(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert pictures(notebook)
    assert os.path.getsize(os.path.join(FOLDER, name)) < 1_000_000


def pictures(notebook):
    return [
        output for cell in notebook.cells for output in cell.get("outputs", ()) if "image/png" in output.get("data", ())
    ]


@pytest.mark.parametrize("run", ["", "nowhere"])
def test_a_run_that_is_no_folder_is_named(run):
    """Catches empty plots for an empty RUN."""
    cells = nbformat.read(os.path.join(FOLDER, "plot_training_progress.ipynb"), 4).cells
    [source] = [cell.source for cell in cells if "def evolutions" in cell.source]
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    names = {"os": os, "glob": glob, "RUN": run}
    exec(compile(tree, "notebook", "exec"), names)
    with pytest.raises(FileNotFoundError, match=f"RUN = '{run}': no such folder"):
        names["evolutions"]()
