"""notebooks/: each runs from its first cell to its last in a fresh kernel, and is committed with what it showed."""

import ast
import glob
import json
import os
import re
import types

import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pytest
import tensorflow as tf

from common.agent import mdnrnn, rssm, vae, weights
from common.game import find
from common.runtime import files, provenance, settings
from common.runtime.cli import UserError
from common.worlds import dream

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "notebooks")
NAMES = sorted(os.path.basename(path) for path in glob.glob(os.path.join(glob.escape(FOLDER), "*.ipynb")))


def read(name):
    return nbformat.read(os.path.join(FOLDER, name), 4)


def test_all_notebooks_are_there():
    """Catches a notebook lost, which the other tests would not miss."""
    promised = {
        "dream",
        "expected_reward",
        "planet",
        "plot_training_progress",
        "results",
        "rnn_test",
        "vae_test",
        "what_h_knows",
    }
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


def test_the_results_as_committed_are_of_all_scores_that_ship():
    """Catches a notebook that was not run again when another agent came to ship, and shows only the older ones."""
    said = "".join(output.get("text", "") for cell in read("results.ipynb").cells for output in cell.get("outputs", ()))
    for path in glob.glob(os.path.join(glob.escape(FOLDER), "..", "log", "*.scores.json")):
        name = os.path.basename(path).removesuffix(".scores.json")
        score = files.read_json(path)
        assert re.search(rf"^{re.escape(name)} +{score['mean']:.1f} +{score['std']:.1f} ", said, flags=re.M), name


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


def test_curves_have_the_names_of_what_they_show(tmp_path):
    """Catches a linear controller that ships beside a network drawn as one, and the authors' curve in another world."""
    [source] = [cell.source for cell in read("plot_training_progress.ipynb").cells if "def evolutions" in cell.source]
    names = {"os": os, "glob": glob, "json": json, "np": np, "plt": plt, "RUN": str(tmp_path)}
    exec(compile(source.replace("follow(evolutions)", ""), "notebook", "exec"), names)
    kinds = ("cma.16.64", "dream.cma.16.64", "game.cma.16.64", "ppo.64.512", "ppo.64.512.linear", "game.ppo.64.512")
    (tmp_path / "log").mkdir()
    for kind in kinds:
        files.write_json(str(tmp_path / "log" / f"doomrnn.{kind}.hist.json"), [[1, 60, 300, 0.5, 400, 1, 0, 9]] * 2)
        evaluation = [1, 60, "improvement", 0, "curr", 350, "prev", 0, "best", 350]
        files.write_json(str(tmp_path / "log" / f"doomrnn.{kind}.hist_best.json"), [evaluation])
    figure = names["evolutions"]()
    for axis in figure.axes:
        name = axis.get_title().removeprefix("doomrnn.").removesuffix(".hist.json: 1 min")
        learned, labels = name.endswith("ppo.64.512"), axis.get_legend_handles_labels()[1]
        assert labels[:2] == (
            ["return while learning", "most probable actions"] if learned else ["population", "mean controller"]
        )
        assert (axis.get_xlabel(), len(axis.collections)) == (("update", 0) if learned else ("generation", 1))
        assert ("the authors' population" in labels) == (name in ("cma.16.64", "ppo.64.512.linear"))
    assert len(figure.axes) == len(kinds)
    plt.close(figure)


def test_predictions_are_what_the_model_sees_and_then_expects():
    """Catches frames that are seen beyond the border, and an action that is not the one before its frame."""
    [source] = [cell.source for cell in read("planet.ipynb").cells if "def predict" in cell.source]
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    names = {"np": np, "tf": tf, "rssm": rssm, "State": rssm.State, "SEEN": 3}
    exec(compile(tree, "notebook", "exec"), names)
    model = rssm.RSSM(rssm.Shape(2, False, deterministic=8, stochastic=3, hidden=8, head=8, depth=1), "float32")
    rng = np.random.default_rng(1000)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    frames, action = rng.integers(0, 256, (6, 64, 64, 3), np.uint8), rng.uniform(-1, 1, (6, 2))

    def differs(frames, action):
        """Which of the predicted rewards are others than the first ones."""
        return np.abs(names["predict"](model, frames, action, 0)[1] - rewards) > 1e-7

    pictures, rewards = names["predict"](model, frames, action, 0)
    assert pictures.shape == (6, 64, 64, 3)
    unseen, other, last = frames.copy(), action.copy(), action.copy()
    unseen[3:] += 100
    other[3] *= -1
    last[5] *= -1
    assert not differs(unseen, action).any()
    assert not differs(frames, last).any()
    assert differs(frames, other).tolist() == [False] * 4 + [True] * 2


@pytest.mark.parametrize("there", [True, False])
def test_the_vae_gan_is_shown_or_said_to_be_missing(there, tmp_path, capsys):
    """Catches a notebook that fails without a VAE-GAN, and one that shows the plain VAE twice."""
    [source] = [
        cell.source for cell in read("vae_test.ipynb").cells if "GAN_RUN" in cell.source and "import os" in cell.source
    ]
    path = tmp_path / "tf_vae" / "vae.json"
    if there:
        path.parent.mkdir()
        weights.write_vae(str(path), vae.ConvVAE(4, "float32"))
    frames, shown = np.zeros((20, 64, 64, 3), np.uint8), []
    plot = types.SimpleNamespace(imshow=shown.append, axis=lambda _: None)
    names = {
        "np": np,
        "plt": plot,
        "frames": frames,
        "chosen": np.arange(10),
        "GAME": "doomrnn",
        "game": find("doomrnn"),
    }
    names["rows"] = [np.zeros((64, 640, 3)), np.ones((64, 640, 3))]
    exec(compile(source.replace("../runs/gan", str(tmp_path)), "notebook", "exec"), names)
    assert [picture.shape for picture in shown] == [(192, 640, 3)] * there
    assert ("no such file; train one" in capsys.readouterr().out) != there


def functions_of(name, of):
    """The functions of the cell of a notebook that defines one of this name, compiled in `names`."""
    [source] = [cell.source for cell in read(name).cells if f"def {of}(" in cell.source]
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return compile(tree, "notebook", "exec")


def test_what_is_expected_stands_beside_what_its_own_step_paid():
    """Catches the row of another drive, once one has ended, and what was expected of the step before or after."""
    lengths, steps = np.array([3, 5, 2]), 4

    class Games:
        def __init__(self, *_):
            self.rows, self.step_number = np.arange(3), 0

        def reset(self, seeds):
            return self.rows

        def step(self, action):
            assert action.tolist() == self.rows.tolist()
            self.step_number += 1
            self.hidden = 10.0 * self.rows + self.step_number  # of all that were on
            done = self.step_number == lengths[self.rows]
            reward, self.rows = 100 + self.hidden, self.rows[~done]
            return self.rows, reward, done

    class Policy:
        def act(self, state):
            return state

        def keep(self, on):
            """The state tells the rows."""

    stage = types.SimpleNamespace(
        vae=None, rnn=None, sample_z=True, agent=types.SimpleNamespace(policy=lambda _: Policy())
    )
    for heads in (True, False):
        names = {"np": np, "stage": stage, "heads": heads, "encoded": types.SimpleNamespace(EncodedGames=Games)}
        exec(functions_of("expected_reward.ipynb", "drive"), names)
        names["expectation"] = lambda hidden: (200 + hidden, 300 + hidden)
        for row, notes in enumerate(names["drive"](None, range(3), steps)):
            at = 10 * row + np.arange(1, min(lengths[row], steps) + 1)
            columns = (100, 200, 300) if heads else (100,)
            np.testing.assert_array_equal(notes, np.transpose([base + at for base in columns]))


def test_what_is_expected_is_what_a_dream_pays(rng):
    """Catches a cost left out, and the probability of staying taken for that of leaving."""
    game, rnn = find("carracing"), mdnrnn.MDNRNN(mdnrnn.Shape(32, 3, 8, restart=False, heads=True), "float32")
    rnn.set_weights([rng.normal(0, 1, variable.shape) for variable in rnn.variables])
    names = {"np": np, "dream": dream, "game": game, "stage": types.SimpleNamespace(rnn=rnn)}
    exec(functions_of("expected_reward.ipynb", "expectation"), names)
    hidden = rng.normal(size=(6, 8)).astype(np.float32)
    expected, leaves = names["expectation"](tf.constant(hidden))
    reward, fall = (hidden @ rnn.heads_w.numpy() + rnn.heads_b.numpy()).T
    leaving = 1 / (1 + game.pay.fall_weight * np.exp(-fall))
    np.testing.assert_allclose(leaves, leaving, rtol=1e-3)
    wanted = np.clip(reward, game.pay.least, game.pay.most) * (1 - leaving) - game.pay.cost * leaving
    np.testing.assert_allclose(expected, wanted, rtol=1e-3)


@pytest.mark.parametrize("heads", [True, False])
def test_expected_rewards_are_shown_of_a_run_with_heads_and_said_to_be_missing_else(heads, tmp_path):
    """The whole notebook. Catches one that fails with heads, which none that ships has, and riddles without them."""
    game, rng = find("carracing"), np.random.default_rng(1000)
    paths = {name: str(tmp_path / file) for name, file in game.config.TRAINED.items()}
    weights.write_vae(paths["vae"], vae.ConvVAE(32, "float32"))
    rnn = mdnrnn.MDNRNN(mdnrnn.Shape(32, 3, 8, restart=False, heads=heads), "float32")
    rnn.set_weights([rng.normal(0, 0.3, variable.shape) for variable in rnn.variables])
    weights.write_rnn(paths["rnn"], rnn, game.config.RNN_FILE_ORDER)
    weights.write_initial_z(paths["initial_z"], *rng.normal(0, 1, (2, 5, 32)))
    for name, path in paths.items():
        parents = {"vae": files.sha256(paths["vae"])}
        provenance.write(path, name, "carracing", settings.Rnn(), parents, 1.0, unverified=False)
    notebook = read("expected_reward.ipynb")
    [cell] = [cell for cell in notebook.cells if "\nRUN = " in cell.source]
    cell.source = f"RUN, SEEDS, STEPS, BACKEND = {str(tmp_path)!r}, range(460000, 460002), 12, 'envpool'"
    resources = {"metadata": {"path": FOLDER}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert said.count("  12 steps, paid") == 2
    assert said.count(", expected") == (2 if heads else 0)
    assert ("the dream pays: " in said) == heads
    assert ("No expectations below: " in said and "has no heads; train one with: cd carracing" in said) != heads


def test_a_run_with_heads_that_is_not_there_is_named(capsys):
    """Catches models that ship, taken for those of a run that is misspelled."""
    names = {"os": os, "find": find, "UserError": UserError, "TRAIN": "do", "Stage": lambda game, run, **_: run}
    exec(functions_of("expected_reward.ipynb", "opened"), names)
    assert names["opened"]("nowhere") == "../carracing"
    assert capsys.readouterr().out == "No expectations below: RUN = 'nowhere': no such folder; do\n"
