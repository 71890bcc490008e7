"""common/studio/session.py: what a page plays, one message at a time."""

import base64
import copy
import dataclasses
import io
import json
import os
import types

import numpy as np
import pytest
from PIL import Image

from common import game
from common.agent import mdnrnn, planet, rssm
from common.agent.planner import Search
from common.data import recordings
from common.runtime import settings
from common.runtime.cli import DiedError
from common.studio import session
from common.worlds import encoded

import toy
from toy import ALIVE, END

CONTROLS = {"temperature": 1.0, "held": {}}


@pytest.fixture
def ask(stage):
    """(do, **message) -> (JSON, what comes after it as frames if it is three of them, else bytes) of one session."""
    page = session.Session(lambda name: stage, seed=1000)

    def ask(do, **message):
        head, _, payload = page.answer(json.dumps({"do": do, **message})).partition(b"\n")
        frames = np.frombuffer(payload, np.uint8).reshape(3, 64, 64, 3) if len(payload) == 3 * 64 * 64 * 3 else payload
        return json.loads(head), frames

    ask("open", game="toy")
    return ask


@pytest.fixture(scope="module")
def dreaming(stage):
    """A session that dreams, and of which nothing is asked that it could follow."""
    page = session.Session(lambda name: stage, seed=1000)
    page.answer(json.dumps({"do": "open", "game": "toy"}))
    page.answer(json.dumps({"do": "start", "world": "dream", "frame": 0, **CONTROLS}))
    return page


def test_a_game_is_opened_with_all_that_the_page_shows(stage, ask):
    """Catches frames that are not those of the file, and limits the page does not know."""
    about, _ = ask("open", game="toy")
    assert (about["title"], about["z_size"], about["no_agent"], about["actions"]) == ("Toy", 4, "", {"push": -1})
    assert stage.frames.shape == (8, 64, 64, 3)
    for shown, frame in zip(about["frames"], stage.frames, strict=True):
        kind, _, data = shown.partition(",")
        assert kind == "data:image/png;base64"
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), frame)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_pictures_of_all_kinds_can_be_the_frames_of_a_game(mode, tmp_path):
    """Catches a picture with fewer or more than three numbers per pixel that is cut into other frames."""
    scene = toy.game_in(str(tmp_path))
    shades = np.random.default_rng(1000).integers(0, 4, (3 * 64, 64, 1), np.uint8) * np.uint8(51)
    Image.fromarray(np.repeat(shades, 3, axis=2)).convert(mode).save(scene.frames_picture)
    toy.write_models(scene, toy.in_run(scene, str(tmp_path)))
    stage = session.Stage(scene, str(tmp_path))
    np.testing.assert_array_equal(stage.frames, np.repeat(shades, 3, axis=2).reshape(3, 64, 64, 3))


def test_a_dream_starts_from_the_chosen_real_frame(stage, ask):
    """Catches another frame, a reconstruction of another z, and a dream that begins elsewhere."""
    for k in (0, 5):
        about, panels = ask("start", world="dream", frame=k, **CONTROLS)
        assert (about["steps"], about["score"], about["over"], about["action"]) == (0, 0, False, None)
        np.testing.assert_array_equal(panels[0], stage.frames[k])
        mu, logvar = stage.encode(stage.frames[k][None])
        assert np.abs((about["z"] - mu[0]) / np.exp(0.5 * logvar[0])).max() < 5
        seen = stage.decode(np.float32([about["z"]]))[0].numpy().astype(int)
        assert np.abs(panels[1:] - seen).max() <= 1  # z was rounded


def test_pixels_are_rounded(stage):
    """Catches pictures that are darker, by up to a level, than those that the VAE draws."""
    drawing = copy.copy(stage)
    drawing.vae = types.SimpleNamespace(decode=lambda z: z)
    assert drawing.decode(np.float32([[0.2, 0.7, 99.9, 254.7, 255]]) / 255).numpy().tolist() == [[0, 1, 100, 255, 255]]


def test_a_dream_is_driven_by_keys_or_by_the_agent(ask):
    """Catches a reward not counted, keys taken for the agent's action, and steps after the end."""
    ask("start", world="dream", frame=0, **CONTROLS)
    first, _ = ask("step", driver="you", keys=["right"], **CONTROLS)
    assert (first["steps"], first["score"], first["action"]) == (1, 1, [1])
    second, _ = ask("step", driver="agent", keys=["left"], **CONTROLS)
    assert (second["steps"], second["score"]) == (2, 2)
    assert second["action"] == pytest.approx([np.tanh(0.5)], abs=1e-3)
    assert first["z"] != second["z"]
    for _ in range(ALIVE):
        last, _ = ask("step", driver="you", keys=[], **CONTROLS)
    assert (last["steps"], last["score"], last["over"]) == (ALIVE, ALIVE, True)
    again, _ = ask("start", world="dream", frame=0, **CONTROLS)
    assert (again["steps"], again["over"]) == (0, False)


def test_the_temperature_reaches_the_dream(stage):
    """Catches a slider that does nothing: at a low temperature the dreamt z must lie far closer to each other."""

    def dreamt(temperature):
        page = session.Session(lambda name: stage, seed=1000)
        page.answer(json.dumps({"do": "open", "game": "toy"}))
        page.answer(json.dumps({"do": "start", "world": "dream", "frame": 0, **CONTROLS}))
        step = json.dumps({"do": "step", "driver": "you", "keys": [], "temperature": temperature, "held": {}})
        z = []
        for _ in range(6):
            answer = page.answer(step)
            z.append(json.loads(answer.partition(b"\n")[0])["z"])
        return np.std(z, axis=0).mean()

    assert dreamt(0.1) < 0.6 * dreamt(2.0)


@pytest.mark.parametrize("world", ["dream", "game"])
def test_a_seed_is_played_as_it_is_told(ask, world):
    """Catches a seed that decides nothing: a link to a dream would open another one."""
    found = [ask("start", world=world, frame=0, seed=seed, **CONTROLS)[0] for seed in (5000, 5001, 5000)]
    assert [about["seed"] for about in found] == [5000, 5001, 5000]
    assert found[0]["z"] == found[2]["z"] != found[1]["z"]


@pytest.mark.parametrize("world", ["dream", "game"])
def test_without_a_seed_a_page_plays_seeds_of_the_studio(stage, monkeypatch, world):
    """Catches test games that everybody plays before they are scored."""
    monkeypatch.setattr(session, "SEEDS", (5000, 5001))
    page, found = session.Session(lambda name: stage, seed=1000), set()
    page.answer(json.dumps({"do": "open", "game": "toy"}))
    for _ in range(12):
        answer = page.answer(json.dumps({"do": "start", "world": world, "frame": 0, **CONTROLS}))
        found.add(json.loads(answer.partition(b"\n")[0])["seed"])
    assert found == {5000, 5001}


@pytest.mark.parametrize("sample_z", [True, False])
def test_the_agent_sees_the_game_as_it_was_evolved_to(stage, monkeypatch, sample_z):
    """Catches a sample of z for an agent that saw the mean in training."""
    monkeypatch.setattr(stage, "agent", dataclasses.replace(stage.agent, meta={"config": {"sample_z": sample_z}}))
    page = session.Session(lambda name: stage, seed=1000)
    page.answer(json.dumps({"do": "open", "game": "toy"}))
    page.answer(json.dumps({"do": "start", "world": "game", "frame": 0, **CONTROLS}))
    assert page._game._sample_z is sample_z


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_dreams_end_as_where_the_agent_was_trained(stage, monkeypatch, weight):
    """Catches the threshold for an agent whose dreams had drawn ends."""
    monkeypatch.setattr(type(stage.agent), "end_weight", weight)
    page = session.Session(lambda name: stage, seed=1000)
    page.answer(json.dumps({"do": "open", "game": "toy"}))
    assert page._dream._end_weight == weight


def test_the_temperature_reaches_what_is_expected_of_the_game(stage, ask, monkeypatch):
    """Catches a slider that does nothing beside the real game."""
    asked, expect = [], stage.expect
    monkeypatch.setattr(stage, "expect", lambda h, t, *noise: [asked.append(float(t)), expect(h, t, *noise)][1])
    ask("start", world="game", frame=0, temperature=2.0, held={})
    ask("look", temperature=0.5, held={})
    assert asked == [2.0, 0.5]


def test_a_held_dimension_is_seen_and_lived(ask):
    """Catches a poke that only the sliders show, one that moves other dimensions, and one that M never sees."""
    before, seen = ask("start", world="dream", frame=0, **CONTROLS)
    after, poked = ask("look", temperature=1.0, held={"2": 4.0})
    assert after["z"] == [*before["z"][:2], 4.0, before["z"][3]]
    assert after["steps"] == 0
    np.testing.assert_array_equal(poked[:2], seen[:2])
    assert (poked[2] != seen[2]).any()
    stepped, _ = ask("step", driver="you", keys=[], temperature=1.0, held={"2": 4.0})
    assert stepped["z"][2] == 4.0
    free, _ = ask("step", driver="you", keys=[], **CONTROLS)
    assert free["z"][2] != 4.0


def test_the_real_game_is_shown_as_it_is_seen_and_expected(stage, ask):
    """Catches panels of different steps, a reward of another action, and a game that goes on after its end."""
    about, panels = ask("start", world="game", frame=0, **CONTROLS)
    for k in range(1, END):
        about, panels = ask("step", driver="you", keys=["left"], **CONTROLS)
        assert (panels[0] == 10 * k).all()
        assert about["score"] == -k
        seen = stage.decode(np.float32([about["z"]]))[0].numpy().astype(int)
        assert np.abs(panels[1] - seen).max() <= 1
        assert (panels[2] != panels[1]).any()
    for _ in range(2):
        about, panels = ask("step", driver="you", keys=["left"], **CONTROLS)
        assert (about["steps"], about["score"], about["over"]) == (END, 100 - END, True)
        assert (panels[0] == 10 * (END - 1)).all()  # the last that could be seen


def test_a_game_whose_process_died_is_begun_anew(ask, monkeypatch):
    """Catches a page that loses its session, or asks the dead game for ever."""
    ask("start", world="game", frame=0, **CONTROLS)

    def dies(self, action):
        raise DiedError("the process of the games died")

    with monkeypatch.context() as patch:
        patch.setattr(encoded.EncodedGames, "step", dies)
        assert "died" in ask("step", driver="you", keys=[], **CONTROLS)[0]["error"]
    assert "started" in ask("step", driver="you", keys=[], **CONTROLS)[0]["error"]
    assert ask("start", world="game", frame=0, **CONTROLS)[0]["steps"] == 0


def test_a_gif_holds_what_was_seen(ask):
    """Catches frames left out, seen twice, or kept from the episode before."""
    for steps in (3, 6):
        ask("start", world="dream", frame=0, **CONTROLS)
        for _ in range(steps):
            ask("step", driver="you", keys=["left"], **CONTROLS)
        ask("look", temperature=1.0, held={"0": 1.0})
    about, payload = ask("gif")
    assert about == {"frames": 7}
    with Image.open(io.BytesIO(payload)) as gif:
        assert (gif.format, gif.n_frames, gif.size) == ("GIF", 7, (384, 128))


def test_a_gif_ends_with_the_game(ask, stage, monkeypatch):
    """Catches the last picture kept again by every key after the end, a file that grows for ever, another speed."""
    ask("start", world="game", frame=0, **CONTROLS)
    for _ in range(END + 2):
        ask("step", driver="you", keys=["left"], **CONTROLS)
    about, payload = ask("gif")
    assert about == {"frames": END}  # what the last step led to is not to be seen
    with Image.open(io.BytesIO(payload)) as gif:
        seconds = sum(gif.seek(k) or gif.info["duration"] for k in range(gif.n_frames)) / 1000
    assert seconds == pytest.approx(END / 30, abs=0.006)  # times are told in hundredths

    monkeypatch.setattr(session, "GIF_FRAMES", 3)
    page = session.Session(lambda name: stage, seed=1000)
    start, step = {"do": "start", "world": "dream", "frame": 0}, {"do": "step", "driver": "you", "keys": []}
    for message in ({"do": "open", "game": "toy"}, start, *[step] * 4):
        page.answer(json.dumps(message | CONTROLS))
    assert json.loads(page.answer(json.dumps({"do": "gif"})).partition(b"\n")[0]) == {"frames": 3}


def test_the_next_game_has_nothing_of_the_one_before(stage):
    """Catches a step in the world of a game that is no longer open, and the old game under the name of the new one."""
    made, other = [], copy.copy(stage)

    def real_games(rows):
        made.append(rows)
        return stage.game.real_games(rows)

    other.game = dataclasses.replace(stage.game, real_games=real_games)
    page = session.Session({"toy": stage, "other": other}.__getitem__, seed=1000)

    def ask(do, **message):
        return json.loads(page.answer(json.dumps({"do": do, **CONTROLS, **message})).partition(b"\n")[0])

    ask("open", game="toy")
    ask("start", world="game")
    ask("open", game="other")
    assert "started" in ask("step", driver="you", keys=[])["error"]
    assert ask("start", world="game")["steps"] == 0
    assert made == [1]


@pytest.mark.parametrize(("message", "complaint"), [
    ({"do": "open"}, "game"),
    ({"do": "rm"}, "do: give one of open"),
    ({"do": ["step"]}, "do"),
    ({"do": "start", "world": "../..", "frame": 0, **CONTROLS}, "world"),
    ({"do": "start", "world": "dream", "frame": 8, **CONTROLS}, "frame: give a number from 0 to 7"),
    ({"do": "start", "world": "dream", "frame": "0.npz", **CONTROLS}, "frame"),
    ({"do": "step", "driver": "you", "keys": ["up"], **CONTROLS}, "keys"),
    ({"do": "step", "driver": "you", "keys": "left", **CONTROLS}, "keys"),
    ({"do": "step", "driver": "cat", **CONTROLS}, "driver"),
    ({"do": "look", "temperature": 0, "held": {}}, "temperature: give a number from 0.1 to 2"),
    ({"do": "look", "temperature": float("nan"), "held": {}}, "temperature"),
    ({"do": "look", "temperature": True, "held": {}}, "temperature"),
    ({"do": "look", "temperature": 1, "held": {"4": 0}}, "no dimension 4"),
    ({"do": "look", "temperature": 1, "held": {"-1": 0}}, "no dimension -1"),
    ({"do": "look", "temperature": 1, "held": {"0": 1e9}}, "0: give a number from -5"),
    ({"do": "look", "temperature": 1, "held": [0]}, "held"),
    ({"do": "step", "driver": "you", "keys": ["left"], "temperature": 1, "held": {"4": 0}}, "no dimension 4"),
    ({"do": "start", "world": "dream", "frame": 1, "temperature": 1, "held": {"0": 9}}, "0: give a number from -5"),
    ([], "do"),
])  # fmt: skip
def test_what_cannot_be_followed_is_answered_and_changes_nothing(dreaming, message, complaint):
    """Catches an exception that ends the page's session, and a value from outside that is used unchecked."""
    look = json.dumps({"do": "look", **CONTROLS})
    before = dreaming.answer(look)
    answer = json.loads(dreaming.answer(json.dumps(message)))
    assert list(answer) == ["error"]
    assert complaint in answer["error"]
    for text in ("{", "[" * 4000):
        assert "not JSON" in json.loads(dreaming.answer(text))["error"]
    assert dreaming.answer(look) == before


def test_nothing_is_played_before_it_is_opened_and_started(stage):
    """Catches a traceback for a page that has missed an answer."""
    page = session.Session(lambda name: stage)
    assert "no game" in json.loads(page.answer(json.dumps({"do": "look", **CONTROLS})))["error"]
    page.answer(json.dumps({"do": "open", "game": "toy"}))
    for message in ({"do": "gif"}, {"do": "step", "driver": "you", "keys": []}):
        assert "started" in json.loads(page.answer(json.dumps(message | CONTROLS)))["error"]


def test_without_an_agent_the_page_says_why(stage, tmp_path):
    """Catches a studio that needs a controller, or plays one of another VAE and MDN-RNN."""
    run = tmp_path / "run"
    run.mkdir()
    for name, path in stage.models.paths.items():
        os.symlink(os.path.dirname(path), run / f"tf_{name}")
    lonely = session.Stage(stage.game, str(run))
    assert "has no one controller (none)" in lonely.no_agent
    for number in (1, 2):
        toy.write_controller(
            str(run / "log" / f"toy.cma.{number}.4.best.json"), stage.game, stage.models.hashes, [0] * 5
        )
    assert "(toy.cma.1.4.best.json, toy.cma.2.4.best.json)" in session.Stage(stage.game, str(run)).no_agent
    os.remove(run / "log" / "toy.cma.2.4.best.json")
    other = {"vae": "a" * 64, "rnn": "b" * 64, "initial_z": "c" * 64}
    toy.write_controller(str(run / "log" / "toy.cma.1.4.best.json"), stage.game, other, [0.5, 0, 0, 0, 0])
    stranger = session.Stage(stage.game, str(run))
    says = "the models that it was evolved on"
    assert says in stranger.no_agent
    page = session.Session(lambda name: stranger)
    page.answer(json.dumps({"do": "open", "game": "toy"}))
    page.answer(json.dumps({"do": "start", "world": "dream", "frame": 0, **CONTROLS}))
    assert says in json.loads(page.answer(json.dumps({"do": "step", "driver": "agent", **CONTROLS})))["error"]


def test_the_dream_of_an_rssm_is_played_by_keys_and_by_its_planner(stage, ask, tmp_path):
    """Catches a dream of the MDN-RNN shown for it, keys that do nothing, a planner of another state, a lost end."""
    refused, _ = ask("start", world="planet", frame=0, **CONTROLS)
    assert "PlaNet's dream cannot be played: neither" in refused["error"]

    run, shape = tmp_path / "run", rssm.Shape(1, True, deterministic=8, stochastic=3, hidden=8, head=8, depth=1)
    (run / "tf_planet").mkdir(parents=True)
    for name, path in stage.models.paths.items():
        os.symlink(os.path.dirname(path), run / f"tf_{name}")
    model = rssm.RSSM(shape, "float32")
    model.biases["reward_out"].assign([0.5])
    model.kernels["end_out"].assign(np.zeros((8, 1)))
    model.biases["end_out"].assign([-100.0])
    planet.write(str(run / "tf_planet" / "rssm.npz"), model, Search(2, 2, 20, 4), 4)
    assert "--unverified" in session.Stage(stage.game, str(run)).no_planet
    planned = session.Stage(stage.game, str(run), unverified=True)
    page = session.Session(lambda name: planned, seed=1000)

    def ask(do, **message):
        head, _, payload = page.answer(json.dumps({"do": do, **CONTROLS, **message})).partition(b"\n")
        return json.loads(head), np.frombuffer(payload, np.uint8).reshape(-1, 64, 64, 3)

    opened = json.loads(page.answer(json.dumps({"do": "open", "game": "toy"})).partition(b"\n")[0])
    assert (opened["no_planet"], opened["reward"]["planet"]) == ("", session.PLANNED)
    seen = []
    for keys in (["left"], ["right"]):
        about, panels = ask("start", world="planet", frame=3, seed=5000)
        np.testing.assert_array_equal(panels[0], stage.frames[3])
        np.testing.assert_array_equal(panels[1], panels[2])
        assert about["z"] == []
        about, panels = ask("step", driver="you", keys=keys)
        assert about["steps"] == 1
        h, s = page._planet.state
        assert about["score"] == pytest.approx(float(model.reward(model.prepared(), rssm.State(h, s))[0]), abs=1e-4)
        seen.append(h)
    assert np.abs(seen[0] - seen[1]).max() > 1e-4
    state = page._planet.state
    about, _ = ask("step", driver="agent")
    assert about["action"] == pytest.approx(planned.planet.planner().plan(state, 0)[0, 0].numpy().tolist(), abs=1e-3)
    while not about["over"]:
        about, _ = ask("step", driver="you", keys=[])
    assert about["steps"] == -(-ALIVE // 4)
    states = []
    for frame, seed in ((3, 5000), (3, 5001), (5, 5000)):
        ask("start", world="planet", frame=frame, seed=seed)
        states.append(np.array(page._planet.state.s))
    assert np.abs(states[0] - states[1]).min() > 1e-4
    assert np.abs(states[0] - states[2]).max() > 1e-4
    ask("look", temperature=2.0)
    assert page._planet._dreams.temperature == 2.0


def test_frames_come_from_the_runs_recordings(tmp_path):
    """Catches shipped frames shown for the user's own, one moment of every episode, a damaged file that ends it all."""
    for seed in range(4):
        obs = np.broadcast_to(np.arange(10)[:, None, None, None] + 10 * seed, (10, 64, 64, 3))
        recordings.write(str(tmp_path), seed, obs, np.zeros(10), np.zeros(10), np.zeros(10))
    (tmp_path / "2.npz").write_bytes(b"cut")
    assert session.recorded_frames(str(tmp_path))[:, 0, 0, 0].tolist() == [2, 10 + 4, 30 + 8]
    assert session.recorded_frames(str(tmp_path), count=2)[:, 0, 0, 0].tolist() == [2]
    assert session.recorded_frames(str(tmp_path / "none")).shape == (0, 64, 64, 3)


def test_carracing_is_played_by_hand_and_by_the_agent_that_ships(monkeypatch):
    """Catches a game whose actions, frames or backend the studio does not know: the toy has one of each."""
    monkeypatch.setenv("WORLDMODELS_DTYPE", "float32")
    found = game.find("carracing")
    real = session.Stage(found, found.folder)
    assert real.no_agent == ""
    page = session.Session(lambda name: real, seed=1000)
    page.answer(json.dumps({"do": "open", "game": "carracing"}))
    for world in ("dream", "game"):
        page.answer(json.dumps({"do": "start", "world": world, "frame": 1, **CONTROLS}))
        message = {"do": "step", "driver": "you", "keys": ["up", "left"], **CONTROLS}
        answer = json.loads(page.answer(json.dumps(message)).partition(b"\n")[0])
        assert (answer["steps"], answer["action"]) == (1, [-1, 1, 0])
        answer = json.loads(page.answer(json.dumps(message | {"driver": "agent"})).partition(b"\n")[0])
        assert answer["steps"] == 2
        assert len(answer["action"]) == 3
        assert answer["action"] != [-1, 1, 0]


def test_what_the_mdn_rnn_expects_stands_beside_what_the_game_pays(tmp_path, monkeypatch):
    """With heads. Catches an expectation of another step or action, and dreams that show no reward."""
    monkeypatch.setenv("WORLDMODELS_DTYPE", "float32")
    for name in ("toy", "run"):
        (tmp_path / name).mkdir()
    paying = toy.game_in(str(tmp_path / "toy"))
    paying.config.PAY, paying.config.DREAM_REWARD = settings.Pay(-1.0, 6.0, -50.0, 20.0), 0.0
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(paying.frames_picture)
    toy.write_models(paying, toy.in_run(paying, str(tmp_path / "run")))
    stage = session.Stage(paying, str(tmp_path / "run"))
    plain = session.Session(lambda name: stage, seed=1000)
    opened = json.loads(plain.answer(json.dumps({"do": "open", "game": "toy"})).partition(b"\n")[0])
    assert not opened["dream_rewards"]

    shape = dataclasses.replace(stage.rnn.shape, heads=True)
    rnn = mdnrnn.MDNRNN(shape, "float32")
    for name in stage.rnn.shape.arrays:
        getattr(rnn, name).assign(getattr(stage.rnn, name))
    rnn.heads_w.assign(np.random.default_rng(1000).normal(0, 1, rnn.heads_w.shape))
    stage.rnn, stage._weights = rnn, rnn.prepared()
    stage.models = dataclasses.replace(stage.models, rnn=rnn)
    page, answers = session.Session(lambda name: stage, seed=1000), []
    steps = [{"do": "step", "driver": "you", "keys": ["left"], **CONTROLS}] * 2
    for message in ({"do": "open", "game": "toy"}, {"do": "start", "world": "game", "frame": 0, **CONTROLS}, *steps):
        answers.append(json.loads(page.answer(json.dumps(message)).partition(b"\n")[0]))
    opened, started, first, second = answers
    assert opened["dream_rewards"]
    assert opened["reward"]["dream"] == session.EXPECTED
    assert started["expected"] == 0
    state, wanted = rnn.initial_state(1), 0
    for k, about in enumerate((started, first)):
        inputs = mdnrnn.inputs_of(np.float32([about["z"]]), np.float32([[-1]]), np.float32([k == 0]))
        state = rnn.step(rnn.prepared(), inputs, state)
        reward, fall = (state[0].numpy() @ rnn.heads_w.numpy() + rnn.heads_b.numpy())[0].astype(float)
        fall = 1 / (1 + 10 * np.exp(-fall))
        wanted += np.clip(reward, -1, 6) * (1 - fall) - 20 * fall
    assert abs(second["expected"] - wanted) < 0.02  # z is told to three digits
    dreamt = page.answer(json.dumps({"do": "start", "world": "dream", "frame": 0, **CONTROLS})).partition(b"\n")[0]
    assert "expected" not in json.loads(dreamt)
