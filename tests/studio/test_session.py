"""The studio: what a page's session plays, what the server lets in, and the page itself in a real browser."""

import asyncio
import base64
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import tensorflow as tf
import tornado.httpclient
import tornado.httpserver
import tornado.netutil
import tornado.websocket
from PIL import Image

from common.agent import controller, mdnrnn, vae
from common.data import recordings
from common.runtime import cli
from common.studio import server, session
from common.worlds import dream, games, rollouts

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CONTROLS = {"temperature": 1.0, "held": {}}
END, ALIVE = 5, 9  # tics of a game; tics of a dream


class Game:
    """A game that paints its step counter; reward is the action, and the last tic is worth 100 more."""

    def reset(self, seed):
        self.tic = 0
        return self.frame()

    def frame(self):
        return np.full((64, 64, 3), 10 * self.tic, np.uint8)

    def step(self, action):
        self.tic += 1
        return self.frame(), float(action[0]) + 100 * (self.tic == END), self.tic == END


def random_models():
    """V and M of random weights whose dreams do not end of themselves, and first frames of noise."""
    v, m = vae.ConvVAE(4, "float32"), mdnrnn.MDNRNN(mdnrnn.Shape(4, 1, 8, restart=True), "float32")
    m.output_b.assign(tf.concat([[-100.0], m.output_b[1:]], axis=0))
    rng = np.random.default_rng(1000)
    return v, m, tuple(rng.normal(0, 1, (2, 3, 4)).astype(np.float32)), {"vae": "a", "rnn": "b"}


def load_agent(arguments, rnn, hashes):
    c = controller.Controller("z", 4, 8, 1, bias=True)
    return lambda seeds: rollouts.Candidates(c, [controller.read(arguments.file, c)]), False


SCENE = session.Scene(
    config=types.SimpleNamespace(GAME="toy", TEMPERATURE=1.0, DREAM_REWARD=1.0),
    title="Toy",
    goal="Go.",
    reward={"dream": "1", "game": "the action"},
    keys={"left": "less", "right": "more"},
    keyboard_action=lambda keys: [("right" in keys) - ("left" in keys)],
    actions={"push": -1},
    load_models=lambda run: random_models(),
    load_agent=load_agent,
    dreams=lambda rnn, initial_z, temperature: dream.DreamWorld(rnn, initial_z, temperature, ALIVE),
    real_game=lambda: games.Games([Game()]),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The toy's models, with an agent that always pushes tanh(0.5) and eight frames of noise to start from."""
    root = tmp_path_factory.mktemp("root")
    (root / "toy").mkdir()
    frames = np.random.default_rng(1000).integers(0, 256, (8, 64, 64, 3), np.uint8)
    Image.fromarray(frames.reshape(-1, 64, 3)).save(root / "toy" / "frames.png")
    (root / "log").mkdir()
    controller.write(str(root / "log" / "toy.cma.1.4.best.json"), [0.5, 0, 0, 0, 0], 7.0)
    return session.Models(SCENE, str(root / "toy"), str(root / "toy"))


@pytest.fixture
def ask(models):
    """(do, **message) -> (JSON, what comes after it as frames if it is three of them, else bytes) of one session."""
    page = session.Session(lambda name: models, seed=1000)

    def ask(do, **message):
        head, _, payload = page.answer(json.dumps({"do": do, **message})).partition(b"\n")
        frames = np.frombuffer(payload, np.uint8).reshape(3, 64, 64, 3) if len(payload) == 3 * 64 * 64 * 3 else payload
        return json.loads(head), frames

    ask("open", game="toy")
    return ask


@pytest.fixture(scope="module")
def dreaming(models):
    """A session that dreams, and of which nothing is asked that it could follow."""
    page = session.Session(lambda name: models, seed=1000)
    page.answer(json.dumps({"do": "open", "game": "toy"}))
    page.answer(json.dumps({"do": "start", "world": "dream", "frame": 0, **CONTROLS}))
    return page


def test_a_game_is_opened_with_all_that_the_page_shows(models, ask):
    """Catches frames that are not those of the file, and limits the page does not know."""
    about, _ = ask("open", game="toy")
    assert (about["title"], about["z_size"], about["no_agent"], about["actions"]) == ("Toy", 4, "", {"push": -1})
    assert models.frames.shape == (8, 64, 64, 3)
    for shown, frame in zip(about["frames"], models.frames, strict=True):
        kind, _, data = shown.partition(",")
        assert kind == "data:image/png;base64"
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), frame)


def test_a_dream_starts_from_the_chosen_real_frame(models, ask):
    """Catches another frame, a reconstruction of another z, and a dream that begins elsewhere."""
    for k in (0, 5):
        about, panels = ask("start", world="dream", frame=k, **CONTROLS)
        assert (about["steps"], about["score"], about["over"], about["action"]) == (0, 0, False, None)
        np.testing.assert_array_equal(panels[0], models.frames[k])
        mu, logvar = models.encode(models.frames[k][None])
        assert np.abs((about["z"] - mu[0]) / np.exp(0.5 * logvar[0])).max() < 5
        seen = models.decode(np.float32([about["z"]]))[0].numpy().astype(int)
        assert np.abs(panels[1:] - seen).max() <= 1  # z was rounded


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


def test_the_temperature_reaches_the_dream(models):
    """Catches a slider that does nothing: at a low temperature the dreamt z must lie far closer to each other."""

    def dreamt(temperature):
        page = session.Session(lambda name: models, seed=1000)
        page.answer(json.dumps({"do": "open", "game": "toy"}))
        page.answer(json.dumps({"do": "start", "world": "dream", "frame": 0, **CONTROLS}))
        step = json.dumps({"do": "step", "driver": "you", "keys": [], "temperature": temperature, "held": {}})
        z = []
        for _ in range(6):
            answer = page.answer(step)
            z.append(json.loads(answer.partition(b"\n")[0])["z"])
        return np.std(z, axis=0).mean()

    assert dreamt(0.1) < 0.6 * dreamt(2.0)


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


def test_the_real_game_is_shown_as_it_is_seen_and_expected(models, ask):
    """Catches panels of different steps, a reward of another action, and a game that goes on after its end."""
    about, panels = ask("start", world="game", frame=0, **CONTROLS)
    for k in range(1, END):
        about, panels = ask("step", driver="you", keys=["left"], **CONTROLS)
        assert (panels[0] == 10 * k).all()
        assert about["score"] == -k
        seen = models.decode(np.float32([about["z"]]))[0].numpy().astype(int)
        assert np.abs(panels[1] - seen).max() <= 1
        assert (panels[2] != panels[1]).any()
    for _ in range(2):
        about, panels = ask("step", driver="you", keys=["left"], **CONTROLS)
        assert (about["steps"], about["score"], about["over"]) == (END, 100 - END, True)
        assert (panels[0] == 10 * (END - 1)).all()  # the last that could be seen


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
    ([], "do"),
])  # fmt: skip
def test_what_cannot_be_followed_is_answered_and_changes_nothing(dreaming, message, complaint):
    """Catches an exception that ends the page's session, and a value from outside that is used unchecked."""
    look = json.dumps({"do": "look", **CONTROLS})
    before = dreaming.answer(look)
    answer = json.loads(dreaming.answer(json.dumps(message)))
    assert list(answer) == ["error"]
    assert complaint in answer["error"]
    assert "not JSON" in json.loads(dreaming.answer("{"))["error"]
    assert dreaming.answer(look) == before


def test_nothing_is_played_before_it_is_opened_and_started(models):
    """Catches a traceback for a page that has missed an answer."""
    page = session.Session(lambda name: models)
    assert "no game" in json.loads(page.answer(json.dumps({"do": "look", **CONTROLS})))["error"]
    page.answer(json.dumps({"do": "open", "game": "toy"}))
    for message in ({"do": "gif"}, {"do": "step", "driver": "you", "keys": []}):
        assert "started" in json.loads(page.answer(json.dumps(message | CONTROLS)))["error"]


def test_without_an_agent_the_page_says_why(models, tmp_path):
    """Catches a studio that needs a controller, or plays one of another V and M."""

    def refuse(*_):
        raise session.UserError("c.json: was evolved with another vae")

    shutil.copy(os.path.join(ROOT, "doomrnn", "frames.png"), tmp_path / "frames.png")
    folder = str(tmp_path)
    lonely = session.Models(dataclasses.replace(SCENE, config=types.SimpleNamespace(GAME="nobody")), folder, folder)
    assert lonely.no_agent == "no log/nobody.*.best.json is there yet"
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "toy.cma.1.4.best.json").write_text("[]")
    other = session.Models(dataclasses.replace(SCENE, load_agent=refuse), folder, folder)
    assert "another vae" in other.no_agent
    page = session.Session(lambda name: other)
    page.answer(json.dumps({"do": "open", "game": "toy"}))
    page.answer(json.dumps({"do": "start", "world": "dream", "frame": 0, **CONTROLS}))
    assert "another vae" in json.loads(page.answer(json.dumps({"do": "step", "driver": "agent", **CONTROLS})))["error"]


def test_frames_come_from_the_runs_recordings(tmp_path):
    """Catches shipped frames shown for the user's own, one moment of every episode, a damaged file that ends it all."""
    for seed in range(4):
        obs = np.broadcast_to(np.arange(10)[:, None, None, None] + 10 * seed, (10, 64, 64, 3))
        recordings.write(str(tmp_path), seed, obs, np.zeros(10), np.zeros(10), np.zeros(10))
    (tmp_path / "2.npz").write_bytes(b"cut")
    assert session.recorded_frames(str(tmp_path))[:, 0, 0, 0].tolist() == [2, 10 + 4, 30 + 8]
    assert session.recorded_frames(str(tmp_path), count=2)[:, 0, 0, 0].tolist() == [2]
    assert session.recorded_frames(str(tmp_path / "none")).shape == (0, 64, 64, 3)


def test_both_games_scenes_live_in_one_process(rng):
    """Catches one game's config or model taken for the other's; CarRacing is driven with random weights, for real."""
    folders = server.game_folders()
    assert {"carracing", "doomrnn"} <= folders.keys()
    names, path = set(sys.modules), list(sys.path)
    scenes = {name: server.load_scene(folders[name]) for name in ("carracing", "doomrnn")}
    assert sys.path == path
    assert not {"config", "model", "env", "scene", "doomreal"} & (set(sys.modules) - names)
    assert [scene.config.GAME for scene in scenes.values()] == ["carracing", "doomrnn"]
    assert scenes["doomrnn"].keyboard_action({"left"}) == [-1]

    def load_models(run):
        v, m = vae.ConvVAE(32, "float32"), mdnrnn.MDNRNN(mdnrnn.Shape(32, 3, 256, restart=False), "float32")
        return v, m, tuple(rng.normal(0, 1, (2, 3, 32)).astype(np.float32)), {"vae": "a", "rnn": "b"}

    car = dataclasses.replace(scenes["carracing"], load_models=load_models)
    models = session.Models(car, folders["carracing"], folders["carracing"])
    page = session.Session(lambda name: models, seed=1000)
    page.answer(json.dumps({"do": "open", "game": "carracing"}))
    for world in ("dream", "game"):
        page.answer(json.dumps({"do": "start", "world": world, "frame": 1, **CONTROLS}))
        message = {"do": "step", "driver": "you", "keys": ["up", "left"], **CONTROLS}
        answer = json.loads(page.answer(json.dumps(message)).partition(b"\n")[0])
        assert (answer["steps"], answer["action"]) == (1, [-1, 1, 0])


# --- the server ---


def served(models, visit):
    """Serves the toy on a free port and returns what visit(port) brings."""

    async def main():
        app = server.application([{"name": "toy", "title": "Toy", "lacking": None}], lambda name: models)
        server, sockets = tornado.httpserver.HTTPServer(app), tornado.netutil.bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        try:
            return await visit(sockets[0].getsockname()[1])
        finally:
            server.stop()
            await server.close_all_connections()

    return asyncio.run(main())


async def fetch(port, path, **headers):
    client = tornado.httpclient.AsyncHTTPClient()
    return await client.fetch(f"http://127.0.0.1:{port}{path}", headers=headers, raise_error=False)


def connect(port, **headers):
    """A websocket to /play."""
    url = f"ws://127.0.0.1:{port}/play"
    return tornado.websocket.websocket_connect(tornado.httpclient.HTTPRequest(url, headers=headers))


def test_the_page_needs_nothing_from_elsewhere(models):
    """Catches a file that is not served, a page that loads from another site, and lost headers."""

    async def visit(port):
        for path in ("/", "/studio.js", "/studio.css", "/icon.svg", "/vendor/preact.mjs", "/vendor/htm.mjs", "/games"):
            response = await fetch(port, path)
            assert response.code == 200, path
            assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            if path in ("/", "/studio.js", "/studio.css"):
                assert b"//" not in response.body.replace(b"// ", b"").replace(b"http://www.w3.org", b"").replace(
                    b"}//${location.host}", b""
                )
        assert json.loads(response.body)[0]["name"] == "toy"

    served(models, visit)


def test_only_this_machine_is_answered(models):
    """Catches DNS rebinding, a page of another site, and files from outside of the page's folder."""

    async def visit(port):
        for path in ("/", "/games", "/studio.js"):
            for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
                assert (await fetch(port, path, Host=host)).code in (400, 403), (path, host)
            for host in (f"localhost:{port}", f"[::1]:{port}", "192.168.1.7"):
                assert (await fetch(port, path, Host=host)).code == 200, (path, host)
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            with pytest.raises(tornado.httpclient.HTTPClientError, match="403"):
                await connect(port, **headers)
        (await connect(port, Origin=f"http://127.0.0.1:{port}")).close()
        for path in ("/../studio.py", "/%2e%2e/studio.py", "//etc/passwd", "/vendor/../../studio.py"):
            assert (await fetch(port, path)).code in (403, 404), path

    served(models, visit)


def test_messages_and_pages_are_bounded(models, monkeypatch):
    """Catches a message that fills the memory, worlds without number, and a place that is never free again."""
    monkeypatch.setattr(studio, "PAGES", 2)

    async def visit(port):
        first, second, third = [await connect(port) for _ in range(3)]
        assert await third.read_message() is None
        assert third.close_code == 1013
        await first.write_message("x" * (server.MESSAGE_BYTES + 1))
        assert await first.read_message() is None
        longest = {str(k): -4.123456 for k in range(64)}
        message = {"do": "look", "temperature": 1.05, "held": longest, "keys": ["left", "right", "up", "down"]}
        await second.write_message(json.dumps(message))
        assert "no game is open" in json.loads(await second.read_message())["error"]
        second.close()
        answer = None
        while answer is None:  # until the server has noticed
            fourth = await connect(port)
            await fourth.write_message(json.dumps({"do": "open", "game": "toy"}))
            answer = await fourth.read_message()
        assert json.loads(answer)["title"] == "Toy"
        fourth.close()

    served(models, visit)


def run_studio(*arguments):
    return [sys.executable, "-m", "common.studio", *map(str, arguments)]


def test_a_users_mistakes_are_one_line(tmp_path):
    """Catches a traceback, a run whose game the studio would have to guess, a port that is another one modulo 65536."""
    for arguments, complaint in ((["--run", tmp_path], "--game"), (["--game", "chess"], "chess"),
                                 (["--game", "doomrnn", "--run", tmp_path / "none"], "no such folder"),
                                 (["--port", 99999], "--port 99999"), (["--port", -1], "--port -1")):  # fmt: skip
        done = subprocess.run(run_studio(*arguments), cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert complaint in done.stderr


def test_a_port_in_use_is_said_before_anything_is_loaded(monkeypatch):
    """Catches a user who waits for TensorFlow and the weights to be told that the port is taken."""
    [taken] = tornado.netutil.bind_sockets(0, "127.0.0.1")
    monkeypatch.setattr(sys, "argv", ["studio", "--port", str(taken.getsockname()[1])])
    monkeypatch.setattr(studio, "load_scene", lambda folder: pytest.fail("a game was loaded first"))
    with taken, pytest.raises(cli.UserError, match="give another --port"):
        server.main()


# --- the page, in a browser ---


class Browser:
    """Chromium on the studio's page, told what to do by keys alone."""

    def __init__(self, url, downloads):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1400"):
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.get(url)

    def until(self, done, seconds=300):
        """Waits until done() is true, and returns what it was."""
        end = time.monotonic() + seconds
        while not (value := done()):
            assert time.monotonic() < end, f"not within {seconds} s; the page says: {self.text('status')}"
            time.sleep(0.05)
        return value

    def element(self, name):
        return self.driver.find_element("id", name)

    def text(self, name):
        return self.driver.execute_script("return document.getElementById(arguments[0])?.textContent", name)

    def number(self, name):
        return float(self.text(name))

    def picture(self, panel):
        return self.driver.execute_script("return document.getElementById(arguments[0]).toDataURL()", f"panel{panel}")

    def focused(self):
        return self.driver.switch_to.active_element

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def click(self, *where):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).click(self.driver.find_element(*where)).perform()

    def hold(self, key, down=True):
        from selenium.webdriver import ActionChains

        chain = ActionChains(self.driver)
        (chain.key_down(key) if down else chain.key_up(key)).perform()

    def tab_to(self, name):
        """Presses Tab until the focus is there; fails if Tab does not lead there."""
        for _ in range(60):
            if self.focused().get_attribute("id") == name:
                return
            self.press("\ue004")
        raise AssertionError(f"Tab does not lead to {name}")

    def errors(self):
        """What the page's console has to complain of."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser on a studio that serves both games with the weights that ship; without one the tests are skipped."""
    if not (CHROMIUM and shutil.which("chromedriver")):
        pytest.skip("no chromium and chromedriver here (Debian: apt-get install chromium chromium-driver)")
    downloads = tmp_path_factory.mktemp("downloads")
    server = subprocess.Popen(run_studio("--port", 0), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        url = next(word for line in server.stdout for word in line.split() if word.startswith("http://127.0.0.1:"))
        page = Browser(url, downloads)
        page.downloads = downloads
        try:
            page.until(lambda: page.text("steps") == "0")
            yield page
        finally:
            page.driver.quit()
    finally:
        server.terminate()
        server.wait()


ENTER, SPACE, LEFT, UP, RIGHT, DELETE = "\ue007", " ", "\ue012", "\ue013", "\ue014", "\ue017"


def test_a_dream_is_driven_with_the_keyboard_and_its_reward_read(browser):
    """Catches a page that shows no dream, keys that do not drive it, and a reward that is not the dream's."""
    start, dreamt = browser.picture(0), browser.picture(2)
    browser.tab_to("run")
    browser.press(ENTER)
    assert browser.focused().get_attribute("id") == "stage"
    browser.hold(LEFT)
    browser.until(lambda: browser.number("steps") >= 10)
    drive = browser.driver.find_element("css selector", ".action dd")
    assert drive.text == "-1.00"
    browser.hold(LEFT, down=False)
    browser.until(lambda: drive.text == "0.00")
    browser.press(SPACE)
    browser.until(lambda: "Paused after" in browser.text("status"))
    steps, dreamt_now = browser.number("steps"), browser.picture(2)
    assert browser.text("status") == f"Paused after {steps:.0f} steps, reward {steps:.0f}."
    assert browser.number("reward") == steps  # 1 for every tic
    assert browser.picture(0) == start
    assert dreamt_now != dreamt
    browser.press(RIGHT)  # standing still, a press is one step
    browser.until(lambda: browser.number("steps") == steps + 1)
    assert drive.text == "1.00"
    assert not browser.errors()


def test_an_ended_dream_starts_again_by_a_key(browser):
    """Catches an end that the picture does not tell, and one that only a button leads on from."""
    browser.driver.execute_script("document.getElementById('speed').focus()")
    browser.press("\ue010")  # End: 50 steps per second
    browser.tab_to("temperature")
    before = browser.focused().get_attribute("value")
    browser.press("\ue010")  # 2.0, in which no one lives for long
    for key in (SPACE, ENTER):
        browser.element("again").send_keys(ENTER)
        [over] = browser.until(lambda: browser.driver.find_elements("css selector", ".played .over"))
        steps = browser.text("steps")
        assert over.text == f"Over: {steps} steps, reward {steps}. Space: again"
        assert browser.text("status").startswith(f"Over after {steps} steps, reward {steps}.")
        browser.press(key)
        browser.until(lambda: not browser.driver.find_elements("class name", "over"))
        browser.until(lambda: browser.number("steps") >= 1)
        browser.press(SPACE)
        browser.until(lambda: "Paused" in browser.text("status") or "Over" in browser.text("status"))
    browser.tab_to("speed")
    browser.press("\ue011", *[RIGHT] * 25)  # Home
    browser.tab_to("temperature")
    browser.press("\ue011", *[RIGHT] * round((float(before) - 0.1) / 0.05))
    assert browser.focused().get_attribute("value") == before
    assert not browser.errors()


def test_steps_come_no_faster_than_the_speed_that_is_set(browser):
    """Catches steps that hurry to make up for lost time, and a speed shown that is not the true one."""
    browser.tab_to("speed")
    browser.press(*[LEFT] * 15)
    browser.element("again").send_keys(ENTER)
    browser.until(lambda: 1 <= browser.number("steps") <= 10)
    first, began = browser.number("steps"), time.monotonic()
    browser.until(lambda: browser.number("steps") >= 50)
    assert (browser.number("steps") - first) / (time.monotonic() - began) < 15 * 1.2
    assert 0 < int(browser.text("speed-beside").removeprefix("now ")) < 15 * 1.2
    browser.press(SPACE)
    browser.tab_to("speed")
    browser.press(*[RIGHT] * 15)


def test_the_controls_work_without_a_mouse(browser):
    """Catches a slider, a fader, a start frame, a world or the GIF that only a pointer reaches."""
    browser.tab_to("temperature")
    before = browser.focused().get_attribute("value")
    browser.press(RIGHT)
    assert float(browser.focused().get_attribute("value")) == pytest.approx(float(before) + 0.05)
    assert browser.driver.find_element("css selector", "label[for=temperature] output").text == "1.3"

    browser.tab_to("z0")
    browser.press(RIGHT, RIGHT)
    assert browser.focused().get_attribute("id") == "z2"
    dreamt, value = browser.picture(2), float(browser.focused().get_attribute("value"))
    browser.press(*[UP] * 20)
    browser.until(lambda: browser.picture(2) != dreamt)
    assert float(browser.focused().get_attribute("value")) == pytest.approx(min(value + 2, 5), abs=0.11)
    assert "(1 held)" in browser.text("let-go")
    assert browser.focused().get_attribute("aria-valuetext").endswith(", held")
    browser.press(DELETE)
    assert "held" not in browser.text("let-go")

    steps = int(browser.number("steps"))
    browser.element("gif").send_keys(ENTER)
    gif = browser.downloads / "doomrnn-dream.gif"
    browser.until(gif.exists)
    with Image.open(gif) as picture:
        assert picture.n_frames == steps + 1
    assert f"{steps + 1} frames" in browser.text("status")

    real = browser.picture(0)
    browser.driver.find_elements("css selector", "input[name=frame]")[0].send_keys(RIGHT)
    browser.until(lambda: browser.number("steps") == 0 and browser.picture(0) != real)
    browser.driver.find_element("css selector", "input[name=world]").send_keys(RIGHT)
    browser.until(lambda: browser.text("stage").startswith("Real game"))
    browser.until(lambda: browser.element("one").is_enabled())
    browser.driver.find_element("css selector", "input[name=driver]").send_keys(RIGHT)  # the agent
    browser.element("one").send_keys(ENTER)
    browser.until(lambda: browser.number("reward") == 1)
    assert not browser.errors()


def test_after_a_click_the_keys_drive_again(browser):
    """Catches arrows that change what was clicked last, the game among it, and a Space that no longer starts."""
    dream_again(browser)
    browser.tab_to("speed")
    browser.press("\ue011", RIGHT)  # 6 steps per second: none ends meanwhile
    for where in (("css selector", "input[value=agent] + span"), ("id", "temperature"), ("id", "gif"), ("id", "again")):
        browser.element("again").send_keys(ENTER)
        browser.until(lambda: browser.text("run") == "Pause")
        browser.press(SPACE)
        browser.until(lambda: "Paused" in browser.text("status"))
        browser.click(*where)
        if where[1] != "again":
            browser.press(SPACE)
        browser.until(lambda: browser.text("run") == "Pause")
        browser.press(SPACE)
        browser.until(lambda: "Paused" in browser.text("status"))
    browser.click("css selector", "input[value=you] + span")
    steps = browser.number("steps")
    temperature = browser.element("temperature").get_attribute("value")
    browser.press(RIGHT)
    browser.until(lambda: browser.number("steps") == steps + 1)
    assert browser.driver.find_element("css selector", "input[name=driver]:checked").get_attribute("value") == "you"
    assert browser.element("temperature").get_attribute("value") == temperature
    browser.click("css selector", ".frames label:nth-child(3)")
    browser.until(lambda: browser.text("steps") == "0" and browser.element("one").is_enabled())
    browser.press(LEFT)
    browser.until(lambda: browser.text("steps") == "1")
    assert browser.driver.find_elements("css selector", "input[name=frame]")[2].is_selected()
    browser.click("css selector", "input[value=carracing] + span")
    browser.until(lambda: browser.text("reward") is None and browser.text("steps") == "0")
    browser.until(lambda: browser.element("one").is_enabled())
    browser.press(UP)
    browser.until(lambda: browser.text("steps") == "1")
    browser.click("css selector", "input[value=doomrnn] + span")
    browser.until(lambda: browser.text("reward") == "0" and browser.element("one").is_enabled())
    browser.tab_to("speed")
    browser.press("\ue011", *[RIGHT] * 25)
    assert not browser.errors()


def test_a_dream_goes_on_after_its_gif(browser):
    """Catches a GIF that leaves a running dream paused."""
    dream_again(browser)
    gif = browser.downloads / "doomrnn-dream.gif"
    gif.unlink(missing_ok=True)
    browser.element("again").send_keys(ENTER)
    browser.until(lambda: browser.number("steps") >= 5)
    browser.element("gif").send_keys(ENTER)
    browser.until(gif.exists)
    steps = browser.number("steps")
    browser.until(lambda: browser.number("steps") >= steps + 5 or "Over" in browser.text("status"))
    browser.press(SPACE)
    assert not browser.errors()


def dream_again(browser):
    """From wherever the test before has left the page."""
    if not browser.text("stage").startswith("Started from"):
        browser.driver.find_element("css selector", "input[name=world][value=game]").send_keys(LEFT)
    browser.until(lambda: browser.text("stage").startswith("Started from") and browser.element("one").is_enabled())


def test_the_game_is_switched_while_one_runs(browser):
    """Catches a last frame that finds no panels and freezes the page, a lost focus, a text of loading left behind."""
    dream_again(browser)
    for name, key in (("carracing", RIGHT), ("doomrnn", LEFT)):
        browser.until(lambda: browser.element("one").is_enabled())
        browser.element("run").send_keys(ENTER)
        browser.until(lambda: browser.number("steps") >= 5)
        browser.driver.find_element("css selector", "input[name=game]:checked").send_keys(key)
        browser.until(lambda: "is ready" in browser.text("status") and browser.text("steps") == "0")
        assert browser.focused().get_attribute("value") == name
        assert browser.focused().is_selected()
        assert (browser.text("reward") is None) == (name == "carracing")  # whose M does not know the game's
    browser.element("run").send_keys(ENTER)
    browser.until(lambda: browser.number("steps") >= 5)
    browser.press(SPACE)
    assert not browser.driver.find_elements("class name", "loading")
    assert not browser.errors()


def test_the_pictures_stay_beside_the_controls(browser):
    """Catches a slider or a fader of a dream that scrolls the picture away which it changes."""
    browser.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    dream_again(browser)
    sides = "const box = document.getElementById(arguments[0]).getBoundingClientRect(); return [box.top, box.bottom]"
    for name in ("panel0", "panel1", "panel2", "run", "steps", "temperature", "z0", "z63"):
        top, bottom = browser.driver.execute_script(sides, name)
        assert 0 <= top < bottom <= 800, name
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_screen_reader_is_told_what_everything_is(browser):
    """Catches a control without a name or two of the same, a tick or a number that is read out, no language."""
    assert browser.driver.find_element("tag name", "html").get_attribute("lang") == "en"
    assert browser.element("status").aria_role == "status"
    assert len(browser.driver.find_elements("tag name", "h1")) == 1
    nodes = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    names = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    controls = [pair for pair in names if pair[0] in ("button", "radio", "slider", "image", "application")]
    assert len(controls) > 64 + 16
    assert all(name for _, name in controls)
    assert len(set(controls)) == len(controls)
    assert {"Doom: Take Cover", "CarRacing", "Dream", "You"} <= {name for role, name in names if role == "radio"}
    assert "63" not in {name for _, name in names}  # a fader's number, beside "z 63"


def test_the_page_fits_a_telephone(browser):
    """Catches a page that has to be scrolled sideways, and a pad that fingers cannot press."""
    browser.driver.set_window_size(500, 900)  # as narrow as Chromium's window gets
    width = "return [document.documentElement.scrollWidth, innerWidth]"
    content, window = browser.driver.execute_script(width)
    assert content <= window
    pad = browser.driver.find_elements("css selector", ".pad button")
    assert {button.accessible_name for button in pad} == {"step left", "step right"}
    assert all(min(button.size.values()) >= 44 for button in pad)
