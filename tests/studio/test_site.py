"""The static page: what is exported, and the dream in a real browser, from Python's own web server under a sub-path."""

import base64
import contextlib
import dataclasses
import functools
import hashlib
import http.server
import io
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
SPACE, ENTER, LEFT, RIGHT, DELETE = " ", "\ue007", "\ue012", "\ue014", "\ue017"


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


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """The folder of a page that is quickly made, of two toys: one dreams for 60 steps, the wild one ends by chance."""
    out, wild = tmp_path_factory.mktemp("toys"), toy_stage("wild", mixtures=3, restart=True, end_weight=1.0)
    wild.rnn.output_b.assign(tf.concat([[-3.0], wild.rnn.output_b[1:]], axis=0))
    for stage in (toy_stage(), wild):
        export.write_game(str(out), stage)
    export.write_page(str(out))
    return out


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
    pytest.param(lambda stage: stage.vae.encoder.layers[0].__setattr__("padding", "same"), id="Conv2D"),
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
    """Catches old weights that stay for ever, another game that is lost, a file that the offline page lacks, and
    weights in what every visitor keeps."""
    for stage in (toy_stage(), toy_stage("other"), toy_stage(mixtures=2)):
        export.write_game(str(tmp_path), stage)
    export.write_page(str(tmp_path))
    assert [len(list((tmp_path / name).glob("weights.*.bin"))) for name in ("toy", "other")] == [1, 1]
    assert [about["name"] for about in json.loads((tmp_path / "games.json").read_text())] == ["other", "toy"]
    kept = (tmp_path / "service-worker.js").read_text().partition(";\n")[0].removeprefix("self.FILES = ")
    there = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    wanted = {path for path in there if not path.endswith(".bin")} - {"service-worker.js"} | {"./"}
    assert set(json.loads(kept)) == wanted


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

    def set_to(self, name, value):
        """Moves a slider, or types into a field."""
        script = """
            const one = document.getElementById(arguments[0]);
            one.value = arguments[1];
            for (const kind of ["input", "change"]) one.dispatchEvent(new Event(kind, { bubbles: true }));
        """
        self.driver.execute_script(script, name, str(value))

    def value(self, name):
        return self.driver.execute_script("return document.getElementById(arguments[0]).value", name)

    def chosen(self, name):
        """The value of the radio button that is chosen."""
        return self.driver.execute_script(
            "return document.querySelector(`input[name=${arguments[0]}]:checked`).value", name
        )

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


@pytest.fixture(scope="module")
def toy_host(toys):
    with served(toys) as url:
        yield url


@pytest.fixture
def toy_page(chromium, toy_host):
    """The browser on the page of the two toys, the first one's dream ready to begin."""
    chromium.open(f"{toy_host}/")
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
    levels = np.abs(frames.reshape(expected[2].shape).astype(int) - expected[2])
    levels_off = levels.max()
    with capsys.disabled():
        print(f"\n{name}: over {STEPS} steps z is off by {z_off:.1e} at most, actions by {action_off:.1e}, "
              f"frames by {levels_off} of 255")  # fmt: skip
    assert z_off < Z_TOLERANCE
    assert action_off < Z_TOLERANCE
    assert levels_off <= LEVELS
    assert (levels > 0).mean() < 0.1  # those between two levels; half of them if the page cut off what Python rounds


def test_the_browser_draws_ends_as_python_does(browser):
    """Catches the threshold where ends are drawn, a weight with the wrong sign, an end where none is predicted, and a
    dream of nan that goes on."""
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
        models.rnn.next = () => ({ z: dream.z, restart: -1e9 });
        models.rnn.step = () => ({ h: Float32Array.of(NaN), c: Float32Array.of(NaN) });
        dream.start(models.frame(0), new Float32Array(models.rnn.z_size));
        return { over, exported, lost: dream.step([0], 1, { chance: 0.5 }) };
        """,
        cases,
    )
    assert over["lost"]
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


def test_the_browser_chooses_as_python_does(toy_page):
    """Catches the choice that is liked least, a controller under the network that is not asked, h read where z is."""
    rng = np.random.default_rng(1000)
    outputs, linear, actions = rng.normal(0, 1, (50, 3)), rng.normal(0, 1, (50, 3)), [[-1, 0], [0, 0], [1, 2]]
    acted = toy_page.call(
        """
        const [outputs, linear, choices] = given;
        const { Models } = await from_page("dream.js");
        const read = [];
        const first = (row) => (features) => {
          read.push([...features]);
          return [...row];
        };
        const acted = outputs.map((row, k) => Models.prototype.act.call({
          manifest: { controller: { reads: ["z", "h"], choices } },
          _controller: [{ run: first(row) }, { run: () => linear[k] }],
        }, { h: [3, 4], z: [1, 2] }));
        return { acted, read };
        """,
        outputs.tolist(), linear.tolist(), actions,
    )  # fmt: skip
    assert acted == {"acted": [actions[k] for k in (outputs + linear).argmax(axis=1)], "read": 50 * [[1, 2, 3, 4]]}


def test_noise_is_uniform_and_normal(toy_page):
    """Catches tails that are cut or too long, numbers that repeat, and noise that two seeds or two steps share, or that
    begins alike for them."""
    drawn = toy_page.call(
        """
        const { Noise, normalQuantile } = await from_page("numbers.js");
        const first = (...keys) => [...new Noise(...keys).uniform(4)];
        const shares = [1e-9, 1e-4, 0.01, 0.08, 0.3, 0.5, 0.77, 0.9999];
        const many = new Noise(2000, 7);
        const keys = [first(5), first(5), first(6), first(5, 1), first(6, 1)];
        const thousand = (of) => Array.from({ length: 1000 }, (_, k) => of(k).uniform(1)[0]);
        const firsts = [thousand((k) => new Noise(2000 + k)), thousand((k) => new Noise(2000, k))];
        return { firsts, uniform: [...many.uniform(20000)], normal: [...many.normal(20000)],
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
    for first in map(np.array, drawn["firsts"]):  # of seeds, or steps, one after the other
        assert abs(first.mean() - 0.5) < 4 / np.sqrt(12 * 1000)
        assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 4 / np.sqrt(1000)


# what a message brings is said once more by the modules that the worker is made of, which the tests above compare with
# Python
SAID_AND_DREAMT = """
    const [game, temperature, seeds] = given;
    const { connect } = await from_page("browser.js");
    const { Dream, Models } = await from_page("dream.js");
    const { Noise } = await from_page("numbers.js");
    const { manifestOf } = await from_page("weights.js");
    const models = await Models.load(game, await manifestOf(game));
    const backend = await connect({ lost: () => {}, loading: () => {} });
    const ask = async (message) => {
      const { payload, ...about } = await backend.ask({ temperature, held: {}, ...message });
      return about;
    };
    const opened = ask({ do: "open", game }); // messages need not wait for the answer of the one before
    const dreams = [];
    for (const seed of seeds) {
      const said = [await ask({ do: "start", world: "dream", frame: 2, seed })];
      const dream = new Dream(models);
      dream.start(models.frame(2), new Noise(seed).normal(5));
      const z = [[...dream.z]];
      for (let over = false; !over && z.length < 70;) {
        const noise = new Noise(seed, dream.steps + 1);
        const [uniform, normal] = [noise.uniform(5), noise.normal(5)];
        const [chance] = noise.uniform(1);
        over = dream.step(models.act(dream), temperature, { uniform, normal, chance });
        z.push([...dream.z]);
        said.push(await ask({ do: "step", driver: "agent", keys: ["left"] }));
      }
      dreams.push({ z, said, after: await ask({ do: "step", driver: "agent", keys: [] }) });
    }
    return { dreams, title: (await opened).title };
"""


@pytest.mark.parametrize(("name", "temperature", "count"), [("toy", 0.5, 2), ("wild", 1.5, 6)])
def test_the_worker_dreams_as_it_is_told(toy_page, name, temperature, count):
    """Catches noise of another seed or step, one draw for two purposes, a temperature, a reward or an end that is not
    that of the dream, a memory of the dream before, and steps after the end."""
    seeds = range(5000, 5000 + count)
    found = toy_page.call(SAID_AND_DREAMT, name, temperature, list(seeds))
    assert found["title"] == "Toy"
    lengths = []
    for seed, found_dream in zip(seeds, found["dreams"], strict=True):
        said = found_dream["said"]
        lengths.append(len(said) - 1)
        assert said[0]["seed"] == seed
        np.testing.assert_allclose([about["z"] for about in said], found_dream["z"], atol=6e-4)  # told to three digits
        assert [about["steps"] for about in said] == list(range(len(said)))
        assert [about["score"] for about in said] == [0.5 * k for k in range(len(said))]
        assert [about["over"] for about in said] == [False] * lengths[-1] + [True]
        assert said[-1]["z"] == said[-2]["z"]  # the last state stays to be looked at
        assert found_dream["after"] == said[-1]
    assert lengths == [60, 60] if name == "toy" else len(set(lengths)) > 2


def test_the_worker_shows_and_keeps_what_it_is_told(toy_page):
    """Catches a picture in the place of another, keys in another order, a held dimension that is another or not lived,
    a look that is kept for the GIF, a GIF of another speed, and a dream that outlives its game."""
    said = toy_page.call(
        """
        const { connect } = await from_page("browser.js");
        const backend = await connect({ lost: () => {}, loading: () => {} });
        const ask = async (message) => {
          const { payload, frames, ...about } = await backend.ask({ temperature: 1, held: {}, ...message });
          return { about, frames, payload: btoa([...payload].map((byte) => String.fromCharCode(byte)).join("")) };
        };
        const held = { 2: 4 };
        await ask({ do: "open", game: "toy" });
        const start = await ask({ do: "start", world: "dream", frame: 1, seed: 5000 });
        const look = await ask({ do: "look", held });
        const step = await ask({ do: "step", driver: "you", keys: ["up", "left"], held });
        const gif = await ask({ do: "gif" });
        const none = await ask({ do: "open", game: "chess" });
        await ask({ do: "open", game: "wild" });
        return { start, look, step, gif, none, late: await ask({ do: "gif" }) };
        """
    )
    data = {name: base64.b64decode(answer["payload"]) for name, answer in said.items()}
    three = ("start", "look", "step")
    start, look, step = (np.frombuffer(data[name], np.uint8).reshape(3, 64, 64, 3) for name in three)
    np.testing.assert_array_equal(start[0], toy_stage().frames[1])
    np.testing.assert_array_equal(start[1], start[2])
    np.testing.assert_array_equal(look[:2], start[:2])
    np.testing.assert_array_equal(step[:2], start[:2])
    assert (look[2] != start[2]).any()
    z = said["start"]["about"]["z"]
    assert said["look"]["about"]["z"] == [*z[:2], 4, *z[3:]]
    assert said["step"]["about"]["z"][2] == 4
    assert said["step"]["about"]["action"] == [-1, 2]
    with Image.open(io.BytesIO(data["gif"])) as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (2, (384, 128), 30)  # 1/30 s in hundredths of a second
    assert "chess/manifest.json is not there (404)" in said["none"]["about"]["error"]
    assert said["late"]["about"]["error"]


def test_weights_are_read_bit_for_bit(toy_page):
    """Catches float16 that become other numbers, the smallest too, and digests of bytes that fill their last block."""
    halves = np.arange(2**16, dtype=np.uint16)
    halves = halves[np.isfinite(halves.view(np.float16))]
    read = toy_page.call(
        """
        const [halves, digest] = given;
        const { arraysOf } = await from_page("weights.js");
        const { sha256 } = await from_page("sha256.js");
        const bytes = Uint8Array.from(atob(halves), (letter) => letter.charCodeAt(0));
        const all = { shape: [bytes.length / 2], type: "float16", offset: 0, sha256: digest };
        globalThis.fetch = async () => new Response(bytes);
        const shares = [];
        const manifest = { file: "weights.0.bin", bytes: bytes.length, arrays: { all } };
        const { all: { values } } = await arraysOf("none", manifest, (share) => shares.push(share));
        return {
          floats: sha256(new Uint8Array(values.buffer)), came: shares.at(-1),
          digests: Array.from({ length: 130 }, (_, length) => sha256(bytes.slice(0, length))),
        };
        """,
        base64.b64encode(halves.tobytes()).decode(), hashlib.sha256(halves.tobytes()).hexdigest(),
    )  # fmt: skip
    assert read["digests"] == [hashlib.sha256(halves.tobytes()[:length]).hexdigest() for length in range(130)]
    assert read["floats"] == hashlib.sha256(halves.view(np.float16).astype(np.float32).tobytes()).hexdigest()
    assert read["came"] == 1


def test_one_export_of_every_game_is_kept(toy_page):
    """Catches exports that fill the disk, another game's weights thrown away, a damaged copy that is kept for ever."""
    found = toy_page.call(
        """
        const { arraysOf } = await from_page("weights.js");
        const { sha256 } = await from_page("sha256.js");
        const bytes = Uint8Array.of(1, 2, 3);
        const arrays = { a: { shape: [3], type: "uint8", offset: 0, sha256: sha256(bytes) } };
        let loads = 0;
        globalThis.fetch = async () => {
          loads += 1;
          return new Response(bytes);
        };
        const read = (folder, file) => arraysOf(folder, { file, bytes: 3, arrays });
        for (const [folder, file] of [["one", "1"], ["two", "1"], ["one", "2"], ["one", "2"]]) await read(folder, file);
        const first = loads;
        const cache = await caches.open((await caches.keys()).find((name) => name.startsWith("weights ")));
        const kept = (await cache.keys()).map(({ url }) => url.split("/").slice(-2).join("/"));
        await cache.put(new URL("one/2", document.baseURI), new Response(Uint8Array.of(1, 2, 4)));
        const damaged = await read("one", "2").then(() => "taken", ({ message }) => message);
        const { a } = await read("one", "2");
        return { kept, first, damaged, again: [...a.values] };
        """
    )
    assert [path for path in found["kept"] if path.startswith(("one/", "two/"))] == ["two/1", "one/2"]
    assert [path for path in found["kept"] if path.startswith("toy/")]
    assert found["first"] == 3  # what is kept is not loaded again
    assert "is not what was exported" in found["damaged"]
    assert found["again"] == [1, 2, 3]


def test_what_the_page_cannot_read_is_said(toy_page):
    """Catches a manifest of another version that is read all the same, a page without its list of games, and a worker
    that does not start: the page would wait for ever."""
    said = toy_page.call(
        """
        const { connect } = await from_page("browser.js");
        const { manifestOf } = await from_page("weights.js");
        const silent = { lost: () => {}, loading: () => {} };
        const of = (promise) => promise.then(() => "nothing", ({ message }) => message);
        globalThis.Worker = class extends Worker {
          constructor() {
            super(new URL("none.js", document.baseURI), { type: "module" });
          }
        };
        const patience = new Promise((resolve) => setTimeout(resolve, 20000, "nothing"));
        const worker = await Promise.race([patience, new Promise((lost) => connect({ ...silent, lost }))]);
        globalThis.fetch = async () => Response.json({ format: 1 });
        const format = await of(manifestOf("toy"));
        globalThis.fetch = async () => new Response("", { status: 404 });
        return [worker, format, await of(connect(silent))];
        """
    )
    for words, wanted in zip(said, ("could not start", "another version", "games.json is not there"), strict=True):
        assert wanted in words


def shown_in(url):
    """A picture as the page has it, a data: URL -> uint8 [64, 64, 3]."""
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGB"))


def test_the_pictures_are_those_of_the_frames(toy_page):
    """Catches red for blue, and a small picture of another frame than the one that its choice starts from."""
    frames = toy_stage().frames
    small = toy_page.driver.execute_script("return [...document.querySelectorAll('.frames img')].map((one) => one.src)")
    np.testing.assert_array_equal([shown_in(url) for url in small], frames)
    np.testing.assert_array_equal(shown_in(toy_page.picture(0)), frames[0])
    before = toy_page.picture(0)
    toy_page.click("input[name=frame][value='2']")
    toy_page.until(lambda: toy_page.picture(0) != before)
    np.testing.assert_array_equal(shown_in(toy_page.picture(0)), frames[2])


def test_letters_and_fingers_drive_too(toy_page):
    """Catches letters that steer otherwise than the arrows, an agent that stays at the wheel when a key is pressed, and
    a button, or a key of a window that is left, that stays down."""
    steps = 0

    def acted():
        nonlocal steps
        steps += 1
        toy_page.until(lambda: toy_page.number("steps") == steps, seconds=60)
        return [one.text for one in toy_page.driver.find_elements("css selector", ".action dd")]

    toy_page.press("a")
    assert acted() == ["-1.00", "0.00"]
    toy_page.press("w")
    assert acted() == ["0.00", "2.00"]
    toy_page.click("input[value=agent]")
    toy_page.press("a")
    assert acted() == ["-1.00", "0.00"]
    assert toy_page.chosen("driver") == "you"
    toy_page.driver.find_element("css selector", ".pad [aria-label=on]").click()
    assert acted() == ["0.00", "2.00"]
    toy_page.click("#one")
    assert acted() == ["0.00", "0.00"]
    toy_page.hold(LEFT)
    assert acted() == ["-1.00", "0.00"]
    toy_page.driver.execute_script("window.dispatchEvent(new Event('blur'))")
    toy_page.click("#one")
    assert acted() == ["0.00", "0.00"]
    toy_page.hold(LEFT, down=False)
    assert not toy_page.errors()


def test_faders_hold_their_own_dimensions(toy_page):
    """Catches a fader that moves or lets go of others, dimensions that only the faders hold, a last fader that leads
    nowhere, and dimensions of one game that are held in the next."""
    toy_page.set_to("z1", 3)
    toy_page.set_to("z3", -2)
    assert "(2 held)" in toy_page.text("let-go")
    toy_page.click("#one")
    toy_page.until(lambda: toy_page.number("steps") == 1)
    z = toy_page.z()
    assert (z[1], z[3]) == ("3", "-2")
    toy_page.driver.execute_script("document.getElementById('z1').focus()")
    toy_page.press(DELETE)
    assert "(1 held)" in toy_page.text("let-go")
    toy_page.click("#one")
    toy_page.until(lambda: toy_page.number("steps") == 2)
    z = toy_page.z()
    assert z[1] != "3"
    assert z[3] == "-2"
    toy_page.press(LEFT, LEFT)
    assert toy_page.driver.switch_to.active_element.get_attribute("id") == "z4"

    link = {"game": "wild", "frame": "1", "temperature": "0.5", "seed": "5000", "driver": "agent"}
    toy_page.driver.execute_script("location.hash = arguments[0]", urllib.parse.urlencode(link))
    toy_page.until(lambda: toy_page.text("steps") == "0" and toy_page.chosen("game") == "wild", seconds=60)
    found = {"temperature": toy_page.value("temperature"), "seed": toy_page.value("seed")}
    assert found | {name: toy_page.chosen(name) for name in ("game", "frame", "driver")} == link
    assert "held" not in toy_page.text("let-go")
    assert not toy_page.errors()


def test_a_link_carries_the_temperature(chromium, toy_host):
    """Catches a temperature that only the slider shows."""
    dreamt = []
    for temperature in (0.1, 2, 0.1):
        chromium.open(f"{toy_host}/#game=toy&seed=5000&temperature={temperature}")
        chromium.ready()
        chromium.click("#one")
        chromium.until(lambda: chromium.number("steps") == 1)
        dreamt.append(chromium.z())
    assert dreamt[0] == dreamt[2] != dreamt[1]


def test_seeds_are_those_that_may_be_played(toy_page):
    """Catches test games that a page plays by chance or by hand, a field that tells another seed, and a dream that goes
    on when it is over."""
    least, most = session.SEEDS
    for chance, seed in ((0, least), (1 - 2**-53, most)):
        toy_page.driver.execute_script("const chance = arguments[0]; Math.random = () => chance;", chance)
        toy_page.click("#again")
        toy_page.until(lambda: toy_page.text("run") == "Pause")
        assert toy_page.value("seed") == str(seed)
    toy_page.until(lambda: "Over" in toy_page.text("status"))
    assert toy_page.text("status") == "Over after 60 steps, reward 30. Space starts again."
    assert toy_page.text("run") == "Start"
    toy_page.set_to("seed", 5000)
    toy_page.ready()
    assert "seed=5000" in toy_page.driver.current_url
    toy_page.set_to("seed", least - 1)
    assert toy_page.text("status") == f"A seed is a whole number from {least} to {most}."
    assert toy_page.value("seed") == "5000"
    assert not toy_page.errors()


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
    ("game=doomrnn&temperature=0&seed=1999", "seed and temperature"),
    ("game=chess", "chess, is not here"),
    ("%E0%A4%A", ""),
])  # fmt: skip
def test_a_link_that_does_not_fit_still_dreams(browser, host, link, complaint):
    """Catches a page that stops at a number from outside, or uses it unchecked."""
    browser.open(f"{host}/pages/dream/#{link}")
    browser.until(lambda: browser.text("steps") == "0" and complaint in browser.text("status"), seconds=60)
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


def test_a_new_export_is_seen_at_once(chromium, toys, tmp_path):
    """Catches a page that shows what it has kept where there is a network, and one that keeps a server's refusal."""
    copy = tmp_path / "site"
    shutil.copytree(toys, copy)
    fetched = "const response = await fetch(given[0]); return [response.status, await response.text()];"
    with served(copy) as url:
        chromium.open(f"{url}/")
        chromium.ready()
        chromium.until(lambda: chromium.call("return !!navigator.serviceWorker.controller"))
        path = copy / "games.json"
        path.write_text("[1]")
        os.utime(path, (time.time() + 10,) * 2)  # the server tells seconds apart
        assert chromium.call(fetched, "games.json") == [200, "[1]"]
        (copy / "icon.svg").unlink()
        assert chromium.call(fetched, "icon.svg")[0] == 404
    assert chromium.call(fetched, "games.json") == [200, "[1]"]
    assert chromium.call(fetched, "icon.svg")[0] == 200


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
