"""Evolving Doom's controller over 1, 2, 4 and 16 ranks: time per generation, bytes sent, memory per rank.

The work is the same for any number of ranks: 64 candidates on 4 dreams each, in 16 blocks of 16 rows, with the VAE and
MDN-RNN that ship. Memory of a rank is private, or proportional: with its part of the memory that ranks share.

    python bench/scale.py --out bench/scale.json
"""

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time

import numpy as np

from common.runtime import cli, files

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
POPULATION, EPISODES, ROWS, PARAMETERS = 64, 4, 16, 1088
SETTINGS = ["--preset", "smoke", "--num_episode", EPISODES, "--block_rows", ROWS, "--eval_steps", 1000]
SETTINGS += ["--eval_episodes", 4, "--checkpoint_seconds", 0]


def ranks_of(text: str) -> int:
    """An argparse type: a number of ranks that the population divides among."""
    ranks = cli.number(int, 1)(text)
    if POPULATION % ranks:
        raise argparse.ArgumentTypeError(f"{text}: does not divide the population of {POPULATION}; give 1, 2, 4, ...")
    return ranks


def bytes_of_a_generation():
    """(to the ranks, back from them) of one generation, were all of its blocks computed elsewhere."""
    candidates = ROWS // EPISODES
    task = (1, 0, (np.zeros((candidates, PARAMETERS)), np.zeros(EPISODES, int)))
    scores = (np.zeros((candidates, EPISODES)), np.zeros((candidates, EPISODES), int))
    blocks = POPULATION // candidates
    return blocks * len(pickle.dumps(task, -1)), blocks * len(pickle.dumps((1, 0, scores, None), -1))


def memory(run):
    """{rank: (private, proportional) MB} of the ranks at work in a run's folder."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = dict(word.split(b"=", 1) for word in file.read().split(b"\0") if b"=" in word)
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            with open(f"/proc/{pid}/smaps_rollup") as file:
                sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in file if line.endswith("kB\n")}
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if run.encode() in words and b"train.py" in words and (b"PMI_RANK" in environment or b"1" in words):
            rank = int(environment.get(b"PMI_RANK", 0))
            found[rank] = (sizes["Private_Clean"] + sizes["Private_Dirty"], sizes["Pss"])
    return found


def measure(ranks, generations):
    """Evolves for so many generations; the first, in which each rank compiles, does not count."""
    with tempfile.TemporaryDirectory() as run:
        command = [sys.executable, "train.py", *SETTINGS, "-n", ranks, "-t", POPULATION // ranks]
        command += ["--run", run, "--generations", generations + 1]
        process = subprocess.Popen(list(map(str, command)), cwd=os.path.join(ROOT, "doomrnn"))
        most = {}
        while process.poll() is None:
            for rank, sizes in memory(run).items():
                most[rank] = max(most.get(rank, sizes), sizes)
            time.sleep(0.5)
        if process.returncode:
            raise cli.UserError(f"{' '.join(map(str, command[1:]))}: failed, see above")
        hist = files.read_json(os.path.join(run, "log", f"doomrnn.cma.{EPISODES}.{POPULATION}.hist.json"))
    private, proportional = (np.mean([sizes[k] for sizes in most.values()]) for k in (0, 1))
    steps = (hist[-1][7] - 1) * POPULATION * EPISODES
    return {
        "ranks": ranks,
        "seconds_per_generation": round((hist[-1][1] - hist[0][1]) / generations, 2),
        "steps_in_the_last": round(steps),
        "private_mb_per_rank": round(private),
        "proportional_mb_per_rank": round(proportional),
    }


def main() -> None:
    """Measures, and prints or writes the figures."""
    parser = cli.OneLineParser(description=__doc__)
    parser.add_argument("--ranks", type=ranks_of, nargs="+", default=[1, 2, 4, 16], help="numbers of ranks to measure")
    parser.add_argument("--generations", type=cli.number(int, 1), default=5, help="after the first")
    parser.add_argument("--out", type=cli.new_file, metavar="FILE", help="write the figures here, as JSON")
    arguments = parser.parse_args()
    sent, received = bytes_of_a_generation()
    rows = [measure(ranks, arguments.generations) for ranks in arguments.ranks]
    print(f"at most {sent} bytes to the ranks and {received} back per generation, for {os.cpu_count()} cores")
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if arguments.out:
        result = {"bytes_sent": sent, "bytes_received": received, "cores": os.cpu_count(), "rows": rows}
        files.write_json(arguments.out, result, indent=1)


if __name__ == "__main__":
    cli.run_main(main)
