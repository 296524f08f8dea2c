"""Kills `embpress compare` at random moments until it is through, and holds what it made against a run left alone.

    PYTHONPATH=tests/tools python -m kill_runs --kills 30 --folder /tmp/kill_runs
    PYTHONPATH=tests/tools python -m kill_runs --executor local:2 -- clicks.csv --methods full,tt
    PYTHONPATH=tests/tools python -m kill_runs --processes 2

Kills are `kill -9`, a third of them while a checkpoint is being written, a third from when the last run is recorded
on, a third at any time. With `--executor` it is mostly a worker that is killed, with `--processes` one of those that
train a run together, else the command. After each kill what was recorded must still be there as it was, and in the end
records, predictions and weights must be bit-equal.
"""

import argparse
import sys
from pathlib import Path

from kill_runs.equal import differences
from kill_runs.killer import KINDS, Killer

METHODS = "full,prune,cce,tt:rank=4:cache_rows=50,hash+int4:train=true"
DEFAULT = f"--rows 60000 --epochs 3 --methods {METHODS} --ratio 4 --keep-weights --threads 1"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--folder", type=Path, default=Path("kill_runs"))
    parser.add_argument("--minutes", type=float, default=0.005, help="--checkpoint-minutes of what is killed")
    parser.add_argument("--executor", help="as of embpress compare")
    parser.add_argument("--processes", type=int, help="as of embpress compare")
    parser.add_argument("--kinds", default=",".join(KINDS), help="moments, of which each kill draws one")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("words", nargs="*", help=f"of the comparison [default: {DEFAULT}]")
    options = parser.parse_args()
    words = options.words or DEFAULT.split()
    kinds = options.kinds.split(",")
    killer = Killer(words, options.folder, options.minutes, options.executor, options.seed, kinds, options.processes)
    print(f"left alone: {killer.whole():.1f} s, {len(killer.expected)} records", flush=True)
    wrong = []
    while len(killer.kills) < options.kills:
        folder = killer.round(options.kills)
        found = [*killer.lost, *differences(killer.untouched, folder)]
        wrong += found
        print(f"{folder.name}: {killer.summary(folder)}; {'; '.join(found) or 'all bit-equal'}", flush=True)
    print(f"{len(killer.kills)} kills, runs taken up again {killer.resumed} times, {len(wrong)} differences")
    return 1 if wrong or not killer.resumed else 0


if __name__ == "__main__":
    sys.exit(main())
