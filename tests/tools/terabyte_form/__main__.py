"""Writes files of Criteo Terabyte's form, one a day, prepares them and says what that took.

    python tests/tools/terabyte_form --rows-per-day 100000 --folder /tmp/terabyte_form

Ids are drawn from the table sizes of MLPerf's DLRM: 204,184,588 rows in all, 40 million a table at most. A few million
lines hold a few million different ids of them, so that the tables are declared, `--table-rows criteo-terabyte`: the
model has all 204 million rows, and what compresses them has to cope with all, but only the first rows of a large table,
those of the ids that are there, are ever looked up. Full tables of width 128 would take 104.5 GB; at 1000x they train:

    embpress compare FOLDER/prepared --preset terabyte --methods tt,robe --ratio 1000 --epochs 1
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "prepare_speed"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows-per-day", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=24)
    parser.add_argument("--gz", action="store_true", help="gzipped files, a third as large and slower to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("terabyte_form"))
    parser.add_argument("--only", choices=["make", "prepare"], help="one of the two, in this process")
    options = parser.parse_args()
    if options.only:
        start = time.perf_counter()
        {"make": make, "prepare": prepare}[options.only](options)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"seconds": round(time.perf_counter() - start, 1), "peak_mb": peak // 1024}))
        return
    for what in ("make", "prepare"):  # each in a process of its own, so that its peak memory is its own
        command = [sys.executable, str(HERE.parent), *sys.argv[1:], "--only", what]
        print(what, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip(), flush=True)
    for name in ("days", "prepared"):
        files = [path.stat() for path in (options.folder / name).rglob("*") if path.is_file()]
        print(f"{name}: {sum(512 * file.st_blocks for file in files) / 1e6:,.0f} MB on disk in {len(files)} files")


def make(options):
    """The day files; one that is there is left as it is."""
    import made

    from embpress.dlrm.bench.terabyte import TERABYTE_ROWS

    ids = [rows - 1 for rows in TERABYTE_ROWS]  # row 0 is for what is missing
    folder = options.folder / "days"
    folder.mkdir(parents=True, exist_ok=True)
    for day in range(options.days):
        path = folder / f"day_{day}{'.gz' if options.gz else ''}"
        if not path.exists():
            half = path.with_name(f".{path.name}")  # a killed run leaves no day that is cut off
            made.write(half, options.rows_per_day, options.seed, day * options.rows_per_day, ids)
            half.rename(path)


def prepare(options):
    """The folder of prepared data, as `--dataset criteo-terabyte --min-count 1` makes it of 24 days."""
    from embpress.dlrm.bench.terabyte import TERABYTE_ROWS
    from embpress.dlrm.data.expand import natural
    from embpress.dlrm.data.prepare.prepare import prepare as write

    days = sorted((options.folder / "days").glob("day_*"), key=natural)
    write(
        days[:-1],
        options.folder / "prepared",
        test=days[-1:],
        format="criteo",
        split="halves",
        min_count=1,
        table_rows=TERABYTE_ROWS,
    )


if __name__ == "__main__":
    main()
