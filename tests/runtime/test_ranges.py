"""The ranges of all numbers that commands take: what makes no sense is refused before the work, in one line."""

import dataclasses
import itertools

import commands
import pytest
from commands import in_this_process  # noqa: F401

from common.play import play, record
from common.runtime import cli
from common.training import evolve, vae_and_rnn

GAMES = commands.GAMES
STAGES = {
    "extract": (record.main, "EXTRACT"),
    "vae_train": (vae_and_rnn.train_vae, "VAE"),
    "rnn_train": (vae_and_rnn.train_rnn, "RNN"),
    "train": (evolve.main, "TRAIN"),
}
MEANINGLESS = [
    ("extract", "--explore", "1.5"),
    ("extract", "--explore", "-0.1"),
    ("extract", "--max_frames", "1000000"),
    ("extract", "--first_seed", "1999"),
    ("extract", "--first_seed", "4294967296"),
    ("vae_train", "--learning_rate", "0"),
    ("vae_train", "--seed", "4294967296"),
    ("vae_train", "--z_size", "0"),
    ("rnn_train", "--clip", "0"),
    ("rnn_train", "--seed", "4294967296"),
    ("rnn_train", "--dropout", "1"),
    ("train", "--sigma_init", "0"),
    ("train", "--sigma_init", "nan"),
    ("train", "-s", "4294967296"),
    ("train", "-t", "1"),
    ("train", "-t", "2"),
    ("train", "-t", "0"),
    ("train", "--averaging", "1"),
]
IN_DREAMS = [("train", "--temperature", value) for value in ("0", "-1", "nan", "1e9")]


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize(("stage", "flag", "value"), MEANINGLESS)
def test_a_number_without_meaning_is_refused(tmp_path, name, stage, flag, value):
    """Catches a traceback after a generation, noise that is never added, and a search that does not move."""
    done = commands.call(STAGES[stage][0], GAMES[name], flag, value, "--run", tmp_path)
    assert done.refused(flag, value), done
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("stage", "flag", "value"), IN_DREAMS)
def test_a_temperature_without_meaning_is_refused(tmp_path, stage, flag, value):
    """Catches dreams of NaN, and of the first component of every mixture for ever."""
    assert commands.call(evolve.main, GAMES["doomrnn"], flag, value, "--run", tmp_path).refused(flag, value)
    words = ["doomrnn", "norender", "random", flag, value]
    assert commands.call(play.main, GAMES["doomrnn"], *words).refused(flag, value)
    words = ["--world", "dream", flag, value]
    assert commands.call(evolve.main, GAMES["carracing"], *words, "--run", tmp_path).refused(flag, value)


def test_a_share_of_the_games_is_a_share(tmp_path):
    """Catches a share of 2, which is taken for 1."""
    words = ["--gymnasium_share", "2", "--run", tmp_path]
    assert commands.call(record.main, GAMES["carracing"], *words).refused("--gymnasium_share", "to 1")


@pytest.mark.parametrize("name", GAMES)
def test_an_episode_is_not_cut_after_its_end(name):
    """Catches 1,200 frames asked for and 1,000 recorded, without a word."""
    most = GAMES[name].config.MAX_STEPS
    presets = GAMES[name].config.EXTRACT
    assert cli.parse(presets, None, ["--max_frames", str(most)])[0].max_frames == most
    with pytest.raises(SystemExit):
        cli.parse(presets, None, ["--max_frames", str(most + 1)])


@pytest.mark.parametrize("name", GAMES)
def test_every_preset_keeps_to_the_ranges(name):
    """Catches a preset that its own command line would refuse."""
    config = GAMES[name].config
    kinds = ("EXTRACT", "VAE", "SERIES", "RNN", "TRAIN", "TRAIN_DREAM", "PPO", "PLANET")
    for kind, preset in itertools.product(kinds, ("paper", "laptop", "smoke", "dream")):
        presets = getattr(config, kind, {})
        if preset in presets:
            values = dataclasses.asdict(presets[preset]).items()
            words = [f"--{key}={value}" for key, value in values if not isinstance(value, bool)]
            assert cli.parse(presets, None, ["--preset", preset, *words])[0] == presets[preset]
