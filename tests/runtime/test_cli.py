"""common/runtime/cli.py: presets, flags, and mistakes that end in one line."""

import dataclasses
import errno
import io
import os
import sys
from dataclasses import dataclass

import pytest

from common.runtime import cli
from common.runtime.cli import option


@dataclass(frozen=True)
class Config:
    """A stage's config."""

    steps: int = option(100, "training steps", "-s")
    rate: float = option(1e-3, "step size")
    schedule: str = option("constant", "how it falls", choices=("constant", "cosine"))
    noisy: bool = option(False, "whether to add noise")
    seed: int = option(1, "decides the noise", least=0)


@dataclass(frozen=True)
class Other:
    """The config of another stage."""

    part: int = option(1, "what it makes at a time")


@dataclass(frozen=True)
class Both(Config):
    """The config of a stage that takes the flags of both."""

    part: int = option(1, "what it makes at a time")


PRESETS = {"laptop": Config(steps=50, noisy=True), "smoke": Config(steps=5), "paper": Config()}


def parse(*argv):
    return cli.parse(PRESETS, "What it does.", list(argv))


def test_presets_and_overrides():
    """Catches a flag's default that overwrites the preset, a flag that is dropped, a value of another type."""
    assert parse()[0] == PRESETS["laptop"]
    assert parse("--preset", "smoke")[0] == PRESETS["smoke"]
    assert parse("--preset", "smoke", "--rate", "1")[0] == Config(steps=5, rate=1.0)
    assert parse("--steps", "50", "--preset", "paper")[0].steps == 50
    assert parse("-s", "7")[0].steps == 7
    assert not parse("--no-noisy")[0].noisy
    assert isinstance(parse("--rate", "1")[0].rate, float)


def test_the_least_value_is_allowed():
    """Catches a bound that is one too high."""
    assert parse("--steps", "1", "--rate", "0", "--seed", "0")[0] == Config(steps=1, rate=0.0, noisy=True, seed=0)


def test_a_file_that_cannot_be_written_is_known_before_the_work(tmp_path, capsys):
    """Catches a thousand games whose scores end in a traceback."""
    parser = cli.OneLineParser()
    parser.add_argument("--out", type=cli.new_file)
    (tmp_path / "file").write_text("kept")
    for good in ("a.json", "to/be/made/a.json", "file"):
        assert parser.parse_args(["--out", str(tmp_path / good)]).out == str(tmp_path / good)
    assert parser.parse_args(["--out", "a.json"]).out == "a.json"
    (tmp_path / "link").symlink_to("/dev/null")
    long = "a" * 250 + ".json"
    deep = f"to/be/{long}/a.json"
    for bad in ("", "file/a.json", "to/be/made/", long, deep, "link", "/proc/a.json", "/proc/b/a.json"):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(["--out", os.path.join(tmp_path, bad)])
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert "--out: " in error
        assert error.count("\n") == 1
    with pytest.raises(SystemExit):
        parser.parse_args(["--out", ""])
    (tmp_path / "link").unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


def test_run_and_fresh_are_not_part_of_the_config():
    """Catches --fresh or --run lost on the way."""
    arguments = parse("--run", "there", "--fresh")[1]
    assert (arguments.run, arguments.fresh, arguments.preset) == ("there", True, "laptop")
    arguments = parse()[1]
    assert (arguments.run, arguments.fresh) == (".", False)


@pytest.mark.parametrize(
    ("argv", "culprit"),
    [
        (["--stepz", "1"], "--stepz"),
        (["--step", "1"], "--step"),
        (["--pre", "smoke"], "--pre"),
        (["--preset", "huge"], "huge"),
        (["--steps", "many"], "many"),
        (["--steps", "1.5"], "1.5"),
        (["--steps", "0"], "0: give a number from 1 up"),
        (["--rate", "-1"], "-1: give a number from 0 up"),
        (["--rate", "nan"], "nan: give"),
        (["--seed", "-1"], "-1: give a number from 0 up"),
        (["--seed", str(2**31)], f"{2**31}: give a number from 0 to {2**31 - 1}"),
        (["--steps", str(10**40)], f"to {2**31 - 1}"),
        (["--schedule", "cosin"], "cosin"),
        (["stray"], "stray"),
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(argv, culprit, capsys):
    """Catches a flag that is silently ignored or guessed from its beginning, and argparse's page of usage."""
    with pytest.raises(SystemExit) as caught:
        parse(*argv)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert culprit in error


def test_what_a_later_stage_refuses_is_known_before_the_first(capsys):
    """Catches gpu_jobs.bash --steps 30, of which the second stage says so after the first has worked for hours."""
    stages = {"vae_train": PRESETS, "series": {"laptop": Other()}}
    cli.check(stages, ["--run", "there", "--preset", "laptop"])
    for wrong in (["--steps", "30"], ["--part", "0"]):
        with pytest.raises(SystemExit) as caught:
            cli.check({"vae_train": PRESETS | {"laptop": Both()}, "series": {"laptop": Other()}}, wrong)
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert wrong[0] in error
        assert error.count("\n") == 1
    assert error.startswith("vae_train.py: ")


def test_help_tells_every_flags_meaning(capsys):
    """Catches a help text that is not passed on."""
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for text in ("What it does.", "training steps", "--rate", "--no-noisy", "-s", "how it falls"):
        assert text in out


def test_help_tells_defaults(capsys):
    """Catches a preset's value that is nowhere told, one told for a flag without a default, and another's value."""
    with pytest.raises(SystemExit):
        parse("--help")
    out = " ".join(capsys.readouterr().out.split())
    for name, value in dataclasses.asdict(PRESETS["laptop"]).items():
        usual = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
        assert f"(laptop: {usual})" in out, name
    parser = cli.OneLineParser()
    parser.add_argument("--games", default=7, help="to play")
    parser.add_argument("--out", help="where to")
    parser.add_argument("--fast", action="store_true", help="hurry")
    told = " ".join(parser.format_help().split())
    assert "to play (default: 7)" in told
    assert told.count("default") == 1


def test_a_users_mistake_is_one_line_and_exit_code_2(capsys):
    """Catches a traceback for a UserError, and a program's own bug passed off as the user's."""

    def mistaken():
        raise cli.UserError("x.json: no such file")

    with pytest.raises(SystemExit) as caught:
        cli.run_main(mistaken)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.endswith("x.json: no such file\n")
    assert error.count("\n") == 1

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        cli.run_main(interrupted)
    assert caught.value.code == 130
    with pytest.raises(ZeroDivisionError):
        cli.run_main(lambda: 1 / 0)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/x.json"), 2, "a/x.json: No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a/x.json"), 2, "a/x.json: Disk quota exceeded"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), 2, "a: Permission denied"),
        (OSError(errno.EROFS, "Read-only file system"), 2, "a file: Read-only file system"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "a/x.json"), 2, "a/x.json: Is a directory"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "log/x"), 2, "log/x: Not a directory"),
        (FileExistsError(errno.EEXIST, "File exists", "a/record"), 2, "a/record: File exists"),
        (OSError(errno.EIO, "Input/output error", "x.npz"), 2, "x.npz: Input/output error"),
        (OSError(errno.EMFILE, "Too many open files", "x.npz"), 2, "x.npz: Too many open files"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), 2, "Resource temporarily unavailable"),
        (MemoryError("2 TB"), 1, "out of memory (2 TB)"),
        (type("ResourceExhaustedError", (Exception,), {})("OOM [9]\nnode"), 1, "out of memory (OOM [9])"),
        (cli.DiedError("the games died with code -9"), 1, "the games died with code -9; the same command continues"),
    ],
)
def test_what_the_machine_lacks_is_one_line(capsys, error, code, says):
    """Catches a traceback for a full disk, and a launcher that starts again what cannot succeed (it does, for 1)."""

    def lacking():
        raise error

    with pytest.raises(SystemExit) as caught:
        cli.run_main(lacking)
    assert caught.value.code == code
    line = capsys.readouterr().err
    assert says in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("name", ["EFBIG", "EPERM", "ESTALE", "ENAMETOOLONG", "ELOOP", "ENFILE", "ENOMEM"])
def test_errors_of_the_system_are_no_bugs(capsys, name):
    """Catches a traceback for a file system that is gone, a quota of files, or a name that lies in the way."""
    number = getattr(errno, name)

    def lacking():
        raise OSError(number, os.strerror(number), "x.npz")

    with pytest.raises(SystemExit) as caught:
        cli.run_main(lacking)
    assert caught.value.code == 2
    assert f"x.npz: {os.strerror(number)}; complete files are kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space", "a/x.json"),
        MemoryError("2 TB"),
        KeyboardInterrupt(),
        cli.DiedError("the games"),
    ],
)
@pytest.mark.parametrize(
    ("words", "says"), [(["--fresh"], "the same command without --fresh continues"), ([], "the same command continues")]
)
def test_how_to_go_on_after_beginning_anew(capsys, monkeypatch, error, words, says):
    """Catches the advice to give --fresh again, which sets aside what was made so far."""
    monkeypatch.setattr("sys.argv", ["train.py", *words])

    def stopped():
        raise error

    with pytest.raises(SystemExit):
        cli.run_main(stopped)
    assert says in capsys.readouterr().err


def test_a_terminal_of_ascii_shows_the_score(monkeypatch):
    """Catches a traceback at the end of a thousand games, for the sign before their standard deviation."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    cli.run_main(lambda: print("600 ± 3"))
    out.flush()
    assert out.buffer.getvalue() == b"600 ? 3\n"


def test_other_errors_of_the_system_keep_their_traceback():
    """Catches a bug, such as a file name that is wrong, passed off as a full disk."""
    with pytest.raises(FileNotFoundError):
        cli.run_main(lambda: os.stat("/none/none"))


def test_the_largest_value_is_allowed_and_no_larger_one(capsys):
    """Catches an upper limit without effect, and a float that is finite, but that float32 does not hold."""
    limited = {"laptop": dataclasses.make_dataclass("Limited", [("share", float, option(0.5, "a share", most=1))])()}
    assert cli.parse(limited, None, ["--share", "1"])[0].share == 1
    assert parse("--rate", "1e6")[0].rate == 1e6
    for presets, flag, value in ((limited, "--share", "1.1"), (PRESETS, "--rate", "1e39"), (PRESETS, "--rate", "inf")):
        with pytest.raises(SystemExit):
            cli.parse(presets, None, [flag, value])
        assert f"{flag}: {value}: give a number from 0 to 1" in capsys.readouterr().err


def test_a_checked_command_line_leaves_the_name_of_the_program(monkeypatch):
    """Catches a run of all rounds that calls itself by the name of its last stage in every later message."""
    monkeypatch.setattr(sys, "argv", ["iterate.py"])
    cli.check({"vae_train": PRESETS, "series": {"laptop": Other()}}, [])
    assert sys.argv == ["iterate.py"]


def test_flags_become_the_words_that_give_them_again():
    """Catches an option that a round switches off and that its stage has on by default."""
    flags = {"steps": 7, "noisy": False, "schedule": "cosine"}
    assert cli.words(flags) == ["--steps", "7", "--no-noisy", "--schedule", "cosine"]
    assert parse(*cli.words(flags))[0] == Config(**flags)
    assert cli.words({"noisy": True}) == ["--noisy"]
