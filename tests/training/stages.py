"""Stages for the tests of iterate.py: they note their command and write the files of a stage, without TensorFlow.

What a file holds follows from what it is made from. So two runs have the same files if, and only if, each stage got the
same flags and files.
"""

import glob
import hashlib
import json
import os
import sys
import time

from common.runtime import files, provenance

SCRIPTS = "extract", "vae_train", "series", "rnn_train", "train", "pick_best", "model", "fidelity"
HANG_SECONDS = 60
MEANS = 2  # that an evolution evaluates, unless it has --generations
MODELS = {"vae": "tf_vae/vae.json", "rnn": "tf_rnn/rnn.json", "initial_z": "tf_initial_z/initial_z.json"}


def install(folder):
    """Makes a game folder of such stages; each script is a process of its own."""
    os.makedirs(folder, exist_ok=True)
    for name in SCRIPTS:
        with open(os.path.join(folder, f"{name}.py"), "w") as file:
            file.write(f"import sys\n\nsys.path.insert(0, {os.path.dirname(__file__)!r})\nimport stages\n\n")
            file.write("stages.main(sys.argv)\n")


def main(argv):
    """A stage; the commands go to commands.jsonl beside the script, and fault.json there says what is to fail."""
    folder, script = os.path.split(os.path.splitext(argv[0])[0])
    flags, positional, words = {}, [], list(argv[1:])
    while words:
        word = words.pop(0)
        if word == "norender":
            flags[word.lstrip("-")] = True
        elif word.startswith("--"):
            flags[word[2:]] = words.pop(0)
        else:
            positional.append(word)
    with open(os.path.join(folder, "commands.jsonl"), "a") as file:
        file.write(json.dumps([script, *argv[1:]]) + "\n")
    STAGES[script](flags, positional, lambda: _fault(folder, script, flags))


def _fault(folder, script, flags):
    """In the middle of a stage: fails once, if this one is to fail."""
    path = os.path.join(folder, "fault.json")
    if os.path.exists(path):
        about = files.read_json(path)
        if about["script"] == script and flags["run"].endswith(about["in"]):
            os.remove(path)
            if about["how"] == "hang":
                files.write_json(os.path.join(folder, "hangs.json"), os.getpid())
                _hang(folder)
            if about["how"] == "kill":
                os.kill(os.getpid(), 9)
            sys.exit(about["how"])


def _hang(folder):
    """Waits; after Ctrl-C it takes a moment to end, and notes that it could."""
    try:
        time.sleep(HANG_SECONDS)
    except KeyboardInterrupt:
        time.sleep(0.15)  # of the second that iterate.py has, half of which it may wait before it passes Ctrl-C on
        files.write_json(os.path.join(folder, "ended.json"), "by itself")
        sys.exit(130)


def _write(path, kind, made_of, parents, **more):
    with files.atomic(path, "w") as file:
        file.write(json.dumps(hashlib.sha256(repr(made_of).encode()).hexdigest()))
    parents = {name: files.sha256(parent) for name, parent in parents.items()}
    provenance.write(path, kind, "stub", {"seed": 1}, parents, 1.0, unverified=False, **more)


def _named(name, run):
    """A file of another stage, as agents.find finds it."""
    return next(path for path in (name, os.path.join(run, name)) if os.path.exists(path))


def _content(path):
    with open(path, "rb") as file:
        return file.read()


def _plain(flags):
    """The flags that say the same wherever the run lies."""
    return sorted((name, value) for name, value in flags.items() if name not in ("run", "start_from", "out"))


def _from(flags, run):
    return _content(_named(flags["start_from"], run)) if flags.get("start_from") else b""


def _begin(path, data):
    """Notes what a stage begins on; one that has begun on other data refuses to continue, as stages do."""
    known, now = os.path.join(os.path.dirname(path), "config.json"), hashlib.sha256(repr(data).encode()).hexdigest()
    if os.path.exists(known) and files.read_json(known) != now:
        sys.exit(f"{path}: its training began on other data")
    if not os.path.exists(known):
        files.write_json(known, now)


def extract(flags, _, fault):
    record, first, episodes = os.path.join(flags["run"], "record"), int(flags["first_seed"]), int(flags["episodes"])
    summary = os.path.join(record, f"{first}.summary.json")
    if os.path.exists(summary):
        return
    who = _content(_named(flags["controller"], flags["run"])) if "controller" in flags else b"random"
    for seed in range(first, first + episodes):
        if seed == first + episodes // 2:
            fault()
        if not os.path.exists(os.path.join(record, f"{seed}.npz")):
            with files.atomic(os.path.join(record, f"{seed}.npz")) as file:
                file.write(b"%d %s" % (seed, who))
    files.write_json(summary, {"kept": episodes})


def _recordings(run):
    return [(os.path.basename(path), _content(path)) for path in sorted(glob.glob(f"{glob.escape(run)}/record/*.npz"))]


def vae_train(flags, _, fault):
    path = os.path.join(flags["run"], MODELS["vae"])
    if not os.path.exists(path):
        _begin(path, _recordings(flags["run"]))
        fault()
        _write(path, "vae", (_recordings(flags["run"]), _plain(flags), _from(flags, flags["run"])), {})


def series(flags, _, fault):
    run = flags["run"]
    _begin(os.path.join(run, "series", "series.npz"), "of the same VAE")
    fault()
    vae = os.path.join(run, MODELS["vae"])
    _write(os.path.join(run, "series", "series.npz"), "series", (_recordings(run), _content(vae)), {"vae": vae})


def rnn_train(flags, _, fault):
    run = flags["run"]
    path, vae = os.path.join(run, MODELS["rnn"]), os.path.join(run, MODELS["vae"])
    if not os.path.exists(path):
        series = os.path.join(run, "series", "series.npz")
        made_of = _content(series), _plain(flags), _from(flags, run)
        _begin(path, made_of[0])
        fault()
        for kind in ("initial_z", "rnn"):
            _write(os.path.join(run, MODELS[kind]), kind, made_of, {"series": series, "vae": vae})


def _models(run):
    return {name: os.path.join(run, path) for name, path in MODELS.items()}


def train(flags, _, fault):
    run, models = flags["run"], _models(flags["run"])
    base = os.path.join(run, "log", "stub.cma.1.4.")
    if not os.path.exists(base + "best.json"):
        others = [_content(_named(name, run)) for name in flags.get("also_in", "").split(",") if name]
        along = _content(os.path.join(run, "series", "series.npz")) if int(flags.get("starts", 0)) else b""
        plain = [pair for pair in _plain(flags) if pair[0] != "also_in"]
        made_of = [_content(path) for path in models.values()], plain, _from(flags, run), others, along
        _begin(base, along)
        fault()
        means = [[k, 10.0 * k, [0.5]] for k in range(1, 1 + int(flags.get("generations", MEANS)))]
        files.write_json(base + "log.json", means)
        _write(base + "best.json", "controller", made_of, models, score={"of": "dream", "mean": 700.0})


def pick_best(flags, positional, fault):
    base = os.path.join(flags["run"], "log", os.path.basename(positional[0]).removesuffix("log.json"))
    fault()
    made_of = _content(base + "best.json"), _plain(flags)
    _write(base + "picked.json", "controller", made_of, _models(flags["run"]), score={"of": "game"}, dream=650.0)


def model(flags, positional, fault):
    *_, controller, _seed = positional
    fault()
    mean = int(hashlib.sha256(_content(controller)).hexdigest(), 16) % 1000
    files.write_json(
        flags["out"],
        {
            "mean": mean,
            "std": 10.0,
            "stderr": 1.0,
            "n": int(flags["episodes"]),
            "backend": "stub",
            "more": "not for rounds",
        },
    )


def fidelity(flags, _, fault):
    fault()
    files.write_json(flags["out"], {"dream": {"mean": 500.0}, "recall": 0.5})


STAGES = {name: globals()[name] for name in SCRIPTS}
