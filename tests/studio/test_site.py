"""The static page: what is exported, and the dream in a real browser, from Python's own web server under a sub-path."""

import base64
import contextlib
import dataclasses
import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
import types
import urllib.parse

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from common import game
from common.agent import mdnrnn, models, network, vae
from common.play import agents
from common.runtime import cli, devices
from common.studio import export, session
from common.worlds import dream

import toy

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
STEPS = 50  # over which numbers are compared
Z_TOLERANCE, LEVELS = 2e-5, 1  # of z and actions, which are about 1, and of a frame's 255 levels, after any of them
LIMITS = {"doomrnn": 15e6, "carracing": 10e6}  # bytes that a visitor loads
SPACE, ENTER, LEFT, RIGHT = " ", "\ue007", "\ue012", "\ue014"


@pytest.fixture(scope="module", autouse=True)
def float32():
    """The models compute in float32, as the page does, whatever is faster on this processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLDMODELS_DTYPE", "float32")
        yield


def toy_stage(name="toy", mixtures=1, restart=False, **changes):
    """What a session.Stage has, with models of random weights and odd sizes, whose agent has hidden layers."""
    tf.keras.utils.set_random_seed(1000)
    rng = np.random.default_rng(1000)
    v, m = vae.ConvVAE(5), mdnrnn.MDNRNN(mdnrnn.Shape(5, 2, 7, restart, mixtures))
    for part in (m.output_w, m.bias):
        part.assign(0.5 * rng.standard_normal(part.shape))
    if restart:
        m.output_b.assign(tf.concat([[-100.0], m.output_b[1:]], axis=0))  # it does not end
    config = types.SimpleNamespace(
        GAME=name, TEMPERATURE=1.0, DREAM_REWARD=0.5, MAX_STEPS=60, ACTION_SIZE=2, ACTION_LOW=(-1.0, 0.0),
        ACTION_HIGH=(1.0, 2.0), CONTROLLER_MODE="zh", CONTROLLER_BIAS=True, __file__=__file__,
    )  # fmt: skip
    scene = game.Game(
        config, title="Toy", goal="Go.", reward={"dream": "half a point", "game": ""}, keys={"up": "on", "left": "off"},
        actions={"push": -1, "pull": 0}, keyboard_action=lambda keys: [-("left" in keys), 2 * ("up" in keys)],
        real_games=None, random_policies={},
    )  # fmt: skip
    policy = network.policy_for(config, 12, "6,4")
    loaded = models.Models(v, m, None, {"vae": "a", "rnn": "b"}, {"rnn": "rnn.json"}, {})
    parameters = policy.network.initial(rng, last=1.0)
    agent = agents.Agent(scene, __file__, policy, parameters, loaded, {"config": {"controller_mode": "zh"}})
    stage = types.SimpleNamespace(game=scene, agent=agent, no_agent="", models=loaded, vae=v, rnn=m, end_weight=0.0)
    stage.frames = rng.integers(0, 256, (3, 64, 64, 3), np.uint8)
    vars(stage).update(changes)
    return stage


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A web server's folder: in pages/dream/ the site of the games that ship, as the command makes it, and of a toy."""
    root = tmp_path_factory.mktemp("root")
    out = root / "pages" / "dream"
    subprocess.run([sys.executable, "-m", "common.studio.export", "--out", out], cwd=ROOT, check=True)
    export.write_game(str(out), toy_stage())
    export.write_page(str(out))
    return root


def manifest_of(root, name):
    return json.loads((root / "pages" / "dream" / name / "manifest.json").read_text())


# --- what is exported ---


@pytest.mark.parametrize("name", ["doomrnn", "carracing"])
def test_the_weights_file_is_what_the_manifest_says(root, name):
    """Catches an offset, a shape or a hash of another array, weights of another set, and a page that is too large."""
    about = manifest_of(root, name)
    data = (root / "pages" / "dream" / name / about["file"]).read_bytes()
    arrays = {}
    for key, array in about["arrays"].items():
        size = int(np.prod(array["shape"])) * np.dtype(array["type"]).itemsize
        part = data[array["offset"] : array["offset"] + size]
        assert hashlib.sha256(part).hexdigest() == array["sha256"]
        arrays[key] = np.frombuffer(part, array["type"]).reshape(array["shape"])
    assert len(data) == about["bytes"] == array["offset"] + size
    scene = game.find(name)
    stage = session.Stage(scene, scene.folder)
    assert about["made"]["models"] == stage.models.hashes
    np.testing.assert_array_equal(arrays["rnn/kernel"], stage.rnn.kernel.numpy().astype(np.float16))
    np.testing.assert_array_equal(arrays["mu/weight"], stage.vae.fc_mu.kernel.numpy().astype(np.float16))
    np.testing.assert_array_equal(arrays["frames"], stage.frames)
    written = sum(np.prod(array.shape) for key, array in arrays.items() if key != "frames")
    assert written >= stage.vae.count_params() + stage.rnn.count_params() + len(stage.agent.parameters)
    weights, everything = export.sizes(str(root / "pages" / "dream"), name)
    assert weights == len(data)
    assert weights < everything < LIMITS[name]


def test_what_becomes_of_the_controllers_outputs_is_data():
    """Catches a brake that is not cut, a gas that is not shifted, and a rule for a game that follows another."""
    rule = export.action_rule_of(game.find("carracing"))
    assert rule == [
        {"scale": 1, "shift": 0, "least": -1, "most": 1},
        {"scale": 0.5, "shift": 0.5, "least": 0, "most": 1},
        {"scale": 1, "shift": 0, "least": 0, "most": 1},
    ]
    scene = dataclasses.replace(toy_stage().game, action_of=lambda raw: raw[:, ::-1])
    with pytest.raises(cli.UserError, match="toy: action_of does more"):
        export.action_rule_of(scene)


def test_every_set_of_keys_has_its_action():
    """Catches keys that cancel each other out on the server only, and an order of keys that the page does not find."""
    assert export.keyboard_of(toy_stage().game) == {"": [0, 0], "left": [-1, 0], "up": [0, 2], "left up": [-1, 2]}


def test_the_page_is_told_what_is_true_of_the_game():
    """Catches a dream that pays, lasts or varies otherwise in the browser than in Python, and seeds of tests."""
    stage = toy_stage(end_weight=3.0)
    vars(stage.game.config).update(TEMPERATURE=0.7, MAX_STEPS=61)
    about, _ = export.manifest_of(stage)
    names = "name", "title", "goal", "dream_reward", "max_steps", "temperature", "temperatures", "seeds", "held"
    wanted = "toy", "Toy", "Go.", 0.5, 61, 0.7, session.TEMPERATURES, session.SEEDS, session.HELD
    assert tuple(about[name] for name in names) == wanted
    assert about["end_weight"] == 3.0
    assert (about["reward"], about["actions"]) == ({"dream": "half a point"}, {"push": -1, "pull": 0})
    sizes = {"z_size": 5, "action_size": 2, "hidden_size": 7, "mixtures": 1, "restart": False}
    assert about["rnn"] == sizes | {"forget_bias": mdnrnn.FORGET_BIAS}


def linear_agent(mode):
    stage = toy_stage()
    shape = agents.controller_on(stage.game, stage.rnn, mode)
    parameters = np.random.default_rng(1000).standard_normal(shape.parameters).astype(np.float32)
    return dataclasses.replace(stage.agent, controller=shape, parameters=parameters)


def network_agent(choices, linear, cut=(False, False), bias=0):
    stage = toy_stage()
    stage.game.config.CHOICES, stage.game.config.ACTION_CUT = choices, cut
    if linear and choices:  # which are of one number then
        stage.game.config.ACTION_SIZE = 1
    size = 12 + bias if choices else network.base_size(stage.game.config, 12)
    base = np.random.default_rng(1000).standard_normal(size).astype(np.float32) if linear else None
    policy = network.policy_for(stage.game.config, 12, "6", base)
    parameters = policy.network.initial(np.random.default_rng(1000), last=1.0)
    parameters = np.concatenate([parameters, base]) if linear else parameters
    return dataclasses.replace(stage.agent, controller=policy, parameters=parameters)


@pytest.mark.parametrize("make", [
    *(pytest.param(lambda mode=mode: linear_agent(mode), id=mode) for mode in ("z", "z_hidden", "zc", "zch")),
    pytest.param(lambda: network_agent(((-1, 0), (0, 0), (1, 2)), False), id="choice"),
    pytest.param(lambda: network_agent(((-1,), (0,), (1,)), True), id="choice over a linear controller"),
    pytest.param(lambda: network_agent(((-1,), (0,), (1,)), True, bias=1), id="choice over one with a bias"),
    pytest.param(lambda: network_agent(None, False), id="normal"),
    pytest.param(lambda: network_agent(None, False, (False, True)), id="normal, one number cut"),
    pytest.param(lambda: network_agent(None, True, (False, True)), id="normal over a linear controller"),
])  # fmt: skip
def test_controllers_of_all_kinds_are_exported(make):
    """Catches biases taken for weights, hidden layers left out, h and c exchanged: the export compares what it acts."""
    agent, arrays = make(), export.Arrays()
    exported = export.controller_of(arrays, agent)
    assert sum(np.prod(about["shape"]) for about in arrays.about.values()) > 0
    assert set(exported["reads"]) <= set("zhc")


@pytest.mark.parametrize("make", [
    pytest.param(lambda: linear_agent("zh"), id="linear"),
    pytest.param(lambda: network_agent(((-1, 0), (0, 0), (1, 2)), False), id="choice"),
])  # fmt: skip
def test_a_controller_that_would_act_otherwise_is_refused(make, monkeypatch):
    """Catches an export that is not compared with the agent it is of."""
    agent = make()
    still = types.SimpleNamespace(act=lambda state: np.zeros((len(state[0]), 2)))
    monkeypatch.setattr(agents.Agent, "policy", lambda self, seeds: still)
    with pytest.raises(cli.UserError, match=r"the page would act otherwise, by .* knows no such controller"):
        export.controller_of(export.Arrays(), agent)


@pytest.mark.parametrize("choices", [None, ((-1, 0), (0, 0), (1, 2))])
def test_a_controller_that_a_float16_is_too_coarse_for_is_refused(choices):
    """Catches a comparison with weights that are not those written: 2049 becomes 2048, so 0.5 becomes 0."""
    agent = network_agent(choices, False)
    (_, first), (bias, last) = agent.controller.network.unpack(np.zeros_like(agent.parameters))
    last[0], bias[:] = 2049, -2048.5
    agent.parameters[:] = np.concatenate([np.full(first.shape[1], 20.0), first.ravel(), bias, last.ravel()])
    with pytest.raises(cli.UserError, match=r"act otherwise, by 0\..* float16 is too coarse"):
        export.controller_of(export.Arrays(), agent)


def test_a_choice_that_float16_may_decide_is_exported():
    """Catches a refusal for a state in which two choices are as good as equal: here they are in every state."""
    agent = network_agent(((-1, 0), (0, 0), (1, 2)), False)
    (_, first), (bias, last) = agent.controller.network.unpack(np.zeros_like(agent.parameters))
    bias[:] = 1, 1.0001, 0  # 1.0001 is 1 in a float16
    agent.parameters[:] = np.concatenate([np.zeros(first.shape[1]), first.ravel(), bias, last.ravel()])
    assert export.controller_of(export.Arrays(), agent)["choices"]


@pytest.mark.parametrize("break_it", [
    pytest.param(lambda stage: vars(stage).update(rnn=stage.vae), id="a ConvVAE"),
    pytest.param(lambda stage: stage.vae.decoder.layers[-1].__setattr__("activation", tf.nn.selu), id="selu"),
    pytest.param(lambda stage: stage.vae.decoder.add(tf.keras.layers.LayerNormalization()), id="LayerNormalization"),
    pytest.param(lambda stage: stage.rnn.kernel.assign(tf.fill(stage.rnn.kernel.shape, 7e4)), id="a float16"),
])  # fmt: skip
def test_weights_of_another_kind_are_refused_in_one_line(break_it, request):
    """Catches a page that would draw something else than the models do."""
    stage = toy_stage()
    break_it(stage)
    with pytest.raises(cli.UserError, match="it is not exported") as refused:
        export.manifest_of(stage)
    assert request.node.callspec.id in str(refused.value)


@pytest.fixture
def exported(monkeypatch):
    """(arguments) -> runs the command in this process, where TensorFlow is set up already."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
        export.main()

    monkeypatch.setattr(devices, "for_blocks", lambda: None)
    return run


def test_a_users_mistakes_are_one_line_and_nothing_is_overwritten(tmp_path, exported):
    """Catches a traceback, a page among files of the user's, a run whose game would have to be guessed."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    (tmp_path / "file").write_text("")
    (tmp_path / "damaged" / "other").mkdir(parents=True)
    (tmp_path / "damaged" / "games.json").write_text("[]")
    (tmp_path / "damaged" / "other" / "manifest.json").write_text("{")
    for arguments, complaint in (
        (["--run", tmp_path], "--game"),
        (["--game", "doomrnn", "--run", tmp_path / "none"], "no such folder"),
        (["--controller", "log/doomrnn.ppo.64.512.best.json"], "--controller .*say with --game"),
        (
            ["--game", "doomrnn", "--controller", "none.json", "--out", tmp_path / "out"],
            "--controller none.json: .*no such",
        ),
        (["--out", tmp_path / "mine"], "holds files that are not those of such a page"),
        (["--out", tmp_path / "file"], "is not a folder"),
        (["--out", ""], "--out: give a folder"),
        (["--out", tmp_path / "damaged"], "manifest.json: damaged"),
    ):
        with pytest.raises(cli.UserError, match=complaint):
            exported(*arguments)
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]
    assert sorted(os.listdir(tmp_path / "damaged")) == ["games.json", "other"]


def test_a_game_without_weights_is_one_line_also_by_its_name(tmp_path, exported, monkeypatch):
    """Catches an IndexError where nothing is trained yet."""
    (tmp_path / "toy").mkdir()
    scene = toy.game_in(str(tmp_path / "toy"))
    monkeypatch.setattr(game, "names", lambda: ["toy"])
    monkeypatch.setattr(game, "find", lambda name: scene)
    for arguments in ([], ["--game", "toy"]):
        with pytest.raises(cli.UserError, match="train them first"):
            exported(*arguments, "--out", tmp_path / "out")


def test_an_edited_controller_is_not_exported(tmp_path, exported, capsys):
    """Catches an export past the provenance of files, and one that does not say that it went past it."""
    out, log = tmp_path / "out", tmp_path / "run" / "log"
    shipped = game.find("doomrnn").config
    for name, path in shipped.TRAINED.items():
        source = os.path.join(ROOT, "doomrnn", shipped.SHIPPED[0][name])
        os.makedirs(os.path.dirname(tmp_path / "run" / path))
        for ending in ("", ".meta.json"):
            shutil.copy(source + ending, str(tmp_path / "run" / path) + ending)
    log.mkdir()
    for ending in ("", ".meta.json"):
        shutil.copy(os.path.join(ROOT, shipped.SHIPPED_CONTROLLER) + ending, log)
    path = log / os.path.basename(shipped.SHIPPED_CONTROLLER)
    path.write_text(json.dumps([[0.1, *json.loads(path.read_text())[0][1:]]]))
    arguments = ["--game", "doomrnn", "--run", tmp_path / "run", "--out", out]
    exported(*arguments)
    said = capsys.readouterr().out
    assert "without an agent" in said
    assert "is not the file that its" in said
    made = json.loads((out / "doomrnn" / "manifest.json").read_text())
    assert (made["controller"], made["no_agent"]) == (None, "this page was exported without an agent")
    assert str(tmp_path) not in json.dumps(made)
    exported(*arguments, "--unverified")
    made = json.loads((out / "doomrnn" / "manifest.json").read_text())
    assert made["made"]["unverified"]
    assert made["controller"]


def test_another_agent_that_ships_is_exported_with_its_own_models(tmp_path, exported):
    """Catches a page of the linear controller, or of its models, where the network was asked for."""
    file = "log/doomrnn.ppo.64.512.best.json"
    exported("--game", "doomrnn", "--controller", file, "--out", tmp_path / "out")
    made = json.loads((tmp_path / "out" / "doomrnn" / "manifest.json").read_text())
    with open(os.path.join(ROOT, f"{file}.meta.json")) as meta_file:
        meta = json.load(meta_file)
    said = json.dumps(made)
    assert meta["sha256"] in said
    for name in ("vae", "rnn"):
        assert meta["parents"][name] in said
    assert not made["no_agent"]


def test_a_game_exported_again_leaves_one_weights_file(tmp_path):
    """Catches old weights that stay for ever, another game that is lost, and a file that the offline page lacks."""
    for stage in (toy_stage(), toy_stage("other"), toy_stage(mixtures=2)):
        export.write_game(str(tmp_path), stage)
    export.write_page(str(tmp_path))
    assert [len(list((tmp_path / name).glob("weights.*.bin"))) for name in ("toy", "other")] == [1, 1]
    assert [about["name"] for about in json.loads((tmp_path / "games.json").read_text())] == ["other", "toy"]
    kept = (tmp_path / "service-worker.js").read_text().partition(";\n")[0].removeprefix("self.FILES = ")
    there = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    missing = {path for path in there if not path.endswith(".bin")} - {"service-worker.js"} - set(json.loads(kept))
    assert not missing


def test_the_format_names_what_the_manifest_holds():
    """Catches a manifest that has changed under its old number: an old page would read it as if it had not."""
    with open(os.path.join(export.PAGE, "weights.js"), encoding="utf-8") as file:
        assert f"export const FORMAT = {export.FORMAT};" in file.read()
    about, _ = export.manifest_of(toy_stage())
    [linear, network_rule] = (export.controller_of(export.Arrays(), agent)["rule"][0]
                              for agent in (linear_agent("z"), network_agent(None, True)))  # fmt: skip
    assert (export.FORMAT, set(about), set(about["controller"]), set(linear), set(network_rule)) == (
        2,  # give it the next number when you change what follows
        {"format", "name", "title", "goal", "reward", "keys", "actions", "keyboard", "dream_reward", "max_steps",
         "temperature", "temperatures", "seeds", "held", "vae", "rnn", "end_weight", "controller", "no_agent", "made",
         "file", "bytes", "arrays"},
        {"reads", "stacks", "rule"},
        {"scale", "shift", "least", "most"},
        {"power", "least", "most", "logstd", "nodes", "shares"},
    )  # fmt: skip


def test_games_of_another_format_are_not_left_beside_a_new_page(tmp_path, exported, monkeypatch):
    """Catches a new page that refuses an older game beside it, and an older game that cannot be exported again."""
    monkeypatch.setattr(export.session, "Stage", lambda scene, *_: toy_stage(scene.name))
    with monkeypatch.context() as before:
        before.setattr(export, "FORMAT", 1)
        exported("--out", tmp_path)
    there = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(cli.UserError, match=r"carracing.manifest.json: is of format 1, and this page reads 2"):
        exported("--game", "doomrnn", "--out", tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == there
    exported("--out", tmp_path)  # all games are written anew
    formats = [json.loads(path.read_text())["format"] for path in tmp_path.glob("*/manifest.json")]
    assert formats == [2, 2]


def test_the_page_computes_with_what_no_browser_rounds_otherwise():
    """Catches a Math.log or a power in the dream, the last digit of which differs from browser to browser."""
    exact = {"abs", "ceil", "floor", "max", "min", "round", "sqrt"}
    besides = {"studio.js": {"random"}, "sha256.js": {"cbrt"}}  # a new seed; of which the first 32 bits are used
    names = [name for name in os.listdir(export.PAGE) if name.endswith(".js")]
    assert {"dream.js", "network.js", "numbers.js", "weights.js", "worker.js"} <= set(names)
    for name in names:
        with open(os.path.join(export.PAGE, name), encoding="utf-8") as file:
            code = re.sub(r"(?m)^ *//.*|/\*[\s\S]*?\*/", "", file.read())  # without comments
        assert set(re.findall(r"\bMath\b\W*(\w*)", code)) <= exact | besides.get(name, set()), name
        powers = re.findall(r"(\S*) *\*\*=? *(\S*)", code)
        assert all(base == "2" and re.match(r"-?\d", exponent) for base, exponent in powers), (name, powers)


def test_the_kernel_is_assembled_from_its_source(tmp_path):
    """Catches a kernel.wasm that is not that of kernel.wat."""
    if not shutil.which("wat2wasm"):
        pytest.skip("no wat2wasm here (Debian: apt-get install wabt)")
    page = os.path.join(ROOT, "common", "studio", "page")
    subprocess.run(["wat2wasm", os.path.join(page, "kernel.wat"), "-o", tmp_path / "kernel.wasm"], check=True)
    assert (tmp_path / "kernel.wasm").read_bytes() == files_bytes(os.path.join(page, "kernel.wasm"))


def files_bytes(path):
    with open(path, "rb") as file:
        return file.read()


# --- the page, in a browser ---


class Browser:
    """Chromium on the static page."""

    def __init__(self, downloads):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        self.driver, self.downloads = webdriver.Chrome(options=options, service=service), downloads
        self.driver.set_script_timeout(300)

    def open(self, url):
        """A new visit, even where only what stands behind the # differs."""
        self.driver.get("about:blank")
        self.driver.get(url)

    def until(self, done, seconds=300):
        """Waits until done() is true, and returns what it was."""
        end = time.monotonic() + seconds
        while not (value := done()):
            assert time.monotonic() < end, f"not within {seconds} s; the page says: {self.text('status')}"
            time.sleep(0.05)
        return value

    def text(self, name):
        return self.driver.execute_script("return document.getElementById(arguments[0])?.textContent", name)

    def number(self, name):
        return float(self.text(name))

    def z(self):
        """Where all faders are."""
        return self.driver.execute_script(
            "return [...document.querySelectorAll('.faders input')].map((one) => one.value)"
        )

    def picture(self, panel):
        return self.driver.execute_script("return document.getElementById(arguments[0]).toDataURL()", f"panel{panel}")

    def click(self, selector):
        self.driver.execute_script("document.querySelector(arguments[0]).click()", selector)

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def hold(self, key, down=True):
        from selenium.webdriver import ActionChains

        chain = ActionChains(self.driver)
        (chain.key_down(key) if down else chain.key_up(key)).perform()

    def ready(self):
        """Waits for a dream that has not begun."""
        self.until(lambda: self.text("steps") == "0" and self.text("run") == "Start" and "ready" in self.text("status"))

    def call(self, body, *arguments):
        """What an asynchronous function of the page's modules returns; `from_page(name)` imports one."""
        script = f"""
            const done = arguments[arguments.length - 1];
            const from_page = (name) => import(new URL(name, document.baseURI).href);
            (async (...given) => {{ {body} }})(...arguments).then(done, (error) => done({{ error: String(error) }}));
        """
        answer = self.driver.execute_async_script(script, *arguments)
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def errors(self):
        """What the page's console has to complain of."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@contextlib.contextmanager
def served(folder):
    """Python's own web server on the loopback address: the URL of the folder."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        port = server.stdout.readline().split(" port ")[1].split()[0]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


@pytest.fixture(scope="module")
def host(root):
    with served(root) as url:
        yield url


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A browser; without one the tests are skipped."""
    if not (CHROMIUM and shutil.which("chromedriver")):
        pytest.skip("no chromium and chromedriver here (Debian: apt-get install chromium chromium-driver)")
    browser = Browser(tmp_path_factory.mktemp("downloads"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(chromium, host):
    """The browser on the page, Doom's dream ready to begin."""
    chromium.open(f"{host}/pages/dream/")
    chromium.ready()
    chromium.errors()
    return chromium


def rounded(stage):
    """The same stage with all weights as a float16 holds them."""
    for variable in [*stage.vae.variables, *stage.rnn.variables]:
        variable.assign(variable.numpy().astype(np.float16).astype(np.float32))
    parameters = stage.agent.parameters.astype(np.float16).astype(np.float32)
    policy = stage.agent.controller
    if isinstance(policy, network.Policy) and policy.base is not None:
        raise NotImplementedError
    return dataclasses.replace(stage.agent, parameters=parameters)


def dreamt_in_python(stage, frame, temperature, start, uniform, normal):
    """z [STEPS, Z], actions [STEPS, A] and frames uint8 [STEPS, 64, 64, 3] of the agent's dream with this noise."""
    agent, rnn = rounded(stage), stage.rnn
    policy, weights = agent.policy([0]), rnn.prepared()
    state = (vae.sample(*stage.vae.encode(stage.frames[frame][None]), start[None]), *rnn.initial_state(1))
    dreamt = []
    for step in range(STEPS):
        action, restart = np.asarray(policy.act(state), np.float32), tf.constant([float(step == 0)])
        noise = uniform[step][None], normal[step][None]
        z, h, c, logit = dream.next_of(rnn, weights, state, restart, action, *noise, np.float32(temperature))
        assert logit[0] <= 0, f"the dream ends at step {step}; compare with other noise"
        state = z, h, c
        dreamt.append((z[0], action[0], np.rint(stage.vae.decode(z)[0] * 255).astype(np.uint8)))
    return tuple(map(np.array, zip(*dreamt, strict=True)))


@pytest.mark.parametrize(
    ("name", "frame", "temperature"), [("doomrnn", 0, 1.25), ("carracing", 5, 0.7), ("toy", 2, 1.0)]
)
def test_the_browser_dreams_the_numbers_of_python(browser, name, frame, temperature, capsys):
    """Catches gates, channels or mixtures in another order, a temperature without its root, a bias added twice.

    The toy's MDN-RNN is a single normal for every dimension of z, its sizes are odd, its agent has hidden layers.
    """
    scene = None if name == "toy" else game.find(name)
    stage = session.Stage(scene, scene.folder) if scene else toy_stage()
    rng, size = np.random.default_rng(1000), stage.vae.z_size
    start = rng.standard_normal(size, np.float32)
    uniform, normal = rng.random((STEPS, size), np.float32), rng.standard_normal((STEPS, size), np.float32)
    expected = dreamt_in_python(stage, frame, temperature, start, uniform, normal)
    dreamt = browser.call(
        """
        const [game, frame, temperature, start, uniform, normal] = given;
        const { Dream, Models } = await from_page("dream.js");
        const { manifestOf } = await from_page("weights.js");
        const models = await Models.load(game, await manifestOf(game));
        const dream = new Dream(models);
        dream.start(models.frame(frame), start);
        const found = { z: [], actions: [], frames: [] };
        for (let step = 0; step < uniform.length; step++) {
          const action = models.act(dream);
          const over = dream.step(action, temperature, { uniform: uniform[step], normal: normal[step] });
          if (over) throw new Error(`it ends at step ${step}`);
          found.z.push([...dream.z]);
          found.actions.push(action);
          found.frames.push(btoa(String.fromCharCode(...models.decode(dream.z))));
        }
        return found;
        """,
        name, frame, temperature, start.tolist(), uniform.tolist(), normal.tolist(),
    )  # fmt: skip
    frames = np.stack([np.frombuffer(base64.b64decode(part), np.uint8) for part in dreamt["frames"]])
    z_off, action_off = (
        np.abs(np.array(dreamt[key]) - part).max() for key, part in zip(("z", "actions"), expected[:2], strict=True)
    )
    levels_off = np.abs(frames.reshape(expected[2].shape).astype(int) - expected[2]).max()
    with capsys.disabled():
        print(f"\n{name}: over {STEPS} steps z is off by {z_off:.1e} at most, actions by {action_off:.1e}, "
              f"frames by {levels_off} of 255")  # fmt: skip
    assert z_off < Z_TOLERANCE
    assert action_off < Z_TOLERANCE
    assert levels_off <= LEVELS


def test_the_browser_draws_ends_as_python_does(browser):
    """Catches the threshold where ends are drawn, a weight with the wrong sign, and an end where none is predicted."""
    cases = [(weight, chance, logit) for weight in (0.0, 1.0, 10.0) for chance in (0.0, 0.1, 0.5, 0.9)
             for logit in (-1e9, -0.01, 0.01, 2.0, 3.0, 1e9)]  # fmt: skip
    over = browser.call(
        """
        const { Dream, Models } = await from_page("dream.js");
        const { manifestOf } = await from_page("weights.js");
        const models = await Models.load("doomrnn", await manifestOf("doomrnn"));
        const exported = models.manifest.end_weight;
        const dream = new Dream(models);
        const over = given[0].map(([weight, chance, logit]) => {
          models.manifest.end_weight = weight;
          dream.start(models.frame(0), new Float32Array(models.rnn.z_size));
          models.rnn.next = () => ({ z: dream.z, restart: logit });
          return dream.step([0], 1, { chance });
        });
        return { over, exported };
        """,
        cases,
    )
    assert over["exported"] == 0  # the controller that ships was evolved with the threshold
    bars = [float(mdnrnn.drawn_bar(np.float32(chance), weight)) if weight else 0.0 for weight, chance, _ in cases]
    assert over["over"] == [logit > bar for (*_, logit), bar in zip(cases, bars, strict=True)]


@pytest.mark.parametrize("cut", [(False, False), (False, True)])
def test_the_browser_plays_the_expected_action_as_python_does(browser, cut):
    """Catches a power or a root that is another's, and a nan or an endless loop where an action is at its end."""
    policy = network_agent(None, True, cut).controller
    rng = np.random.default_rng(1000)
    outputs = np.concatenate([rng.normal(0, 3, (300, 4)), 60 * rng.choice([-1.0, 1.0], (100, 4))])
    linear = np.concatenate([rng.normal(0, 2, (300, 2)), 60 * rng.choice([-1.0, 1.0], (100, 2))])
    acted = browser.call(
        """
        const [rule, outputs, linear] = given;
        const { Models } = await from_page("dream.js");
        return outputs.map((row, k) => Models.prototype.act.call({
          manifest: { controller: { reads: [], rule } },
          _controller: [{ run: () => [...row] }, { run: () => linear[k] }],
        }, {}));
        """,
        export._squashed_rule_of(policy.head), outputs.tolist(), linear.tolist(),
    )  # fmt: skip
    outputs[:, :2] += policy.head.mean_of_linear(tf.constant(linear, tf.float32))
    np.testing.assert_allclose(acted, policy.head.best(tf.constant(outputs, tf.float32)), atol=1e-5)


def test_noise_is_uniform_and_normal(browser):
    """Catches tails that are cut or too long, numbers that repeat, and noise that two seeds or two steps share."""
    drawn = browser.call(
        """
        const { Noise, normalQuantile } = await from_page("numbers.js");
        const first = (...keys) => [...new Noise(...keys).uniform(4)];
        const shares = [1e-9, 1e-4, 0.01, 0.08, 0.3, 0.5, 0.77, 0.9999];
        const many = new Noise(2000, 7);
        const keys = [first(5), first(5), first(6), first(5, 1), first(6, 1)];
        return { uniform: [...many.uniform(20000)], normal: [...many.normal(20000)],
          shares, quantiles: shares.map(normalQuantile), keys };
        """
    )
    uniform, normal = np.array(drawn["uniform"]), np.array(drawn["normal"])
    assert 0 <= uniform.min() < 1e-3 < 1 - 1e-3 < uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 4 / np.sqrt(12 * 20000)
    assert abs(normal.mean()) < 4 / np.sqrt(20000)
    assert abs(normal.std() - 1) < 4 / np.sqrt(2 * 20000)
    assert abs(np.corrcoef(normal[1:], normal[:-1])[0, 1]) < 4 / np.sqrt(20000)
    wanted = [statistics.NormalDist().inv_cdf(share) for share in drawn["shares"]]
    np.testing.assert_allclose(drawn["quantiles"], wanted, atol=1e-6)
    same, again, *others = map(tuple, drawn["keys"])
    assert same == again
    assert len({same, *others}) == 4


def test_a_dream_is_driven_by_keyboard_and_by_the_agent(browser):
    """Catches keys that do not drive, an agent that does not act, and a reward that is not the dream's."""
    start, dreamt = browser.picture(0), browser.picture(2)
    assert browser.text("stage").startswith("Started from")
    browser.press(SPACE)
    browser.hold(LEFT)
    browser.until(lambda: browser.number("steps") >= 10)
    action = browser.driver.find_element("css selector", ".action dd")
    assert action.text == "-1.00"
    browser.hold(LEFT, down=False)
    browser.until(lambda: action.text == "0.00")
    browser.press(SPACE)
    browser.until(lambda: "Paused after" in browser.text("status"))
    steps = browser.number("steps")
    assert browser.number("reward") == steps  # 1 for every tic
    assert browser.picture(0) == start
    assert browser.picture(2) != dreamt
    browser.driver.find_element("css selector", "input[value=agent]").send_keys(SPACE)
    browser.click("#one")
    browser.until(lambda: browser.number("steps") == steps + 1)
    assert browser.number("reward") == steps + 1
    assert action.text != "0.00"  # what it was without a key
    assert not browser.driver.find_elements("css selector", "input[value=game][name=world]")  # which needs Python
    browser.click("input[value=carracing]")
    browser.until(
        lambda: browser.text("reward") is None and browser.text("steps") == "0"
    )  # it does not know the reward
    browser.until(lambda: browser.driver.find_element("id", "one").is_enabled())
    browser.press("\ue013", RIGHT)  # standing still, a press is one step
    browser.until(lambda: browser.number("steps") == 2)
    steering = browser.driver.find_element("css selector", ".action dd")
    assert steering.text == "1.00"
    browser.driver.find_element("css selector", "input[value=agent]").send_keys(SPACE)
    steered = set()
    for steps in range(3, 9):
        browser.click("#one")
        browser.until(lambda steps=steps: browser.number("steps") == steps)
        steered.add(steering.text)
    assert steered - {"-1.00", "0.00", "1.00"}  # which is all that keys can do
    assert not browser.errors()


def test_the_game_is_switched_while_a_step_is_on_its_way(browser):
    """Catches a loop that reads what the switch has taken away, and never steps again."""
    browser.driver.execute_script(
        """
        let time = 0;
        performance.now = () => time += 20000; // so progress is told at every step
        const post = Worker.prototype.postMessage;
        Worker.prototype.postMessage = function (message) {
          if (message.do !== "step") return post.call(this, message);
          Worker.prototype.postMessage = post;
          setTimeout(() => {
            document.querySelector("input[value=toy]").click();
            post.call(this, message);
          });
        };
        """
    )
    browser.press(SPACE)
    browser.ready()
    browser.press(SPACE)
    browser.until(lambda: browser.number("steps") >= 3, seconds=20)
    assert not browser.errors()


def test_a_link_carries_the_dream(browser, host):
    """Catches a friend who sees another game, frame or dream, or another agent at the wheel."""
    address = f"{host}/pages/dream/#"
    link = {"game": "carracing", "frame": "3", "temperature": "0.9", "seed": "4711", "driver": "agent"}

    def dreamt(link, steps=12):
        browser.open(address + urllib.parse.urlencode(link))
        browser.ready()
        for step in range(steps):
            browser.click("#one")
            browser.until(lambda step=step: browser.number("steps") == step + 1)
        return browser.z()

    z = dreamt(link)
    assert browser.driver.find_elements("css selector", "input[name=frame]")[3].is_selected()
    assert browser.driver.find_element("id", "temperature").get_attribute("value") == "0.9"
    browser.click("#link")
    browser.until(lambda: "link" in browser.text("status"))
    shared = urllib.parse.urlsplit(browser.driver.current_url)
    assert dict(urllib.parse.parse_qsl(shared.fragment)) == link
    assert dreamt(link) == z
    assert dreamt(link | {"seed": "4712"}) != z
    assert dreamt(link | {"frame": "4"}) != z
    browser.click("#again")
    browser.until(lambda: browser.text("run") == "Pause")
    assert "seed=4711" not in browser.driver.current_url
    assert not browser.errors()


@pytest.mark.parametrize(("link", "complaint"), [
    ("game=doomrnn&frame=99&seed=x&driver=cat", "frame and seed and driver"),
    ("game=doomrnn&temperature=1e9", "temperature"),
    ("game=chess", "chess, is not here"),
    ("%E0%A4%A", ""),
])  # fmt: skip
def test_a_link_that_does_not_fit_still_dreams(browser, host, link, complaint):
    """Catches a page that stops at a number from outside, or uses it unchecked."""
    browser.open(f"{host}/pages/dream/#{link}")
    browser.until(lambda: browser.text("steps") == "0" and complaint in browser.text("status"))
    browser.press(LEFT)
    browser.until(lambda: browser.text("steps") == "1")
    assert not browser.errors()


def test_a_gif_of_the_dream_is_saved(browser):
    """Catches frames left out or in wrong colors."""
    browser.press(LEFT, LEFT, LEFT)
    browser.until(lambda: browser.number("steps") == 3)
    browser.click("#gif")
    path = browser.downloads / "doomrnn-dream.gif"
    browser.until(path.exists)
    with Image.open(path) as gif:
        assert (gif.format, gif.n_frames, gif.size) == ("GIF", 4, (384, 128))
        gif.seek(3)
        shown = np.asarray(gif.convert("RGB"), float)[::2, 256::2]
    url = browser.picture(2)
    path.with_suffix(".png").write_bytes(base64.b64decode(url.partition(",")[2]))
    with Image.open(path.with_suffix(".png")) as picture:
        assert np.abs(shown - np.asarray(picture.convert("RGB"), float)).mean() < 6  # it has 256 colors
    path.unlink()


def test_nothing_is_asked_of_another_host(browser, host):
    """Catches a font, a library or a call home, and a page that lets one through."""
    page = browser.driver.find_element("css selector", "meta[http-equiv=Content-Security-Policy]")
    policy = page.get_attribute("content")
    assert policy.startswith("default-src 'none'")
    assert "'unsafe" not in policy
    names = browser.driver.execute_script("return performance.getEntriesByType('resource').map(({ name }) => name)")
    assert len(names) > 5
    assert all(name.startswith(f"{host}/pages/dream/") for name in names)
    refused = browser.call("return fetch('http://localhost:9/').then(() => 'let through', () => 'refused')")
    assert refused == "refused"
    assert any("Content Security Policy" in message for message in browser.errors())


def test_it_plays_without_a_network_after_the_first_load(chromium, root, tmp_path):
    """Catches a file that is not kept, and a page that is kept but not its weights."""
    copy = tmp_path / "pages"
    shutil.copytree(root / "pages", copy)
    with served(tmp_path) as url:
        chromium.open(f"{url}/pages/dream/")
        chromium.ready()
        kept = "return navigator.serviceWorker.ready.then(() => caches.keys()).then((names) => names.length)"
        chromium.until(lambda: chromium.call(kept) == 2)  # the page, and the weights
    chromium.driver.execute_cdp_cmd("Network.clearBrowserCache", {})  # not what the page has kept itself
    chromium.open(f"{url}/pages/dream/#game=doomrnn&seed=3000")
    chromium.ready()
    chromium.press(LEFT)
    chromium.until(lambda: chromium.text("steps") == "1")


def test_a_slow_network_without_a_kept_copy_is_waited_for(chromium, root):
    """Catches a first visit that fails because a file takes longer than a kept copy would be waited for."""
    slow = set()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if os.path.basename(self.path) in slow:
                time.sleep(5)
            super().do_GET()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        chromium.open(f"http://127.0.0.1:{server.server_port}/pages/dream/")
        chromium.ready()
        chromium.until(lambda: chromium.call("return !!navigator.serviceWorker.controller"))
        chromium.call("for (const name of await caches.keys()) await caches.delete(name)")
        chromium.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        slow.add("worker.js")
        chromium.open(f"http://127.0.0.1:{server.server_port}/pages/dream/")
        chromium.ready()
    finally:
        server.shutdown()


@pytest.mark.parametrize(("damage", "complaint"), [
    (lambda data: data[:-1000], "is damaged: it should have"),
    (lambda data: data + b"x", "has more"),
    (lambda data: data[:5000000] + bytes([data[5000000] ^ 1]) + data[5000001:], "is not what was exported"),
    (None, "is not there (404)"),
])  # fmt: skip
def test_damaged_weights_are_noticed(chromium, root, tmp_path, damage, complaint):
    """Catches a dream from weights that were cut, edited, or taken for others'."""
    shutil.copytree(root / "pages", tmp_path / "pages")
    [path] = (tmp_path / "pages" / "dream" / "doomrnn").glob("weights.*.bin")
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    with served(tmp_path) as url:
        chromium.open(f"{url}/pages/dream/")
        chromium.until(lambda: complaint in chromium.text("app") and complaint in chromium.text("status"))
        assert "doomrnn/weights." in chromium.text("app")
        chromium.click("input[value=toy]")  # which is whole
        chromium.ready()


@pytest.mark.parametrize(("lacking", "complaint"), [
    ("delete window.WebAssembly", "lacks WebAssembly"),
    ("delete window.Worker", "lacks web workers"),
    ("WebAssembly.validate = () => false", "SIMD"),
])  # fmt: skip
def test_a_browser_that_cannot_is_told_so(chromium, host, lacking, complaint):
    """Catches a page that stays empty in an old browser."""
    script = chromium.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": lacking})
    try:
        chromium.open(f"{host}/pages/dream/")
        chromium.until(lambda: complaint in chromium.text("status") and complaint in chromium.text("app"))
    finally:
        chromium.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_a_page_opened_as_a_file_says_what_to_do(chromium, root):
    """Catches the empty page that browsers make of modules in files."""
    chromium.open((root / "pages" / "dream" / "index.html").as_uri())
    chromium.until(lambda: "python3 -m http.server" in chromium.text("status"))


def test_how_fast_it_dreams(browser, capsys):
    """Reports steps per second here and of the server studio, and how long the page stood still; asserts no number."""
    timed = browser.call(
        """
        const { connect } = await from_page("browser.js");
        const backend = await connect({ lost: () => {}, loading: () => {} });
        await backend.ask({ do: "open", game: "doomrnn" });
        const controls = { temperature: 1, held: {} };
        const step = { do: "step", driver: "agent", keys: [], ...controls };
        await backend.ask({ do: "start", world: "dream", frame: 0, seed: 2000, ...controls });
        let pause = 0, drawn = performance.now(), going = true;
        const draw = (now) => {
          pause = Math.max(pause, now - drawn);
          drawn = now;
          if (going) requestAnimationFrame(draw);
        };
        requestAnimationFrame(draw);
        for (let k = 0; k < 20; k++) await backend.ask(step);
        const began = performance.now();
        let steps = 0;
        for (; steps < 200; steps++) {
          const { over } = await backend.ask(step);
          if (over) await backend.ask({ do: "start", world: "dream", frame: 0, seed: 2000 + steps, ...controls });
        }
        going = false;
        return { rate: (1000 * steps) / (performance.now() - began), pause };
        """
    )
    scene = game.find("doomrnn")
    stage = session.Stage(scene, scene.folder)
    page = session.Session(lambda name: stage, seed=1000)
    controls = {"temperature": 1.0, "held": {}}
    start = json.dumps({"do": "start", "world": "dream", "frame": 0, **controls})
    step = json.dumps({"do": "step", "driver": "agent", **controls})
    page.answer(json.dumps({"do": "open", "game": "doomrnn"}))
    page.answer(start)
    for _ in range(20):
        page.answer(step)
    began, steps = time.monotonic(), 200
    for _ in range(steps):
        if json.loads(page.answer(step).partition(b"\n")[0])["over"]:
            page.answer(start)
    server = steps / (time.monotonic() - began)
    with capsys.disabled():
        print(f"\nDoom's dream with its agent: {timed['rate']:.0f} steps/s in the browser, {server:.0f} in Python's "
              f"studio; the page stood still for {timed['pause']:.0f} ms at most")  # fmt: skip
    assert timed["rate"] > 0
