"""`embpress bench`."""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict
from pathlib import Path

import click


@click.group(name="bench")
def command() -> None:
    """Measure speed on this machine: ratios taken in one run, medians of paired repeats."""


@command.command(name="train")
@click.option("--methods", default="full", show_default=True, help="Methods with their knobs, separated by commas.")
@click.option("--model", default="kaggle", show_default=True, help="default, kaggle or terabyte.")
@click.option("--batch-size", type=int, default=2048, show_default=True, help="Samples a step.")
@click.option("--scale", type=float, default=0.1, show_default=True, help="Table sizes as a share of Criteo-Kaggle's.")
@click.option("--ratio", type=float, help="Full bytes / serving bytes of all tables together.")
@click.option("--largest", type=int, help="Compress only so many tables, the largest.")
@click.option("--repeats", type=int, default=30, show_default=True, help="Pairs of a step and an sgemm a method.")
@click.option("--threads", type=int, help="CPU threads. [default: torch's]")
@click.option("--out", type=click.Path(), metavar="FILE", help="Also write the result as JSON.")
def train(
    methods: str,
    model: str,
    batch_size: int,
    scale: float,
    ratio: float | None,
    largest: int | None,
    repeats: int,
    threads: int | None,
    out: str | None,
) -> None:
    """Training step of a DLRM against its MLPs' arithmetic at sgemm's speed, measured in the same run.

    \b
    Examples:
      embpress bench train
      embpress bench train --methods full,full-tbe,tt:rank=32 --largest 7 --scale 1
    """
    import torch

    from embpress.cli.options import command_line
    from embpress.cli.show import console, table
    from embpress.compressors import InputError, parse_all
    from embpress.dlrm.bench import bench_train
    from embpress.dlrm.environment import environment
    from embpress.dlrm.record import write_atomic
    from embpress.dlrm.settings import resolve
    from embpress.reports.metrics import show

    specs = parse_all(methods)
    if repeats < 1 or batch_size < 1 or not 0 < scale <= 1:
        raise InputError("--repeats and --batch-size must be at least 1, --scale between 0 and 1")
    if threads:
        torch.set_num_threads(threads)
    settings = resolve(0, model=model, batch_size=batch_size, ratio=ratio, largest=largest)
    quiet = console(stderr=True)
    with quiet.status("starting") as status:
        rows, peak = bench_train(specs, settings, scale, repeats, status.update)
    cells = [
        [
            r.method,
            show("serving_bytes", r.serving_bytes),
            f"{r.step_ms:.1f}",
            f"{r.arithmetic_ms:.1f}",
            f"{r.ratio:.2f}",
        ]
        for r in rows
    ]
    shown = console()
    shown.print(table(["method", "tables", "step ms", "arithmetic ms", "step / arithmetic"], cells))
    shown.print(
        f"  {model} model, batch {batch_size}, 26 tables of Criteo-Kaggle's sizes × {scale:g}; "
        f"sgemm {peak:.0f} GFLOP/s on {torch.get_num_threads()} threads; medians of {repeats} pairs",
        style="dim",
    )
    if out:
        record = {
            "schema": "embpress-bench-train/1",
            "command": command_line(),
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "environment": environment(),
            "sgemm_gflops": peak,
            "settings": asdict(settings),
            "scale": scale,
            "repeats": repeats,
            "rows": [asdict(row) for row in rows],
        }
        write_atomic(Path(out), lambda file: file.write(json.dumps(record, indent=1).encode()))
