"""The ranges of all numbers that commands take: what makes no sense is refused before the work, in one line."""

import dataclasses
import itertools
import sys

import commands
import pytest
from commands import in_this_process  # noqa: F401

from common.play import fidelity, play, record, select
from common.runtime import cli
from common.training import evolve, planet, policy_gradient, vae_and_rnn

GAMES = commands.GAMES
STAGES = {
    "extract": (record.main, "EXTRACT"),
    "vae_train": (vae_and_rnn.train_vae, "VAE"),
    "rnn_train": (vae_and_rnn.train_rnn, "RNN"),
    "train": (evolve.main, "TRAIN"),
    "series": (vae_and_rnn.encode, "SERIES"),
    "ppo": (policy_gradient.main, "PPO"),
    "planet": (lambda game, text: planet.train(game, text, sys.argv[1:]), "PLANET"),
    "pick_best": (select.main, ""),
    "fidelity": (fidelity.main, ""),
}
WORDS = {"ppo": ("-o", "ppo"), "pick_best": ("x.log.json",), "fidelity": ("x.json",)}
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
    ("train", "--sigma_init", "1e300"),
    ("train", "--learning_rate", "inf"),
    ("vae_train", "--learning_rate", "1e39"),
    ("vae_train", "--gan_judgment", "1e39"),
    ("rnn_train", "--learning_rate", "1e39"),
    ("rnn_train", "--clip", "1e39"),
    ("series", "--episodes_per_part", "0"),
    ("ppo", "--learning_rate", "1e39"),
    ("ppo", "--clip", "0"),
    ("ppo", "--discount", "1.1"),
    ("ppo", "--rows", "0"),
    ("ppo", "--entropy", "-1"),
    ("planet", "--epsilon", "0"),
    ("planet", "--reward_limit", "0"),
    ("planet", "--free_nats", "1e39"),
    ("planet", "--decoded_share", "2"),
    ("planet", "--first_seed", "1999"),
    ("pick_best", "--episodes", "0"),
    ("pick_best", "--final_episodes", "-1"),
    ("fidelity", "--games", "1"),
    ("fidelity", "--dreams", "1"),
    ("fidelity", "--dreams", "60001"),
]
MEANINGLESS += [
    (stage, f"--{field}", "2000000000")
    for stage, fields in {
        "extract": "workers rows",
        "vae_train": "z_size",
        "rnn_train": "hidden_size mixtures",
        "train": "n t num_episode",
        "ppo": "rows steps starts",
        "planet": "action_repeat rows horizon iterations candidates elite batch_size sequence_length "
        "deterministic stochastic hidden head depth",
    }.items()
    for field in fields.split()
]  # the memory of the machine
IN_DREAMS = [("train", "--temperature", value) for value in ("0", "-1", "nan", "1e9")]


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize(("stage", "flag", "value"), MEANINGLESS)
def test_a_number_without_meaning_is_refused(tmp_path, name, stage, flag, value):
    """Catches a traceback after a generation, noise that is never added, and a search that does not move."""
    done = commands.call(STAGES[stage][0], GAMES[name], *WORDS.get(stage, ()), flag, value, "--run", tmp_path)
    assert done.refused(flag), done
    assert value in done.err or "seeds" in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["0", "1e39"])
def test_a_weight_of_restarts_that_float32_does_not_hold_is_refused(tmp_path, value):
    """Catches a loss that is infinite, or never learns the end."""
    words = "--restart_weight", value, "--run", tmp_path
    assert commands.call(vae_and_rnn.train_rnn, GAMES["doomrnn"], *words).refused("--restart_weight", value)


@pytest.mark.parametrize("words", [("--temperature", "0"), ("--episodes", "0"), ("--seed", "-1"), ("--steps", "0")])
def test_numbers_of_ppo_train(tmp_path, words):
    """Catches the same in the one example that has a parser of its own."""
    pytest.importorskip("stable_baselines3", reason="the optional extra ppo is not installed")
    assert commands.script("doomrnn", "ppo_train", *words, "--run", tmp_path).refused(*words)


def test_every_number_of_every_stage_ends_before_float32_does():
    """Catches a new option with a range of its own that is none."""
    for game, (_, kind) in itertools.product(GAMES.values(), STAGES.values()):
        presets = getattr(game.config, kind, None) if kind not in ("", "ITERATE") else None
        for field in dataclasses.fields(presets["laptop"]) if presets else ():
            if isinstance(field.default, float):
                for value in ("1e39", "inf", "nan", "-1e39"):
                    with pytest.raises(SystemExit):
                        cli.parse(presets, None, [f"--{field.name}={value}"])


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
    kinds = ("EXTRACT", "VAE", "SERIES", "RNN", "TRAIN", "TRAIN_DREAM", "TRAIN_GAME", "PPO", "PPO_GAME", "PLANET")
    for kind, preset in itertools.product(kinds, ("paper", "laptop", "smoke", "dream")):
        presets = getattr(config, kind, {})
        if preset in presets:
            values = dataclasses.asdict(presets[preset]).items()
            words = [f"--{key}={value}" for key, value in values if not isinstance(value, bool)]
            assert cli.parse(presets, None, ["--preset", preset, *words])[0] == presets[preset]
