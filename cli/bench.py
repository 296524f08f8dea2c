"""`embpress bench`."""

from __future__ import annotations

import datetime
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from embpress.cli import bench_cuda, bench_floors
from embpress.cli.options import AMP, DEVICE, command_line


@click.group(name="bench")
def command() -> None:
    """Measure speed on this machine: ratios taken in one run, medians of paired repeats."""


command.add_command(bench_cuda.command)
command.add_command(bench_floors.command)


@command.command(name="train")
@click.option("--methods", default="full", show_default=True, help="Methods with their knobs, separated by commas.")
@click.option("--preset", default="kaggle", show_default=True, help="default, kaggle or terabyte.")
@click.option("--batch-size", type=int, default=2048, show_default=True, help="Samples a step.")
@click.option("--scale", type=float, default=0.1, show_default=True, help="Table sizes as a share of Criteo-Kaggle's.")
@click.option("--ratio", type=float, help="Full bytes / serving bytes of all tables together.")
@click.option("--largest", type=int, help="Compress only so many tables, the largest.")
@DEVICE
@AMP
@click.option("--repeats", type=int, default=30, show_default=True, help="Pairs of a step and an sgemm a method.")
@click.option("--threads", type=int, help="CPU threads. [default: torch's]")
@click.option("--out", type=click.Path(), metavar="FILE", help="Also write the result as JSON.")
def train(
    methods: str,
    preset: str,
    batch_size: int,
    scale: float,
    ratio: float | None,
    largest: int | None,
    device: str,
    amp: bool,
    repeats: int,
    threads: int | None,
    out: str | None,
) -> None:
    """Training step of a DLRM against its MLPs' arithmetic at sgemm's speed (float32), measured in the same run.

    \b
    Examples:
      embpress bench train
      embpress bench train --methods full,full-tbe,tt:rank=32 --largest 7 --scale 1
      embpress bench train --device cuda --amp
    """
    import torch

    from embpress.cli.show import console, table
    from embpress.compressors import InputError, parse_all
    from embpress.dlrm.bench.step import bench_train
    from embpress.dlrm.measure.device import make_current
    from embpress.dlrm.measure.environment import environment
    from embpress.dlrm.runs.store import write_json
    from embpress.dlrm.training.settings import resolve
    from embpress.reports.metrics import show

    specs = parse_all(methods)
    if repeats < 1 or batch_size < 1 or not 0 < scale <= 1:
        raise InputError("--repeats and --batch-size must be at least 1, --scale between 0 and 1")
    if threads:
        torch.set_num_threads(threads)
    settings = resolve(0, preset=preset, batch_size=batch_size, ratio=ratio, largest=largest, device=device, amp=amp)
    make_current(settings.device)
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
    ran_on = environment(settings.device)
    where = ran_on.get("gpu") or f"{torch.get_num_threads()} threads"
    shown = console()
    shown.print(table(["method", "tables", "step ms", "arithmetic ms", "step / arithmetic"], cells))
    shown.print(
        f"  {preset} model, batch {batch_size}, 26 tables of Criteo-Kaggle's sizes × {scale:g}; "
        f"sgemm {peak:.0f} GFLOP/s on {where}; {'bfloat16 MLPs; ' if amp else ''}medians of {repeats} pairs",
        style="dim",
    )
    if out:
        record = {
            "schema": "embpress-bench-train/1",
            "command": command_line(),
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "environment": ran_on,
            "sgemm_gflops": peak,
            "settings": asdict(settings),
            "scale": scale,
            "repeats": repeats,
            "rows": [asdict(row) for row in rows],
        }
        write_json(Path(out), record)


@command.command(name="tt")
@click.option(
    "--cases", default="", metavar="NAMES", help="Only these cases, such as 'train-*,latency-B1'. [default: all]"
)
@click.option("--seconds", type=float, default=3.0, show_default=True, help="Time for the repeats of a case.")
@click.option("--threads", type=int, help="CPU threads. [default: torch's, all cores]")
@DEVICE
@click.option("--quick", is_flag=True, help="Small sizes and two repeats, to see that everything works.")
@click.option("--list", "only_list", is_flag=True, help="Show the cases and measure nothing.")
@click.option("--out", type=click.Path(), default="runs/bench-tt", show_default=True, metavar="FOLDER")
def tt(cases: str, seconds: float, threads: int | None, device: str, quick: bool, only_list: bool, out: str) -> None:
    """TT-Rec's op against its rivals: torch.bmm, tensorly-torch, the full table, whole models; and its memory.

    Writes a page with tables and a plot, and the record they are made from.

    \b
    Examples:
      embpress bench tt
      embpress bench tt --cases 'train-*' --threads 1
      embpress bench tt --quick
    """
    import torch

    from embpress.cli.show import console, show_bench
    from embpress.compressors import InputError
    from embpress.dlrm.bench.case import QUICK, Context, Size
    from embpress.dlrm.bench.suite_tt import all_cases, backends, chosen, run_cases
    from embpress.dlrm.measure.device import make_current, resolve_device
    from embpress.dlrm.measure.environment import environment
    from embpress.dlrm.runs.store import write_json
    from embpress.reports.bench.tt import RECORD, write_page

    if not 0 < seconds < 1e6:
        raise InputError(f"--seconds must be positive, got {seconds:g}")
    if threads is not None and threads < 1:
        raise InputError(f"--threads must be at least 1, got {threads}")
    size = QUICK if quick else Size()
    asked = chosen(all_cases(size), [name for part in cases.split(",") if (name := part.strip())])
    if only_list:
        for case in asked:
            click.echo(f"{case.name:22}{case.rival}")
        return
    if threads:
        torch.set_num_threads(threads)
    device = resolve_device(device)
    make_current(device)
    context = Context(size, 0.01, 2, 0.0, device) if quick else Context(size, seconds, device=device)
    folder = Path(out)
    record: dict[str, Any] = {
        "schema": "embpress-bench-tt/1",
        "command": command_line(),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "environment": environment(device),
        "device": device,
        "backend": backends(device),
        "quick": quick,
        "seconds": seconds,
        "size": asdict(size),
        "rows": [],
    }
    write_json(folder / RECORD, record)  # a folder that cannot be written is better known before than after
    with console(stderr=True).status("starting") as status:
        rows = run_cases(asked, context, lambda i, name: status.update(f"[{i}/{len(asked)}] {name}"))
        for row in rows:
            record["rows"].append(asdict(row))
            write_json(folder / RECORD, record)
    show_bench(record, write_page(folder, record))
    if not any(row["status"] == "ok" for row in record["rows"]):
        raise click.exceptions.Exit(1)
