"""Times `embpress data prepare` on made files of Criteo's form against `polars.read_csv` of the same file.

    python tests/tools/prepare_speed --rows 2000000 --repeats 3 --folder /tmp/prepare_speed

Each is a process of its own, in turn; the ratio is that of the fastest of each, of the whole call without imports.
Memory is the peak of the process's resident set, imports and, for prepare, mapped pages included.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("prepare_speed"))
    parser.add_argument("--one", choices=["read_csv", "prepare", "make"])
    options = parser.parse_args()
    path, to = options.folder / f"criteo-{options.rows}.txt", options.folder / "prepared"
    if options.one:
        print(json.dumps(once(options.one, path, to, options.rows)))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        in_process(options, "make")
    print(f"{options.rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB")
    found = {"read_csv": [], "prepare": []}
    for _ in range(options.repeats):
        for what, results in found.items():
            shutil.rmtree(to, ignore_errors=True)
            results.append(in_process(options, what))
            print(what, results[-1])
    for clock in ("seconds", "cpu_seconds"):
        least = {what: min(result[clock] for result in results) for what, results in found.items()}
        print(f"{clock}: {least['prepare']:.2f} / {least['read_csv']:.2f} = {least['prepare'] / least['read_csv']:.2f}")
    print(f"peak memory of prepare: {max(result['peak_mb'] for result in found['prepare']):,.0f} MB")


def in_process(options, what):
    """What `once` gives in a process of its own."""
    command = [sys.executable, HERE.parent, "--one", what, "--rows", options.rows, "--folder", options.folder]
    return json.loads(subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout)


def once(what, path, to, rows):
    """Seconds by the clock and of the processors, and peak memory before and at the end."""
    import polars as pl

    from embpress.dlrm.data.prepare.prepare import prepare
    from embpress.dlrm.data.readers.criteo import CATEGORIES, INTEGERS

    schema = {"label": pl.Int64} | dict.fromkeys(INTEGERS, pl.Int64) | dict.fromkeys(CATEGORIES, pl.String)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    if what == "make":
        import made

        made.write(path, rows)
    elif what == "prepare":
        prepare([path], to, format="criteo")
    else:
        pl.read_csv(path, has_header=False, separator="\t", quote_char=None, schema=schema)
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "imported_mb": before // 1024,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


main()
