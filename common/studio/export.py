"""A static page: the dream itself in any browser, from any web server, without Python.

    python -m common.studio.export                                              # the games that ship, in site/
    python -m common.studio.export --run runs/doom/round4 --game doomrnn --out site/   # a run's own weights and controller
    python -m common.studio.export --game doomrnn --controller log/doomrnn.ppo.64.512.best.json       # another agent

Writes a folder of files: the studio's page, and for every game a manifest and its weights in float16. A game that is
there already is replaced, others stay. Look at it with: python -m http.server --directory site. See docs/site.md.
"""

import glob
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf

from common import game
from common.agent import controller, mdnrnn, network
from common.play import agents
from common.runtime import cli, files, provenance
from common.runtime.cli import UserError
from common.studio import session

FORMAT = 2  # of the manifest; weights.js reads this one
PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
SERVER_ONLY = {"server.js", "kernel.wat"}
GAMES, SERVICE_WORKER = "games.json", "service-worker.js"
ACTIVATIONS = {"linear", "relu", "sigmoid", "tanh"}  # that network.js knows
TOLERANCE = 1e-4  # of an action, between a game's action_of and its rule
# of an action or a logit, between the agent and what is written of it: float16 moves those of the agents that ship by
# 0.006 at most
COARSE = 0.02
ROWS = 64  # states in which that is compared


class Arrays:
    """The arrays of one weights file, in order."""

    def __init__(self) -> None:
        self.about: dict[str, dict[str, Any]] = {}
        """{name: what the manifest says of it}"""
        self.data = b""

    def add(self, name: str, array: Any) -> str:
        """Adds an array: uint8 as it is, all others as float16; returns its name.

        Raises:
            UserError: a value is not finite, or too large for a float16.
        """
        array = np.asarray(array)
        if array.dtype != np.uint8:
            with np.errstate(over="ignore"):
                array = array.astype("<f2")
            if not np.isfinite(array).all():
                raise UserError(f"{name}: holds a weight that a float16 cannot hold; it is not exported")
        data = array.tobytes() + b"\0" * (array.nbytes % 2)  # all begin at even addresses
        self.about[name] = {
            "shape": array.shape,
            "type": array.dtype.name,
            "offset": len(self.data),
            "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
        }
        self.data += data
        return name

    def __getitem__(self, name: str) -> np.ndarray:
        """An array as the page reads it: what was written, float16 as float32."""
        about = self.about[name]
        shape, kind = about["shape"], np.dtype(about["type"]).newbyteorder("<")
        array = np.frombuffer(self.data, kind, int(np.prod(shape)), about["offset"]).reshape(shape)
        return array if array.dtype == np.uint8 else array.astype(np.float32)


def layer_of(arrays: Arrays, name: str, layer: Any) -> dict[str, Any] | None:
    """A Keras layer as network.js takes it; None if it does nothing.

    Raises:
        UserError: network.js does not know such layers.
    """
    kind = next((base.__name__ for base in type(layer).__mro__ if base.__module__.startswith("keras.")), "")
    if kind in ("Flatten", "Reshape"):  # an image and a list of its numbers are one there
        return None
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    about: dict[str, Any] = {"kind": {"Dense": "dense", "Conv2D": "conv", "Conv2DTranspose": "deconv"}.get(kind, "")}
    if kind == "Activation":
        about["kind"] = "activation"
    if not about["kind"] or activation not in ACTIVATIONS or getattr(layer, "padding", "valid") != "valid":
        raise UserError(
            f"{name}: the page knows no such layer ({type(layer).__name__}, {activation}); it is not exported"
        )
    about["activation"] = activation
    if kind == "Activation":
        return about
    kernel = np.asarray(layer.kernel)
    if kind == "Conv2DTranspose":
        kernel = np.moveaxis(kernel, 3, 0)  # [size, size, out, in] -> [in, size, size, out]
        matrix = kernel.reshape(len(kernel), -1)
    else:
        matrix = kernel.reshape(-1, kernel.shape[-1])
    if kind != "Dense":
        about |= {"size": layer.kernel_size[0], "stride": layer.strides[0]}
    about["weight"] = arrays.add(f"{name}/weight", matrix)
    about["bias"] = arrays.add(f"{name}/bias", layer.bias)
    return about


def vae_of(arrays: Arrays, vae: Any) -> dict[str, Any]:
    """The VAE: layers of encoder and decoder, and the two heads of the encoder."""
    about: dict[str, Any] = {
        "mu": layer_of(arrays, "mu", vae.fc_mu),
        "logvar": layer_of(arrays, "logvar", vae.fc_logvar),
    }
    for part in ("encoder", "decoder"):
        layers = (layer_of(arrays, f"{part}/{k}", layer) for k, layer in enumerate(getattr(vae, part).layers))
        about[part] = [layer for layer in layers if layer]
    return about


def rnn_of(arrays: Arrays, rnn: Any, path: str) -> dict[str, Any]:
    """The sizes of the MDN-RNN; its arrays keep their names.

    Raises:
        UserError: it is another kind of network.
    """
    if not isinstance(rnn, mdnrnn.MDNRNN):
        raise UserError(
            f"{path}: is a {type(rnn).__name__}, and the page dreams by an MDN-RNN only; it is not exported"
        )
    for name in rnn.shape.arrays:
        arrays.add(f"rnn/{name}", getattr(rnn, name))
    sizes = ("z_size", "action_size", "hidden_size", "mixtures", "restart")
    return {name: getattr(rnn.shape, name) for name in sizes} | {"forget_bias": mdnrnn.FORGET_BIAS}


def controller_of(arrays: Arrays, agent: agents.Agent) -> dict[str, Any]:
    """The controller: what it reads, its layers, and what becomes of their outputs, all as data.

    Returns:
        {"reads": ["z", "h", ...], "stacks": [layers whose outputs are added up], and "choices": [the action of each
        output, the greatest wins], or "rule": what becomes of tanh of each output, see `action_rule_of` and
        `_squashed_rule_of`}.

    Raises:
        UserError: what is exported would not act as the agent does.
    """
    policy, flat = agent.controller, agent.parameters
    if isinstance(policy, network.Policy):
        mode, layers = agent.meta["config"]["controller_mode"], policy.network.unpack(flat)
        stacks, under = [layers], flat[policy.network.parameters :]
        if isinstance(policy.head, network.Choice):
            acts = {"choices": np.asarray(policy.head.actions).tolist()}
            stacks += [] if policy.base is None else [_base_of(policy.base, under, policy.network.sizes[0])]
        else:
            acts = {"rule": _squashed_rule_of(policy.head)}
            linear = agents.controller_on(agent.game, agent.models.rnn, mode)
            stacks += [] if policy.base is None else [_unpacked(linear, under)]
    else:
        mode, stacks = policy.mode.removesuffix("_hidden"), [_unpacked(policy, flat)]
        acts = {"rule": action_rule_of(agent.game)}
    exported = {"reads": list(mode), "stacks": [], **acts}
    for s, stack in enumerate(stacks):
        ends = ["tanh"] * (len(stack) - 1) + ["linear"]
        exported["stacks"].append([
            {"kind": "dense", "activation": end, "weight": arrays.add(f"controller/{s}/{k}/weight", weight),
             "bias": arrays.add(f"controller/{s}/{k}/bias", bias)}
            for k, ((bias, weight), end) in enumerate(zip(stack, ends, strict=True))
        ])  # fmt: skip
    rng = np.random.default_rng(0)
    rnn = agent.models.rnn.shape
    state = {name: rng.standard_normal((ROWS, size), np.float32)
             for name, size in (("z", rnn.z_size), ("h", rnn.hidden_size), ("c", rnn.hidden_size))}  # fmt: skip
    outputs = _outputs(exported, arrays, state)
    acted = np.asarray(agent.policy([0] * ROWS).act(tuple(map(tf.constant, state.values()))), float)
    off = np.abs(_acted(exported, outputs) - acted).max(axis=1)
    if isinstance(policy, network.Policy) and "choices" in exported:
        # where two choices are as good as equal, float16 may decide; their logits are compared everywhere
        second, best = np.sort(outputs, axis=1)[:, -2:].T
        off[best - second < 2 * COARSE] = 0
        features = tf.constant(np.concatenate([state[name] for name in exported["reads"]], axis=1))
        logits = np.asarray(policy.outputs(policy.network.unpack(flat), features))
        off = np.maximum(off, np.abs(outputs - logits).max(axis=1))
    if not off.max() < COARSE:  # nan is not either
        raise UserError(
            f"{agent.path}: the page would act otherwise, by {off.max():.2g}: it knows no such controller, or float16 is "
            "too coarse for its weights; it is not exported"
        )
    return exported


def _unpacked(policy: controller.Controller, flat: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """[(bias [O], weight [I, O])] of each layer."""
    layers, start = [], 0
    for inputs, outputs in policy.layers:
        bias = flat[start : start + outputs] if policy.bias else np.zeros(outputs, np.float32)
        start += outputs * policy.bias
        layers.append((bias, flat[start : start + inputs * outputs].reshape(inputs, outputs)))
        start += inputs * outputs
    return layers


def _base_of(base: Callable, parameters: np.ndarray, features: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The linear controller under a network: its outputs are linear in u = tanh(w x + b), so two u tell them."""
    bias, weight = np.split(parameters, [len(parameters) - features])
    bias = bias if len(bias) else np.zeros(1, np.float32)
    tried = np.zeros((2, features), np.float32)
    strongest = np.abs(weight).argmax()
    if weight[strongest]:
        tried[:, strongest] = (np.array([0, 1]) - bias) / weight[strongest]
    at_zero, at_one = np.asarray(base(tf.constant(tried)))
    slope = (at_one - at_zero) / np.tanh(1)
    return [(bias, weight[:, np.newaxis]), (at_zero, slope[np.newaxis])]


def _outputs(exported: dict[str, Any], arrays: Arrays, state: dict[str, np.ndarray]) -> np.ndarray:
    """What the page will compute from the layers as they are written: {"z", "h", "c": [B, ...]} -> [B, outputs]."""
    outputs = []
    for layers in exported["stacks"]:
        x = np.concatenate([state[name] for name in exported["reads"]], axis=1)
        for layer in layers:
            x = x @ arrays[layer["weight"]] + arrays[layer["bias"]]
            x = np.tanh(x) if layer["activation"] == "tanh" else x
        outputs.append(x)
    if len(outputs) > 1 and "rule" in exported:
        means = [_mean_of_linear(*part) for part in zip(exported["rule"], outputs[1].T, strict=True)]
        outputs[1] = np.stack(means + [np.zeros_like(mean) for mean in means], 1)
    return np.sum(outputs, axis=0)


def _mean_of_linear(part: dict[str, float], output: np.ndarray) -> np.ndarray:
    """SquashedNormal.mean_of_linear, of one number of the action."""
    if part["power"] == 1:
        return output
    least, most, rest = part["least"], part["most"], network.LEAST_SHARE
    share = np.clip((np.clip(np.tanh(output), least, most) - least) / (most - least), rest, 1 - rest)
    return np.arctanh(2 * share ** (1 / part["power"]) - 1)


def _acted(exported: dict[str, Any], outputs: np.ndarray) -> np.ndarray:
    """What the page will do by these outputs, [B, A]."""
    if "choices" in exported:
        return np.asarray(exported["choices"])[outputs.argmax(axis=1)]

    def acted(part: dict[str, Any], x: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        if "power" in part:
            least, most = part["logstd"]
            std = np.exp(least + (most - least) / (1 + np.exp(-deviation)))
            drawn = ((np.tanh(x + std * np.array(part["nodes"])[:, None]) + 1) / 2) ** part["power"]
            return part["least"] + (part["most"] - part["least"]) * np.array(part["shares"]) @ drawn
        return np.clip(part["scale"] * np.tanh(x) + part["shift"], part["least"], part["most"])

    size = len(exported["rule"])
    parts = zip(exported["rule"], outputs.T[:size], outputs.T[-size:], strict=True)
    return np.stack([acted(*part) for part in parts], axis=1)


def _squashed_rule_of(head: network.SquashedNormal) -> list[dict[str, Any]]:
    """The rule of a network with continuous actions, {power, least, most, logstd, nodes, shares} of each.

    Each is the expected action: see SquashedNormal.best.
    """
    parts = (np.asarray(part).tolist() for part in (head.power, head.low, head.high))
    quadrature = {"logstd": list(network.LOGSTD), "nodes": network.NODES.tolist(), "shares": network.SHARES.tolist()}
    return [dict(zip(("power", "least", "most"), part, strict=True)) | quadrature for part in zip(*parts, strict=True)]


def action_rule_of(scene: game.Game) -> list[dict[str, float]]:
    """What becomes of the controller's outputs, as data: each is scaled, shifted and cut, {scale, shift, least, most}.

    Raises:
        UserError: the game does something else with them.
    """
    size, rng = scene.config.ACTION_SIZE, np.random.default_rng(0)
    tried = np.concatenate([rng.uniform(-1, 1, (2000, size)), np.eye(size), -np.eye(size), [[-1] * size, [1] * size]])
    acted = np.asarray(scene.action_of(tried.astype(np.float32)), float)
    rule, followed = [], []
    for raw, action in zip(tried.T, acted.T, strict=True):
        least, most = action.min(), action.max()
        inside = (action > least + TOLERANCE) & (action < most - TOLERANCE)
        scale, shift = np.polyfit(raw[inside], action[inside], 1) if inside.any() else (0.0, least)
        part = {"scale": scale, "shift": shift, "least": least, "most": most}
        rule.append({name: round(float(value), 6) + 0.0 for name, value in part.items()})  # no -0.0
        followed.append(np.clip(scale * raw + shift, least, most))
    if np.abs(np.stack(followed, axis=1) - acted).max() > TOLERANCE:
        raise UserError(
            f"{scene.name}: action_of does more than to scale, shift and cut each output of the controller; the page "
            "cannot follow it"
        )
    return rule


def keyboard_of(scene: game.Game) -> dict[str, list[float]]:
    """The action of all sets of keys, {"left up": [A]}, the keys in their alphabet's order."""
    names = sorted(scene.keys)
    sets = itertools.chain.from_iterable(itertools.combinations(names, count) for count in range(len(names) + 1))
    return {" ".join(keys): [float(value) for value in scene.keyboard_action(set(keys))] for keys in sets}


def manifest_of(stage: session.Stage) -> tuple[dict[str, Any], bytes]:
    """All that the page needs of a game.

    Returns:
        (the manifest, the bytes of its weights file).
    """
    scene, config, arrays = stage.game, stage.game.config, Arrays()
    manifest: dict[str, Any] = {name: getattr(scene, name) for name in ("name", "title", "goal", "keys", "actions")}
    manifest |= {
        "format": FORMAT,
        "reward": {"dream": scene.reward["dream"]},
        "dream_reward": config.DREAM_REWARD,
        "max_steps": config.MAX_STEPS,
        "temperature": config.TEMPERATURE,
        "temperatures": session.TEMPERATURES,
        "seeds": session.SEEDS,
        "held": session.HELD,
        "keyboard": keyboard_of(scene),
        "vae": vae_of(arrays, stage.vae),
        "rnn": rnn_of(arrays, stage.rnn, stage.models.paths["rnn"]),
        "end_weight": stage.end_weight,
        "controller": controller_of(arrays, stage.agent) if stage.agent else None,
        "no_agent": "" if stage.agent else "this page was exported without an agent",
    }
    arrays.add("frames", stage.frames)
    made = provenance.about_now()
    manifest["made"] = {name: made[name] for name in ("made", "commit")} | (stage.agent or stage.models).about()
    name = f"weights.{hashlib.sha256(arrays.data).hexdigest()[:16]}.bin"
    return manifest | {"file": name, "bytes": len(arrays.data), "arrays": arrays.about}, arrays.data


def write_game(out: str, stage: session.Stage) -> None:
    """Writes the folder of a game: its weights, then its manifest, and removes the weights of an earlier export."""
    manifest, data = manifest_of(stage)
    folder = os.path.join(out, stage.game.name)
    with files.atomic(os.path.join(folder, manifest["file"])) as file:
        file.write(data)
    files.write_json(os.path.join(folder, "manifest.json"), manifest, indent=1)
    for path in glob.glob(os.path.join(glob.escape(folder), "weights.*.bin")):
        if os.path.basename(path) != manifest["file"]:
            os.remove(path)


def write_page(out: str) -> None:
    """Writes all but the folders of the games, for those that are there."""
    games = sorted(_manifests(out), key=lambda about: -about["dream_reward"])  # the first one is opened
    if not games:
        raise UserError(f"{out}: no game has weights to export; train them first, see the README of the game")
    for folder, folders, names in os.walk(PAGE):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        for name in sorted(set(names) - SERVER_ONLY):
            copied = os.path.join(out, os.path.relpath(folder, PAGE), name)
            os.makedirs(os.path.dirname(copied), exist_ok=True)
            shutil.copyfile(os.path.join(folder, name), copied)
    _change(os.path.join(out, "index.html"), 'data-backend="server"', 'data-backend="browser"')
    offered = [{"name": about["name"], "title": about["title"], "lacking": None} for about in games]
    files.write_json(os.path.join(out, GAMES), offered, indent=1)
    pages = [path for path in _relative_files(out) if not path.endswith(".bin") and path != SERVICE_WORKER]
    _change(os.path.join(out, SERVICE_WORKER), "", f"self.FILES = {json.dumps(['./', *pages])};\n")


def _manifests(out: str, replaced: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The manifests of the games that are there.

    Raises:
        UserError: one is damaged, or has a format that the page does not read and is of no game that is replaced.
    """
    found = []
    for path in sorted(glob.glob(os.path.join(glob.escape(out), "*", "manifest.json"))):
        try:
            about = files.read_json(path)
            about |= {name: about[name] for name in ("name", "title", "dream_reward", "format")}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: damaged ({error}); remove its folder, and export that game again") from None
        if about["format"] != FORMAT and about["name"] not in replaced:
            raise UserError(
                f"{path}: is of format {about['format']}, and this page reads {FORMAT}; remove its folder, and export "
                "that game again"
            )
        found.append(about)
    return found


def _change(path: str, text: str, by: str) -> None:
    """Replaces the first such text in a file, which must be there."""
    with open(path, encoding="utf-8") as file:
        before, found, after = file.read().partition(text) if text else ("", "", file.read())
    if text and not found:
        raise ValueError(f"{path}: has no {text}")
    with files.atomic(path, "w") as file:
        file.write(before + by + after)


def _relative_files(out: str) -> Iterator[str]:
    for folder, folders, names in os.walk(out):
        folders.sort()
        for name in sorted(names):
            yield os.path.normpath(os.path.join(os.path.relpath(folder, out), name)).replace(os.sep, "/")


def sizes(out: str, name: str) -> tuple[int, int]:
    """What a visitor of one game loads: (bytes of the weights, bytes of all)."""
    others = {about["name"] for about in files.read_json(os.path.join(out, GAMES))} - {name}
    loaded = [path for path in _relative_files(out) if path.split("/")[0] not in others]
    size = {path: os.path.getsize(os.path.join(out, path)) for path in loaded}
    return sum(size[path] for path in loaded if path.endswith(".bin")), sum(size.values())


def prepare(out: str, replaced: Sequence[str]) -> None:
    """Makes the folder in which these games are replaced.

    Raises:
        UserError: it is neither new, nor empty, nor one that this command has made; or a game there is damaged, or is
            one that stays and has a format that the page does not read.
    """
    if not out:
        raise UserError("--out: give a folder")
    if os.path.exists(out) and not os.path.isdir(out):
        raise UserError(f"--out {out}: is not a folder")
    if os.path.isdir(out) and os.listdir(out) and not os.path.exists(os.path.join(out, GAMES)):
        raise UserError(f"--out {out}: holds files that are not those of such a page; give a new or an empty folder")
    _manifests(out, replaced)
    if not os.path.exists(os.path.join(out, GAMES)):
        files.write_json(os.path.join(out, GAMES), [])


def main() -> None:
    names = game.names()
    parser = cli.OneLineParser(description=__doc__)
    parser.add_argument("--game", choices=names, help="only this game; by default all that have weights")
    parser.add_argument(
        "--run", metavar="DIR", help="the run (of --game) of which to export weights, controller and frames"
    )
    parser.add_argument("--controller", default="", metavar="FILE", help="the controller (of --game) that is the agent")
    parser.add_argument("--out", metavar="DIR", default="site", help="folder to write (default: site)")
    parser.add_argument("--unverified", action="store_true", help=cli.UNVERIFIED)
    arguments = parser.parse_args()
    if arguments.run is not None and arguments.game is None:
        raise UserError(f"--run {arguments.run}: say with --game which game's run it is")
    if arguments.controller and arguments.game is None:
        raise UserError(f"--controller {arguments.controller}: say with --game which game it plays")
    if arguments.run is not None and not os.path.isdir(arguments.run):
        raise UserError(f"--run {arguments.run}: no such folder")
    names = [arguments.game] if arguments.game else names
    prepare(arguments.out, names)
    os.environ.setdefault("WORLDMODELS_DTYPE", "float32")  # the page computes in float32
    devices.for_blocks()
    for name in names:
        scene = game.find(name)
        run = arguments.run or scene.folder
        if arguments.game is None and (lacking := session.lacking(scene, run)):
            print(f"{scene.title} is not exported: {lacking}")
            continue
        stage = session.Stage(scene, run, arguments.unverified, arguments.controller)
        if stage.no_agent and arguments.controller:
            raise UserError(f"--controller {arguments.controller}: {stage.no_agent}")
        if stage.no_agent:
            print(f"{scene.title} is exported without an agent: {stage.no_agent}")
        write_game(arguments.out, stage)
    write_page(arguments.out)
    for about in files.read_json(os.path.join(arguments.out, GAMES)):
        weights, everything = sizes(arguments.out, about["name"])
        print(f"{about['title']}: {weights / 1e6:.1f} MB of weights, {everything / 1e6:.1f} MB with the page")
    print(f"{arguments.out}: written; look at it with: python -m http.server --directory {arguments.out}")


if __name__ == "__main__":
    cli.run_main(main)
