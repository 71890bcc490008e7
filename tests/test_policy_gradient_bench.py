"""bench/policy_gradient.py: what it trains, in which models, and what its table says."""

import os
import re

import commands
import pytest
from commands import in_this_process  # noqa: F401  a fixture

from common.game import find
from common.runtime import cli, files

from bench import policy_gradient, running


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """What the bench has run, [script, flags...] each. Every network has 50 in the dream, its seed + 1 in the game."""
    ran = []

    def command(game, script, *flags):
        words = [script, *map(str, flags)]
        run = words[words.index("--run") + 1]
        ran.append(words)
        if script == "extract":
            os.makedirs(f"{run}/record", exist_ok=True)
            os.makedirs(f"{run}/series", exist_ok=True)
        if script == "train":
            seed = int(words[words.index("-s") + 1])
            files.write_json(f"{run}/log/doomrnn.ppo.64.512.best.json", [[float(seed)], 50.0])
            files.write_json(f"{run}/log/doomrnn.ppo.64.512.hist.json", [[1, 0, 0, 0, 0, 0, 0, 32768]])
        if script == "model":
            seed = files.read_json(words[3])[0][0]
            rows = [{"return": seed}, {"return": seed + 2}]
            files.write_json(words[words.index("--out") + 1], {"episodes": rows})

    monkeypatch.setattr(running, "command", command)
    return ran


def test_every_setting_is_one_that_train_takes_and_another_than_the_preset():
    """Catches a flag that train.py refuses after hours of others, and a row that is the first one again."""
    presets = find("doomrnn").ppo_presets("dream")
    found = [
        cli.check({"train": presets}, ["-o", "ppo", *map(str, flags)])["train"][0]
        for flags in policy_gradient.SETTINGS.values()
    ]
    assert found[0] == presets["laptop"]
    assert len({str(cfg) for cfg in found}) == len(found)
    for path in (policy_gradient.LINEAR, policy_gradient.NETWORK):
        assert os.path.exists(path)


def numbers(text):
    """The numbers in a text."""
    return {float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)}


@pytest.mark.parametrize("name", policy_gradient.SETTINGS)
def test_a_setting_has_the_numbers_of_its_name(name):
    """Catches a row of the table under the name of another setting."""
    paths = policy_gradient.LINEAR, policy_gradient.NETWORK
    flags = [str(flag) for flag in policy_gradient.SETTINGS[name] if flag not in paths]
    assert numbers(name) <= numbers(" ".join(flags))


def test_all_learn_in_the_models_of_the_network_and_play_the_same_games(tmp_path, ran):
    """Catches the models that ship with the linear controller, one seed for all, and games of another use."""
    bench = policy_gradient.Bench(str(tmp_path), 2, 7)
    found = [bench.figures(name) for name in ("as the preset has it", "temperature 1.5")]
    trains, scored = ([words for words in ran if words[0] == script] for script in ("train", "model"))
    assert [words[words.index("-s") + 1 :] for words in trains] == [
        ["0", "--eval_steps", "100"],
        ["1", "--eval_steps", "100"],
        ["0", "--eval_steps", "100", "--temperature", "1.5"],
    ]
    assert len({words[words.index("--run") + 1] for words in trains}) == 3
    for words in trains:
        run = words[words.index("--run") + 1]
        for trained, shipped in (("tf_vae/vae", "vae"), ("tf_rnn/rnn", "rnn"), ("tf_initial_z/initial_z", "initial_z")):
            for ending in ("", ".meta.json"):
                there = os.path.join(find("doomrnn").folder, "laptop", f"{shipped}.json{ending}")
                assert os.path.samefile(f"{run}/{trained}.json{ending}", there)
    assert all(words[4:7] == ["460000", "--episodes", "7"] for words in scored)
    assert [one["means"] for one in found] == [[1, 2], [1]]
    assert [one["steps"] for one in found] == [32768, 32768]
    assert found[0]["score"] == 1.5
    assert found[0]["stderr"] == pytest.approx((1 + 0.25) ** 0.5)


def test_some_learn_along_games_of_the_network_or_in_mdn_rnns_that_were_trained_on_from_its_own(tmp_path, ran):
    """Catches games of seeds that the network has seen, and an MDN-RNN that starts from nothing."""
    bench = policy_gradient.Bench(str(tmp_path), 1, 7)
    bench.figures("along its recorded games")
    along = [words for words in ran if words[0] == "train"][-1]
    assert os.path.exists(os.path.join(along[along.index("--run") + 1], "series"))
    bench.figures("in three MDN-RNNs")
    extract, series = ran[:2]
    assert extract[extract.index("--controller") + 1] == policy_gradient.NETWORK
    assert extract[extract.index("--first_seed") + 1] == "380000"
    assert extract[extract.index("--explore") + 1] == "0.1"
    assert extract[extract.index("--min_frames") + 1] == "0"  # those in which it dies early as well
    assert extract[extract.index("--episodes") + 1] == "400"
    assert series == ["series", "--run", extract[2]]
    rnns = [words for words in ran if words[0] == "rnn_train"]
    assert [words[words.index("--seed") + 1] for words in rnns] == ["1", "2"]
    assert [words[words.index("--steps") + 1] for words in rnns] == ["300", "300"]
    shipped = os.path.join(find("doomrnn").folder, "laptop", "rnn.json")
    also_in = ran[-2][ran[-2].index("--also_in") + 1].split(",")
    for words, other in zip(rnns, also_in, strict=True):
        assert os.path.samefile(words[words.index("--start_from") + 1], shipped)
        assert "--sequence_length 400 --learning_rate 0.001 --mirror " in " ".join(words)
        run = ran[-2][ran[-2].index("--run") + 1]
        made = os.path.join(words[words.index("--run") + 1], "tf_rnn", "rnn.json")
        assert os.path.normpath(os.path.join(run, other)) == made


def test_the_table_tells_the_seeds_apart():
    """Catches a mean without its spread, and steps that are no millions."""
    one = {"steps": 9830400, "dream": 1234.6, "score": 900.4, "stderr": 21.2, "means": [850.2, 950.7]}
    lines = policy_gradient.table({"a": one, "b": one | {"means": [900.4]}}).splitlines()
    assert lines[2:] == ["| a | 9.8 | 1235 | 900 ± 21 (850, 951) |", "| b | 9.8 | 1235 | 900 ± 21 |"]


@pytest.mark.parametrize(("words", "said"), [(["--only", "dropout"], "--only"), (["--games", 50_000], "--games")])
def test_what_cannot_be_measured_is_refused_at_once(tmp_path, ran, words, said):
    """Catches hours of training before an error."""
    done = commands.call(lambda *_: policy_gradient.main(), None, "--run", tmp_path / "run", *words)
    assert done.refused(said), done
    assert ran == []


def test_the_page_has_a_place_for_the_table():
    """Catches a table that is lost after hours."""
    page = os.path.join(files.ROOT, "docs", "history", "policy_gradient.md")
    assert all(running.around(page, "settings"))
