"""pip install . into another environment: the dreams and the agents that ship work there, in any folder."""

import os
import subprocess
import sys
import zipfile

import pytest

from common.game import find
from common.runtime import provenance

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

STEP = """
import common, gymnasium
for name in ("CarRacing", "DoomTakeCover"):
    env = gymnasium.make(f"WorldModels/{name}Dream-v0")
    env.reset(seed=1000)
    env.step(env.action_space.sample())
print(common.__file__)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what an installed copy has in site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{ROOT}", source], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site-packages")
    return folder / "site-packages"


def run(installed, folder, *command):
    """Runs Python in a folder that knows of the installed copy only."""
    environment = {"PYTHONPATH": str(installed), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-S", "-c", SITE, *map(str, command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


# the packages that this environment has, without the editable install of this repository
SITE = f"import sys; sys.path += {[p for p in sys.path if 'site-packages' in p]!r}; exec(sys.argv.pop(1))"


def test_dreams_step_in_an_empty_folder(installed, tmp_path):
    """Catches weights or metas left out of the package, and a game found only beside its repository."""
    done = run(installed, tmp_path, STEP)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(str(installed))


@pytest.mark.parametrize("name", ["carracing", "doomrnn"])
def test_all_sets_of_models_that_ship_are_in_the_package(installed, name):
    """Catches a set that came to ship after the first one, so that its controller has no models to play on."""
    there = [path for group in find(name).config.SHIPPED for path in group.values()]
    there = [path for path in there if os.path.exists(os.path.join(ROOT, name, path))]
    assert len(there) >= 3
    wanted = [os.path.join(name, path + ending) for path in there for ending in ("", provenance.ENDING)]
    assert [path for path in wanted if not (installed / path).exists()] == []


@pytest.mark.parametrize("file", ["doomrnn.cma.16.64.best.json", "doomrnn.ppo.64.512.best.json"])
def test_the_agents_that_ship_are_found(installed, tmp_path, file):
    """Catches log/ left out of the package: an installed copy has it in common/shipped/."""
    code = (
        f"import sys; sys.argv = ['model.py', 'doomrnn', 'norender', 'log/{file}', '1000', "
        "'--episodes', '1', '--temperature', '5']; from common.play import play; from doomrnn.game import GAME; "
        "play.main(GAME, '')"
    )
    done = run(installed, tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("seed 1000 average_reward")
