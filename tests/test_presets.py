"""The presets `paper` are the authors' numbers, and what is true of a game is true of it: config.py of both games."""

import inspect
import os
import re

import pytest
from commands import GAMES

from common.agent import mdnrnn
from common.play import agents
from common.runtime import cli, files, provenance

from carracing import env

DOOM, CAR = (GAMES[name].config for name in ("doomrnn", "carracing"))
MADE = {"doomrnn": "doomrnn.laptop.4", "carracing": "carracing.laptop.1"}
"""the runs of iterate.py from which the networks that ship came, as log/ tells of them"""


def has(cfg, **numbers):
    """Checks that a config has these numbers."""
    assert {name: getattr(cfg, name) for name in numbers} == numbers


def test_recording_is_the_authors():
    """Catches another random policy, and another number or length of episodes: "<= 100 frames are dropped"."""
    has(DOOM.EXTRACT["paper"], episodes=12_800, first_seed=2000, min_frames=101, max_hold=10, max_frames=0)
    has(CAR.EXTRACT["paper"], episodes=12_800, max_frames=1000, min_frames=0, policy="random_network")
    has(CAR.EXTRACT["paper"], actions=3, random_start=False, patience=0)
    for config in (DOOM, CAR):
        has(config.EXTRACT["paper"], controller="", explore=0.2)


@pytest.mark.parametrize(("config", "z_size", "steps"), [(DOOM, 64, 308_000), (CAR, 32, 1_000_000)])
def test_the_vae_is_trained_as_the_authors_did(config, z_size, steps):
    """Catches another size of z, batch or rate, and a departure that is not named."""
    cfg = config.VAE["paper"]
    has(cfg, z_size=z_size, steps=steps, batch_size=100, learning_rate=1e-4, schedule="constant")
    has(cfg, rare_pixels=0.0, mirror=False, gan=False, start_from="")
    assert not config.SERIES["paper"].mirror


def test_the_mdn_rnn_is_trained_as_the_authors_did():
    """Catches another size, length of sequences, clipping or rate, and a departure that is not named."""
    for cfg in (DOOM.RNN["paper"], CAR.RNN["paper"]):
        has(cfg, output="mixture", mixtures=5, streams=100, learning_rate=1e-3, clip=1.0)
        has(cfg, dropout=0.0, heads=False, mirror=False, newest=0, start_from="")
    has(DOOM.RNN["paper"], hidden_size=512, sequence_length=500, steps=24_400, schedule="exponential")
    has(DOOM.RNN["paper"], restart_weight=10.0, restart_z=True)
    has(CAR.RNN["paper"], hidden_size=256, sequence_length=999, steps=4000)


def test_the_controller_is_evolved_as_the_authors_did():
    """Catches another population, number of episodes, sigma or temperature, and a departure that is not named."""
    for cfg in (DOOM.TRAIN["paper"], CAR.TRAIN["paper"], CAR.TRAIN_DREAM["paper"]):
        assert cfg.n * cfg.t == 64
        has(cfg, o="cma", num_episode=16, generations=1800, sigma_init=0.1, averaging=0.0, directions=0)
        has(cfg, eval_steps=25, eval_episodes=1024, sample_z=True, start_from="")
    has(DOOM.TRAIN["paper"], world="dream", temperature=1.25, dropout=0.0, ends="threshold", starts=0)
    has(CAR.TRAIN["paper"], world="game", patience=0, fewer_episodes="", track_groups=1, backend="envpool")


@pytest.mark.parametrize(
    ("name", "z_size", "hidden_size", "parameters"), [("doomrnn", 64, 512, 1088), ("carracing", 32, 256, 867)]
)
def test_the_controller_has_the_papers_size(name, z_size, hidden_size, parameters):
    """Catches a bias that only one of the games has, and a controller that reads something else."""
    config = GAMES[name].config
    rnn = mdnrnn.MDNRNN(mdnrnn.Shape(z_size, config.ACTION_SIZE, hidden_size, config.RESTART), "float32")
    assert agents.controller_on(GAMES[name], rnn).parameters == parameters
    assert config.TRAIN["paper"].controller_mode == config.CONTROLLER_MODE


def test_what_is_true_of_the_games():
    """Catches a mirror that forgets the action, pedals that it exchanges, another limit, range or temperature.

    And a track of which the last tile counts as the end of all tiles to come.
    """
    assert (DOOM.MIRROR, CAR.MIRROR) == ((-1.0,), (-1.0, 1.0, 1.0))
    assert (DOOM.MAX_STEPS, CAR.MAX_STEPS) == (2100, 1000)
    assert (DOOM.FPS, CAR.FPS) == (35, 50)
    assert (DOOM.TEMPERATURE, CAR.TEMPERATURE) == (1.25, 0.7)
    assert (DOOM.DREAM_REWARD, CAR.DREAM_REWARD) == (1.0, 0.0)
    assert (DOOM.ACTION_LOW, DOOM.ACTION_HIGH) == ((-1.0,), (1.0,))
    assert (CAR.ACTION_LOW, CAR.ACTION_HIGH) == ((-1.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert CAR.ACTION_CUT == (False, False, True)
    assert DOOM.CHOICES == ((-1.0,), (0.0,), (1.0,))
    assert (getattr(DOOM, "COMPLETE_ABOVE", None), CAR.COMPLETE_ABOVE) == (None, 0.0)  # nothing in Doom is completed
    two = GAMES["carracing"].acting_by(2).config
    assert (two.MIRROR, two.ACTION_LOW, two.ACTION_HIGH) == ((-1.0, 1.0), (-1.0, -1.0), (1.0, 1.0))
    has(CAR.PAY, cost=20.0, least=-1.0, most=6.0, fall_below=-50.0, reward_weight=0.1, fall_weight=10.0)


def test_recordings_of_the_laptop_are_as_the_documents_say():
    """Catches a preset that is not the one of docs/reference.md, in what decides how long it takes."""
    has(DOOM.EXTRACT["laptop"], episodes=3000, max_frames=0, min_frames=101)
    has(CAR.EXTRACT["laptop"], episodes=1600, max_frames=400, gymnasium_share=0.1, policy="brownian")
    has(DOOM.VAE["laptop"], steps=14_000, batch_size=64)
    has(CAR.VAE["laptop"], steps=13_000, batch_size=64)
    has(DOOM.RNN["laptop"], steps=4500, streams=100, sequence_length=64)
    has(CAR.RNN["laptop"], steps=4000, streams=100, sequence_length=64, heads=True)
    for config in (DOOM, CAR):  # whoever asks rnn_train.py for --mirror has to have encoded the images
        assert config.SERIES["laptop"].mirror


def test_carracings_laptop_and_dream_are_as_the_documents_say():
    """Catches a z that is drawn where the mean was better, a car that stands for 1,000 frames, and other dreams."""
    has(CAR.TRAIN["laptop"], n=1, t=64, generations=200, fewer_episodes="110:1,300:4", patience=100, sample_z=False)
    has(CAR.TRAIN_DREAM["laptop"], directions=40, averaging=0.8, sigma_init=0.3, horizon=100, starts=3000, dropout=0.05)
    has(CAR.PPO["laptop"], discount=0.99, gae_lambda=0.95, reward_scale=0.05, horizon=100, starts=3000, dropout=0.05)
    has(CAR.PPO["dream"], hidden="", discount=0.995, epochs=4, entropy=0.0, starts=20000, horizon=20, generations=200)
    has(CAR.PPO["dream"], hold_noise=8)
    has(CAR.SERIES["dream"], mirror=True, z_noise=0.05)
    has(CAR.PPO_GAME["laptop"], patience=100, reward_scale=0.05, entropy=0.0)
    for presets in (CAR.TRAIN_DREAM, CAR.PPO, CAR.PPO_GAME):
        has(presets["laptop"], sample_z=False)
    has(CAR.EXTRACT["dream"], episodes=800, policy="brownian")
    rounds = CAR.ITERATE["dream"].rounds[1:]
    assert [(one.own, one.explore, one.own_share) for one in rounds] == [(240, 0.3, 0.7)] * 7
    assert [one.games for one in rounds] == [16] * 6 + [64]
    has(CAR.PLANET["laptop"], backend="draft")
    has(CAR.VAE["dream"], steps=9000, batch_size=64, mirror=True)
    has(CAR.RNN["dream"], heads=True, mirror=True, dropout=0.05, sequence_length=200, streams=32, steps=600)
    has(CAR.TRAIN_DREAM["dream"], generations=30, t=64, num_episode=16)
    assert CAR.STOPS_PAYING == (60, 35.0, 5.0)


def test_scores_of_carracing_are_gymnasiums():
    """Catches another implementation of the game where none is asked for: its tracks and its frames are others."""
    assert GAMES["carracing"].backends == ("gymnasium", "gym", "envpool", "draft")
    assert env.available("") == inspect.signature(env.real_games).parameters["backend"].default == "gymnasium"


def test_dooms_learning_in_the_game():
    """Catches values of hundreds, which the value network does not learn in time, games that are cut half-way, and a
    search along every weight, for which so few games are too noisy.
    """
    has(DOOM.PPO_GAME["laptop"], value_updates=5, reward_scale=0.004, entropy=0.0)
    has(DOOM.PPO_GAME["laptop"], rows=16, blocks=4, steps=DOOM.MAX_STEPS, learning_rate=1e-3)
    has(DOOM.TRAIN_GAME["laptop"], t=32, directions=40, sigma_init=0.3, averaging=0.9)


def made_what_ships(name, file):
    """What log/ tells of the run of a game's `laptop` preset from which the network that ships came."""
    return files.read_json(os.path.join(files.ROOT, "log", f"{MADE[name]}.{file}.json"))


@pytest.mark.parametrize("name", MADE)
def test_the_laptop_preset_is_what_made_the_agent_that_ships(name):
    """Catches a preset of a stage that is no longer the one of the run in the README."""
    game = GAMES[name]
    presets = {"vae_train.py": game.config.VAE, "series.py": game.config.SERIES, "rnn_train.py": game.config.RNN}
    seen = set()
    for meta in made_what_ships(name, "metas"):
        script, *words = meta["command"]
        if script != "pick_best.py":
            world = "game" if "game" in words else ""
            of_train = game.ppo_presets(world) if "ppo" in words else game.train_presets(world)
            cfg, _ = cli.parse(presets.get(script, of_train), None, words)
            meta["config"].pop("gan_gamma", None)  # an earlier option of the VAE-GAN, without effect on others
            has(cfg, **meta["config"])
            seen.add(script)
    assert seen == {*presets, "train.py"}


@pytest.mark.parametrize("name", MADE)
def test_the_rounds_are_those_that_made_the_agent_that_ships(name):
    """Catches a round with other flags, a share of games that changed, and scores of fewer games."""
    metas, lines = made_what_ships(name, "metas"), made_what_ships(name, "rounds")
    recorded = [row["command"] for meta in metas for row in meta["parents"].get("recordings", [])]
    said = {" ".join(words) + " " for words in (*(meta["command"] for meta in metas), *recorded)}
    preset = GAMES[name].config.ITERATE["laptop"]
    rounds = preset.rounds
    for number, (one, line) in enumerate(zip(rounds, lines, strict=True), 1):
        for script, flags in (("vae_train", one.vae), ("rnn_train", one.rnn), ("train", one.train)):
            of_round = [
                text for text in said if text.startswith(f"{script}.py --preset laptop --run RUN/round{number} ")
            ]
            assert bool(of_round) == (flags is not None)
            wanted = flags and re.compile(rf" {re.escape(' '.join(cli.words(flags)))} --(seed|seed_start|start_from) ")
            assert all(wanted.search(text) for text in of_round)
            assert script != "rnn_train" or not one.own or f"--newest_share {one.own_share} " in of_round[0]
        if one.own:
            words = " ".join(cli.words(one.record | {"episodes": one.own}))
            assert [text for text in said if f"{words} " in text and f"--explore {one.explore} " in text]
        begins = f"train.py --preset laptop --run RUN/round{number}/train"
        also = {text.removeprefix(begins).partition(" --seed_start")[0] for text in said if text.startswith(begins)}
        assert also == {f"{k} {' '.join(cli.words(one.train | more))}" for k, more in enumerate(one.also, 2)}
        assert (line["real"]["n"], line["random_games"]) == (one.games, rounds[0].random)
    assert any(f"/linear {' '.join(cli.words(preset.linear))} --seed_start " in text for text in said)


@pytest.mark.parametrize("name", GAMES)
def test_the_agent_of_a_preset_ships_with_the_models_it_was_evolved_on(name):
    """Catches `ships` of a preset that names another agent's models, which --ship would then overwrite."""
    config = GAMES[name].config
    for cfg in config.ITERATE.values():
        assert bool(cfg.ships) == bool(cfg.controller), "another agent ships with models of its own"
        path = os.path.join(files.ROOT, cfg.controller or config.SHIPPED_CONTROLLER)
        if os.path.exists(path):
            parents = provenance.read(path, "controller", name)["parents"]
            for kind, file in config.SHIPPED[cfg.ships].items():
                assert parents[kind] == files.sha256(os.path.join(GAMES[name].folder, file))


def test_planet_is_its_papers():
    """Catches a number that is not Hafner et al.'s, in either game."""
    for config in (DOOM, CAR):
        has(config.PLANET["paper"], horizon=12, iterations=10, candidates=1000, elite=100, random_episodes=5)
        has(config.PLANET["paper"], deterministic=200, stochastic=30, hidden=200, free_nats=3.0, overshooting=0)
        has(config.PLANET["paper"], batch_size=50, sequence_length=50, updates=100, clip=1000.0)
        has(config.PLANET["paper"], learning_rate=1e-3, epsilon=1e-4, noise=0.3)


@pytest.mark.parametrize("name", GAMES)
def test_planets_laptop_is_what_made_the_model_that_ships(name):
    """Catches a planner, a memory or a loss that is no longer the one of the scores in the README."""
    made = provenance.read(os.path.join(GAMES[name].folder, "planet", "rssm.npz"), "rssm", name)["config"]
    if name == "doomrnn":
        del made["episodes"]  # 1000, of which the first 480 made it; the preset stops before
    has(GAMES[name].config.PLANET["laptop"], **made)
