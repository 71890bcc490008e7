"""What a page of the studio plays in these tests: the toy, with an agent that always pushes tanh(0.5)."""

import numpy as np
import pytest
from PIL import Image

from common.studio import session

import toy


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    """The toy's models in ./run, its agent, and eight frames of noise to start from."""
    root = tmp_path_factory.mktemp("studio")
    for name in ("toy", "run"):
        (root / name).mkdir()
    game = toy.game_in(str(root / "toy"))
    frames = np.random.default_rng(1000).integers(0, 256, (8, 64, 64, 3), np.uint8)
    Image.fromarray(frames.reshape(-1, 64, 3)).save(game.frames_picture)
    run = str(root / "run")
    hashes = toy.write_models(game, toy.in_run(game, run))
    toy.write_controller(str(root / "run" / "log" / "toy.cma.1.4.best.json"), game, hashes, [0.5, 0, 0, 0, 0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLDMODELS_DTYPE", "float32")  # as the studio has it
        yield session.Stage(game, run)
