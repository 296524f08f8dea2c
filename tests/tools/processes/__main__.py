"""Trains methods in one process and in several, on the same batches: AUC, speed-up, bytes on the wire, in one table.

    python tests/tools/processes --processes 2 --methods full,hash,tt -- frappe.libfm --epochs 2

What follows `--` are words of `embpress compare`; without any it is 20,000 synthetic rows at a ratio of 4. Without
--methods it is every method that is registered. Each process has one thread. The speed-up is that of the seconds of
training, without evaluation; on a machine with fewer free cores than processes it says nothing.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from embpress.compressors.registry import available
from embpress.dlrm.runs.store import read_all

SYNTHETIC = ["--rows", "20000", "--scale", "0.001", "--ratio", "4"]


def main():
    own, words = sys.argv[1:], []
    if "--" in own:
        own, words = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--methods", default=",".join(available()))
    parser.add_argument("--folder", type=Path, help="where run folders are kept; default: nowhere")
    options = parser.parse_args(own)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        one, several = (
            compare(words or SYNTHETIC, options.methods, count, folder / str(count)) for count in (1, options.processes)
        )
    print(table(one, several, options.processes))


def compare(words, methods, processes, folder):
    """The runs of so many processes by method."""
    words = [*words, "--methods", methods, "--threads", "1", "--processes", str(processes), "--out", str(folder)]
    subprocess.run([sys.executable, "-m", "embpress.cli.main", "compare", *words], check=True, stdout=sys.stderr)
    return {run.method: run for run in read_all(folder)}


def table(one, several, processes):
    """The runs side by side; what could not run says why."""
    head = ("method", "AUC, 1", f"AUC, {processes}", "difference", "seconds, 1", f"seconds, {processes}", "speed-up")
    rows = [(*head, "bytes a step")]
    for method, alone in one.items():
        together = several[method]
        failed = next((run for run in (alone, together) if not run.ok), None)
        if failed is not None:
            rows.append((method, f"{failed.status}: {failed.reason}"))
            continue
        auc, seconds = ([run.metrics[name] for run in (alone, together)] for name in ("auc", "train_seconds"))
        sent = together.metrics["wire_bytes_per_step"]
        numbers = [*(f"{value:.5f}" for value in auc), f"{abs(auc[0] - auc[1]):.1e}", *(f"{s:.2f}" for s in seconds)]
        rows.append((method, *numbers, f"{seconds[0] / seconds[1]:.2f}", f"{sent:,.0f}"))
    widths = [max(len(row[i]) for row in rows if len(row) > 2) for i in range(len(rows[0]))]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))]) for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    main()
