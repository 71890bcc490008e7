"""common/training/evolution.py: log files as the authors', and an evolution that goes on as if it had never stopped."""

import argparse
import dataclasses
import json
import os
import pickle
import types

import numpy as np
import pytest

from common.play import select
from common.runtime import files, provenance
from common.runtime.cli import UserError
from common.training import es, evolution

PARENTS = {"vae": "a" * 64, "rnn": "b" * 64}
GAME = types.SimpleNamespace(name="game")
BASE = "game.cma.3.6"
SIZE = 5


@dataclasses.dataclass(frozen=True)
class Config:
    """What train.py's config has."""

    generations: int = 6
    n: int = 1
    t: int = 6
    num_episode: int = 3
    eval_steps: int = 2
    eval_episodes: int = 4
    averaging: float = 0.0
    seed_start: int = 1000
    checkpoint_seconds: int = 0


@pytest.fixture
def start(tmp_path):
    """(Config, ...) -> the evolution as one more start of the same command has it, the process before having ended."""
    opened = []

    def begin(cfg=None, folder=tmp_path, fresh=False, parents=PARENTS, may_change=(), seed=1000, strategy=None, **more):
        for run in opened:
            run._stage._lock_file.close()
        opened.clear()
        os.makedirs(folder, exist_ok=True)
        arguments = argparse.Namespace(run=str(folder), fresh=fresh)
        cfg = cfg or Config()
        strategy = strategy or es.CMA(np.zeros(SIZE), cfg.n * cfg.t, 0.5, seed)
        run = evolution.Evolution(arguments, GAME, BASE, cfg, parents, strategy, may_change, **more)
        opened.append(run)
        return run

    yield begin
    for run in opened:
        run._stage._lock_file.close()


def evolve(run, generations):
    """The loop of train.py with a made-up world: returns by candidate and seed, an evaluation every 2nd generation."""
    for _ in range(generations):
        population, seeds = run.strategy.ask(), run.seeds()
        distance = ((population - 1) ** 2).sum(axis=1)
        returns = -distance[:, None] + (seeds % 10 / 100)[None]
        run.strategy.tell(returns.mean(axis=1))
        run.add_generation(returns, np.arange(returns.size).reshape(returns.shape))
        if run.generation % 2 == 0:
            run.add_evaluation(-((run.strategy.mean - 1) ** 2).sum())
        run.save()
    return run


def logs(folder):
    """{kind: content} of the log files, their times left out."""
    read = {kind: json.loads((folder / "log" / f"{BASE}.{kind}").read_text()) for kind in
            ("json", "hist.json", "hist_best.json", "log.json", "best.json")}  # fmt: skip
    for kind in ("hist.json", "hist_best.json"):
        for row in read[kind]:
            del row[1]
    return read


def test_the_files_are_the_authors(start, tmp_path):
    """Catches columns in another order or number, min and max mixed up, steps without the authors' one more."""
    run = start(Config(generations=1))
    run.strategy.tell(run.strategy.ask()[:, 0])
    returns = np.array([[1.0, 3.0], [4.0, 6.0], [-2.0, 0.0]])
    run.add_generation(returns, np.array([[10, 20], [30, 40], [50, 91]]))
    for score in (4.0, 9.125, 6.0):
        run.add_evaluation(score)
    run.save()
    mean, read = run.strategy.mean.tolist(), logs(tmp_path)
    std = round(float(np.std([2.0, 5.0, -1.0])), 2)
    stdev = round(run.strategy.rms_stdev, 5)
    assert read["hist.json"] == [[1, 2.0, -1.0, 5.0, std, stdev, round(241 / 6 + 1, 2), 92]]
    assert read["hist_best.json"] == [
        [1, "improvement", 0.0, "curr", 4.0, "prev", 4.0, "best", 4.0],
        [1, "improvement", 5.12, "curr", 9.12, "prev", 4.0, "best", 9.12],
        [1, "improvement", -3.12, "curr", 6.0, "prev", 9.12, "best", 9.12],
    ]
    assert read["log.json"] == [[1, 4.0, mean, {"n": 4}], [1, 9.125, mean, {"n": 4}], [1, 6.0, mean, {"n": 4}]]
    assert read["json"] == [mean]
    assert read["best.json"] == [mean, 9.125]
    for kind, what in (("json", "controller"), ("best.json", "controller"), ("log.json", "evolution")):
        meta = provenance.read(str(tmp_path / "log" / f"{BASE}.{kind}"), what, "game")
        assert (meta["parents"], meta["seed"], meta["generation"]) == (PARENTS, 1000, 1)
    assert meta["config"] == dataclasses.asdict(Config(generations=1))
    best = provenance.read(str(tmp_path / "log" / f"{BASE}.best.json"), "controller", "game")
    assert best["score"] == {"of": "dream", "mean": 9.125, "n": 4, "first_seed": 400_000}
    log = select.read_log(tmp_path / "log" / f"{BASE}.log.json")
    assert [(generation, score) for generation, score, _ in log] == [(1, 4.0), (1, 9.125), (1, 6.0)]
    np.testing.assert_array_equal(log[0][2], mean)
    config = json.loads((tmp_path / "log" / f"{BASE}.config.json").read_text())
    assert config == {"config": dataclasses.asdict(Config(generations=1)), "parents": PARENTS}


def test_a_log_that_nobody_could_read_is_refused_ahead(start, tmp_path):
    """Catches a training of hours with a log that pick_best.py refuses, and fewer bytes counted than are written."""
    most = files.JSON_LIMIT // (150 * evolution.NUMBER_BYTES)
    for generations in (299, 300):
        evolution.check_log(Config(generations=generations), most)
        with pytest.raises(
            UserError, match=r"--eval_steps 2: a log of 150 evaluations of \d+ parameters has about 268 MB"
        ):
            evolution.check_log(Config(generations=generations), most + 1)
    evolution.check_log(Config(generations=298), most + 1)
    size, rng = 3000, np.random.default_rng(1000)
    learner = types.SimpleNamespace(mean=rng.normal(0, 0.5, size).round(4), state=dict, arrays=dict, rms_stdev=0.0)
    run = start(Config(generations=2, t=1, eval_steps=1), strategy=learner)
    for _ in range(2):
        run.add_generation(np.zeros((1, 1)), np.ones((1, 1), int))
        run.add_evaluation(1.0)
    run.save()
    written = os.path.getsize(tmp_path / "log" / f"{BASE}.log.json")
    assert 0.9 < written / (2 * size * evolution.NUMBER_BYTES) < 1


def metrics(folder):
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / "log" / f"{BASE}.metrics.jsonl").read_text().splitlines()]


def test_metrics_have_the_names_of_what_they_are(start, tmp_path):
    """Catches the least taken for the greatest return, and the best evaluation shown in place of the latest."""
    run = start()
    run.strategy.tell(run.strategy.ask()[:, 0])
    run.add_generation(np.array([[1.0, 3.0], [4.0, 6.0], [-2.0, 0.0]]), np.ones((3, 2), int))
    for score in (9.0, 4.0):
        run.add_evaluation(score)
    generation = {"es/return_mean": 2.0, "es/return_min": -1.0, "es/return_max": 5.0}
    assert metrics(tmp_path) == [{"step": 1} | row for row in (generation, {"es/evaluation": 9}, {"es/evaluation": 4})]
    assert run.latest() == "1 done: mean 2.0, evaluated 4.0"


def test_what_was_logged_after_the_last_checkpoint_is_forgotten(start, tmp_path):
    """Catches generations that stand twice in metrics.jsonl, because a kill came between them and a checkpoint."""
    run = evolve(start(), 2)
    before = metrics(tmp_path)
    run.add_generation(np.ones((6, 3)), np.ones((6, 3), int))
    assert metrics(tmp_path) != before
    assert start().generation == 2
    assert metrics(tmp_path) == before


def test_an_update_of_the_policy_gradient_is_a_row(start, tmp_path):
    """Catches columns in another order, and the steps of an update in place of all steps so far."""
    run = start()
    learned = {"entropy": 1.5, "value_loss": 0.25, "tether": 0.125, "moved": 0.0625}
    for mean in (7.126, 8.0):
        run.add_update(learned | {"reward": 0.5, "ends": 0.1, "steps": 30.0}, mean)
    rows = [[number, *rest] for number, _, *rest in run.hist]
    assert rows == [[1, 7.13, 1.5, 0.25, 0.125, 0.0625, 30], [2, 8.0, 1.5, 0.25, 0.125, 0.0625, 60]]
    named = {f"ppo/{name}": value for name, value in learned.items()}
    assert metrics(tmp_path)[0].items() >= (named | {"step": 1, "ppo/return_mean": 7.126}).items()


def test_metas_say_where_scores_are_from_and_what_is_not_verified(start, tmp_path):
    """Catches the score of a game told as a dream's, one of another generation, and an origin that is forgotten."""
    run = start(score_of="game", unverified=True)
    for score in (5.0, 9.0, 7.0):
        run.add_generation(np.full((6, 3), score), np.ones((6, 3), int))
        run.add_evaluation(score + 10)
    run.save()
    assert run.latest() == "3 done: mean 7.0, evaluated 17.0"
    metas = {
        kind: provenance.read(str(tmp_path / "log" / f"{BASE}.{kind}"), what, "game")
        for kind, what in (("json", "controller"), ("best.json", "controller"), ("log.json", "evolution"))
    }
    assert all(meta["unverified"] for meta in metas.values())
    assert (metas["best.json"]["score"]["of"], metas["best.json"]["generation"]) == ("game", 2)
    assert (metas["log.json"]["score"], metas["json"]["generation"]) == ({"of": "game"}, 3)


@pytest.mark.parametrize("kept", ["checkpoint.npz", "npz"])
def test_seconds_go_on_from_before_the_stop(start, tmp_path, kept):
    """Catches a clock that starts at zero with every start, so that the plotted time runs back."""
    run = start()
    run._began -= 100
    evolve(run, 1)
    if kept == "npz":
        os.remove(tmp_path / "log" / f"{BASE}.checkpoint.npz")
    run = start()
    run._began -= 100
    evolve(run, 1)
    seconds = [row[1] for row in json.loads((tmp_path / "log" / f"{BASE}.hist.json").read_text())]
    assert 100 <= seconds[0] < 150
    assert 200 <= seconds[1] < 250


def test_resumed_is_as_if_never_stopped(start, tmp_path):
    """Catches a row twice or never, other seeds, a best that is forgotten, a search that is another."""
    evolve(start(folder=tmp_path / "whole"), 6)
    for generations in (1, 2, 3):
        run = evolve(start(folder=tmp_path / "parts"), generations)
    assert run.generation == 6
    assert logs(tmp_path / "parts") == logs(tmp_path / "whole")


def test_without_a_checkpoint_it_goes_on_from_the_committed_files(start, tmp_path):
    """Catches a log that starts again at generation 1, or a distribution left behind, on another machine."""
    before = evolve(start(), 4)
    arrays, first = before.strategy.arrays(), logs(tmp_path)
    os.remove(tmp_path / "log" / f"{BASE}.checkpoint.npz")
    run = start(seed=1001)
    assert run.generation == 4
    for name in ("mean", "sigma", "pc", "ps"):
        np.testing.assert_array_equal(run.strategy.arrays()[name], arrays[name])
    evolve(run, 2)
    after = logs(tmp_path)
    assert [row[0] for row in after["hist.json"]] == [1, 2, 3, 4, 5, 6]
    for kind in ("hist.json", "hist_best.json", "log.json"):
        assert after[kind][: len(first[kind])] == first[kind]
    assert after["best.json"][1] == max(row[1] for row in after["log.json"])


def test_an_earlier_versions_checkpoint_is_not_read(start, tmp_path, capsys):
    """Catches code from a stranger's pickle, and a run of the earlier version that cannot go on at all."""
    before = evolve(start(), 2)
    os.rename(tmp_path / "log" / f"{BASE}.checkpoint.npz", tmp_path / "log" / f"{BASE}.checkpoint")
    (tmp_path / "log" / f"{BASE}.checkpoint").write_bytes(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    run = start()
    assert run.generation == 2
    np.testing.assert_array_equal(run.strategy.mean, before.strategy.mean)
    assert "checkpoint: of an earlier version, not read" in capsys.readouterr().out
    assert not (tmp_path / "sprung").exists()


class Trap:
    """What a stranger may put into a pickle: whoever loads it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_checkpoint_that_holds_python_objects_is_refused(start, tmp_path):
    """Catches a checkpoint whose arrays are pickles, run on loading."""
    evolve(start(), 2)
    path = tmp_path / "log" / f"{BASE}.checkpoint.npz"
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(path, **arrays | {"mean": np.array([Trap(str(tmp_path / "sprung"))] * 5, object)})
    with pytest.raises(UserError, match="damaged"):
        start()
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: whole[:20], lambda whole: b""])
def test_a_damaged_checkpoint_is_not_passed_over(start, tmp_path, damage):
    """Catches an evolution that silently begins anew and overwrites the old one's logs."""
    evolve(start(), 2)
    path, before = tmp_path / "log" / f"{BASE}.checkpoint.npz", logs(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"checkpoint\.npz: damaged"):
        start()
    assert logs(tmp_path) == before


@pytest.mark.parametrize("kind", ["checkpoint.npz", "npz"])
@pytest.mark.parametrize("average", [np.zeros(4), np.full(5, np.nan), np.zeros(5, int)])
def test_a_damaged_average_is_not_gone_on_with(start, tmp_path, kind, average):
    """Catches a mean of another shape, or of NaN, that is evaluated for generations and kept as the best."""
    evolve(start(Config(averaging=0.5)), 2)
    path = tmp_path / "log" / f"{BASE}.{kind}"
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if kind == "npz":
        os.remove(tmp_path / "log" / f"{BASE}.checkpoint.npz")
    np.savez(path, **arrays | {"average": average})
    with pytest.raises(UserError, match=r"npz: damaged.*average"):
        start(Config(averaging=0.5))


@pytest.mark.parametrize("name", ["npz", "hist.json"])
def test_a_damaged_distribution_of_another_machine_is_named(start, tmp_path, name):
    """Catches a traceback where the checkpoint is not there, and an evolution that silently begins anew."""
    evolve(start(), 2)
    os.remove(tmp_path / "log" / f"{BASE}.checkpoint.npz")
    path = tmp_path / "log" / f"{BASE}.{name}"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=rf"{name}: damaged"):
        start()


def test_logs_that_a_kill_left_behind_are_written_again(start, tmp_path):
    """Catches a finished evolution without its last best.json, for it was killed after the checkpoint's rename."""
    run = evolve(start(), 3)
    kinds = ("json", "best.json", "hist.json", "hist_best.json", "log.json", "npz")
    behind = {f"{BASE}.{kind}": (tmp_path / "log" / f"{BASE}.{kind}").read_bytes() for kind in kinds}
    evolve(run, 1)
    whole = logs(tmp_path)
    for name, content in behind.items():
        (tmp_path / "log" / name).write_bytes(content)
    assert logs(tmp_path) != whole
    start()
    assert logs(tmp_path) == whole
    (tmp_path / "log" / f"{BASE}.best.json").write_text("[[1], 2]")  # as pick_best.py chooses another
    start()
    assert json.loads((tmp_path / "log" / f"{BASE}.best.json").read_text()) == [[1], 2]


def test_a_kill_between_the_log_files_leaves_none_behind(start, tmp_path, monkeypatch):
    """Catches a history written before the others: the next start takes it for a sign that all are written."""
    run, write, path = evolve(start(), 3), files.write_npz, str(tmp_path / "log" / f"{BASE}.npz")

    def killed(where, *given, **arrays):
        if where == path:
            raise KeyboardInterrupt
        write(where, *given, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_npz", killed)
        with pytest.raises(KeyboardInterrupt):
            evolve(run, 1)
    assert start().generation == 4
    np.testing.assert_array_equal(files.read_npz(path)["mean"], run.strategy.arrays()["mean"])


def test_a_first_checkpoint_is_whole_before_any_other_file(start, tmp_path, monkeypatch):
    """Catches a run killed in its first save that goes on with other numbers, from the .npz for other machines."""
    run = start()
    run.strategy.tell(run.strategy.ask()[:, 0])
    run.add_generation(np.ones((6, 3)), np.ones((6, 3), int))
    monkeypatch.setattr(evolution.controller, "write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.save()
    left = {path.name.removeprefix(f"{BASE}.") for path in (tmp_path / "log").iterdir()}
    assert "checkpoint.npz" in left
    assert not left & {"json", "best.json", "hist.json", "npz"}


def test_fitness_that_is_not_finite_is_named_counted_and_kept_out_of_the_logs(start, tmp_path, capsys):
    """Catches NaN in the log files, which no strict JSON reader takes, and a broken dream that nobody hears of."""
    run = start()
    returns = np.array([[1.0, 3], [np.nan, 6], [-2, 0], [5, np.inf], [0, 0], [0, 0]])
    run.strategy.ask()
    assert run.strategy.tell(returns.mean(axis=1)) == 2
    run.add_generation(returns, np.ones((6, 2), int))
    run.add_evaluation(np.nan)
    run.add_evaluation(3.0)
    run.save()
    assert logs(tmp_path)["hist.json"][0][1:4] == [0.25, -1.0, 2.0]
    assert logs(tmp_path)["best.json"][1] == 3.0
    assert len(logs(tmp_path)["log.json"]) == 1
    error = capsys.readouterr().err
    assert "candidates [1, 3] have no finite fitness" in error
    assert "the mean has no finite score" in error


@pytest.mark.parametrize(
    "changed", [{"parents": PARENTS | {"rnn": "c" * 64}}, {"cfg": Config(num_episode=4)}, {"cfg": Config(seed_start=1)}]
)
def test_what_would_mix_two_evolutions_is_refused(start, tmp_path, changed):
    """Catches a search that goes on with another M, or other episodes, than it began with."""
    evolve(start(), 2)
    before = logs(tmp_path)
    with pytest.raises(UserError, match="other values"):
        start(**changed)
    assert logs(tmp_path) == before


def test_what_may_change_may(start):
    """Catches a finished evolution that cannot be prolonged, and one bound to a number of ranks."""
    evolve(start(), 2)
    assert start(Config(generations=9, n=3, t=2, checkpoint_seconds=5)).generation == 2
    assert start(Config(generations=9, n=3, t=2, eval_episodes=8), may_change=["eval_episodes"]).generation == 2


def test_fresh_begins_anew(start, tmp_path):
    """Catches an old checkpoint or best that lives on in the new evolution."""
    evolve(start(), 4)
    run = start(Config(num_episode=4), fresh=True)
    assert run.generation == 0
    assert run.hist == []
    assert run._best is None
    assert not (tmp_path / "log" / f"{BASE}.best.json").exists()


def test_the_best_mean_is_kept(start, tmp_path):
    """Catches the last mean saved as the best one, the first one for ever, or the best's score with another mean."""
    run, means = start(), []
    for score in (-5.0, 7.0, 7.0, 6.0):
        run.strategy.tell(run.strategy.ask().sum(axis=1))
        means.append(run.strategy.mean.tolist())
        run.add_evaluation(score)
        run.save()
        run = start()
    assert logs(tmp_path)["best.json"] == [means[1], 7.0]
    assert logs(tmp_path)["json"] == [means[3]]


@dataclasses.dataclass(frozen=True)
class InGame(Config):
    """That of a search in the real game."""

    backend: str = "envpool"


@pytest.mark.parametrize("kept", ["checkpoint.npz", "npz"])
@pytest.mark.parametrize("logged", [True, False])
@pytest.mark.parametrize("change", [{"eval_episodes": 64}, {"backend": "gymnasium"}])
def test_scores_are_compared_with_their_like_only(start, tmp_path, kept, logged, change):
    """Catches a best.json of 900 in 2 games that stays the best when evaluations have 64 games on another backend."""

    def scored(cfg, *scores):
        run = start(cfg, may_change=("eval_episodes", "backend"))
        for score in scores:
            run.strategy.tell(run.strategy.ask().sum(axis=1))
            run.add_generation(np.ones((6, 3)), np.ones((6, 3), int))
            run.add_evaluation(score)
            run.save()
        best = provenance.read(str(tmp_path / "log" / f"{BASE}.best.json"), "controller", "game")
        about = {"of": "dream", "mean": logs(tmp_path)["best.json"][1], "n": cfg.eval_episodes, "backend": cfg.backend}
        assert best["score"] == about | {"first_seed": 400_000}
        return about["mean"], logs(tmp_path)["hist_best.json"][-1][4:]

    first = InGame(eval_steps=1, generations=20)
    other = dataclasses.replace(first, **change)
    assert scored(first, 900.0, 800.0) == (900.0, [800.0, "prev", 900.0, "best", 900.0])
    if not logged:  # as an earlier version left it
        path = tmp_path / "log" / f"{BASE}.checkpoint.npz"
        arrays = dict(np.load(path))
        text = json.loads(str(arrays["logs"]))
        text["log"] = [row[:3] for row in text["log"]]
        np.savez(path, **arrays | {"logs": json.dumps(text)})
        (tmp_path / "log" / f"{BASE}.log.json").write_text(json.dumps(text["log"]))
    if kept == "npz":
        os.remove(tmp_path / "log" / f"{BASE}.checkpoint.npz")
    assert scored(other, 700.0) == (700.0, [700.0, "prev", 700.0, "best", 700.0])
    assert scored(other, 600.0) == (700.0, [600.0, "prev", 700.0, "best", 700.0])
    assert scored(first, 850.0) == (900.0, [850.0, "prev", 800.0, "best", 900.0])
    assert [score for _, score, _ in select.read_log(tmp_path / "log" / f"{BASE}.log.json")] == [
        900,
        800,
        700,
        600,
        850,
    ]


@pytest.mark.parametrize("kept", ["checkpoint.npz", "npz"])
def test_the_average_is_of_all_means_whatever_comes_between(start, tmp_path, kept):
    """Catches an average of other weights than the means', one forgotten at a restart, and one not evaluated."""
    means = []
    for _ in range(3):
        run = evolve(start(Config(averaging=0.75)), 1)
        means.append(run.strategy.mean)
        if kept == "npz":
            os.remove(tmp_path / "log" / f"{BASE}.checkpoint.npz")
    run = start(Config(averaging=0.75))
    expected = 0.75**2 * means[0] + 0.75 * 0.25 * means[1] + 0.25 * means[2]
    np.testing.assert_allclose(run.mean, expected, atol=5.1e-5)
    run.add_evaluation(100.0)
    run.save()
    assert logs(tmp_path)["best.json"] == [run.mean.tolist(), 100.0]
    assert logs(tmp_path)["json"] == [means[2].tolist()]
    assert np.abs(means[2] - expected).max() > 1e-3


@pytest.mark.parametrize("kept", ["checkpoint.npz", "npz"])
def test_an_average_that_is_given_up_is_forgotten(start, tmp_path, kept):
    """Catches the mean of the day on which it was given up, evaluated for ever."""
    evolve(start(Config(averaging=0.75)), 2)
    if kept == "npz":
        os.remove(tmp_path / "log" / f"{BASE}.checkpoint.npz")
    run = evolve(start(Config(averaging=0.0)), 2)
    np.testing.assert_array_equal(run.mean, run.strategy.mean)


@pytest.mark.parametrize("kept", ["checkpoint.npz", "npz"])
@pytest.mark.parametrize("averaging", [0.0, 0.5])
def test_a_search_along_directions_goes_on_without_playing_for_them(start, tmp_path, rng, kept, averaging):
    """Catches a restart that plays 16 games to find what it then reads from its checkpoint."""
    directions, found, cfg = rng.standard_normal((SIZE, 3)), [], Config(averaging=averaging)

    def along():
        return es.SubspaceSearch(
            es.CMA(np.zeros(3), cfg.t, 0.5, 1000), lambda: (found.append(1), (np.zeros(SIZE), directions))[1]
        )

    mean = evolve(start(cfg, strategy=along()), 2).mean
    assert found == [1]
    if kept == "npz":
        os.remove(tmp_path / "log" / f"{BASE}.checkpoint.npz")
    run = start(cfg, strategy=along())
    assert run.generation == 2
    np.testing.assert_array_equal(run.mean, mean)
    assert found == [1]


def test_seeds_are_new_in_every_generation_and_the_same_after_a_restart(start):
    """Catches a population that learns one set of episodes by heart, restarts that change it, and test seeds used."""
    seen = []
    run = start()
    for _ in range(4):
        seen.append(run.seeds().tolist())
        assert run.seeds().tolist() == seen[-1]
        evolve(run, 1)
        run = start()
    other = start()
    assert other.seeds(50).shape == (50,)
    assert other.seeds(50)[:3].tolist() == other.seeds().tolist()
    assert len({seed for seeds in seen for seed in seeds}) == 12
    assert min(min(seeds) for seeds in seen) >= evolution.FIRST_SEED
    many = other.seeds(1_000_000)
    assert (many.min(), many.max()) == pytest.approx((20_000, 399_999), abs=20)
    assert many.max() < other.evaluation_seeds()[0] == 400_000
    assert other.evaluation_seeds().tolist() == [400_000, 400_001, 400_002, 400_003]
    assert other.evaluation_seeds().max() < 500_000


def test_whether_it_is_finished_is_read_from_its_logs_alone(start, tmp_path, monkeypatch):
    """Catches a whole checkpoint, with all that a policy gradient has learned, read for the length of a log."""
    evolve(start(), 6)
    read = []

    def noted(path, only=None, real=files.read_npz):
        read.append(only)
        return real(path, only=only)

    monkeypatch.setattr(files, "read_npz", noted)
    for generations, finished in ((6, True), (7, False)):
        arguments = argparse.Namespace(run=str(tmp_path), fresh=False)
        assert evolution.is_finished(arguments, BASE, Config(generations=generations)) == finished
    assert read == [["logs"]] * 2


@pytest.mark.parametrize("kept", ["checkpoint.npz", "npz"])
def test_what_begins_anew_is_neither_begun_nor_finished(start, tmp_path, kept):
    """Catches --fresh for which no dreams are prepared, and directions played for again on another machine."""
    first = argparse.Namespace(run=str(tmp_path), fresh=False)
    assert not evolution.has_begun(first, BASE)
    evolve(start(), 6)
    if kept == "npz":
        os.remove(tmp_path / "log" / f"{BASE}.checkpoint.npz")
    for fresh in (False, True):
        arguments = argparse.Namespace(run=str(tmp_path), fresh=fresh)
        assert evolution.has_begun(arguments, BASE) != fresh
        assert evolution.is_finished(arguments, BASE, Config()) != fresh


def test_finished_says_so(start, capsys):
    """Catches an evolution that is run again, or one that cannot be prolonged."""
    run = start()
    assert not run.finished
    assert run.latest() == "no generation yet"
    evolve(run, 6)
    run = start()
    assert run.finished
    assert "already evolved for 6 generations" in capsys.readouterr().out
    assert run.latest().startswith("6 done: mean ")
    assert not start(Config(generations=7)).finished


def test_save_if_due_waits_its_time(start, tmp_path):
    """Catches a checkpoint written in every generation, or never."""
    run = start(Config(checkpoint_seconds=60))
    run.save_if_due()
    assert not (tmp_path / "log" / f"{BASE}.checkpoint.npz").exists()
    run._saved_at -= 61
    run.save_if_due()
    assert (tmp_path / "log" / f"{BASE}.checkpoint.npz").exists()
    os.remove(tmp_path / "log" / f"{BASE}.checkpoint.npz")
    run.save_if_due()
    assert not (tmp_path / "log" / f"{BASE}.checkpoint.npz").exists()


@pytest.mark.parametrize("content", ["[[1, 2", '{"config": {}}', "[[1, 2]]", '[[10, 3.5, ["a"]]]'])
def test_what_is_no_log_is_the_users_mistake(tmp_path, content):
    """Catches a traceback where pick_best.py is given a damaged file, or one that is not of an evolution."""
    (tmp_path / "game.log.json").write_text(content)
    with pytest.raises(UserError, match=r"game\.log\.json: not an evolution's"):
        select.read_log(str(tmp_path / "game.log.json"))
