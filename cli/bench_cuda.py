"""`embpress bench cuda`."""

from __future__ import annotations

import datetime
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from embpress.cli.options import command_line


@click.command(name="cuda")
@click.option("--cases", default="", metavar="NAMES", help="Only these cases, such as 'tt-*'. [default: all]")
@click.option("--device", default="cuda", show_default=True, help="Where it runs; cpu tries the cases.")
@click.option("--repeats", type=int, default=30, show_default=True, help="Measurements of each call.")
@click.option("--quick", is_flag=True, help="Small sizes and two repeats, to see that everything works.")
@click.option("--list", "only_list", is_flag=True, help="Show the cases and measure nothing.")
@click.option("--out", type=click.Path(), default="runs/bench-cuda", show_default=True, metavar="FOLDER")
def command(cases: str, device: str, repeats: int, quick: bool, only_list: bool, out: str) -> None:
    """The ops on a GPU, by replay of CUDA graphs: our time, a rival's, and the floor that counting gives.

    Writes a page with tables, and the record they are made from.

    \b
    Examples:
      embpress bench cuda
      embpress bench cuda --cases 'robe-*'
      embpress bench cuda --device cpu --quick
    """
    import torch

    from embpress.cli.show import console, show_sections
    from embpress.compressors import InputError
    from embpress.dlrm.bench.case_cuda import QUICK_CUDA, CudaContext, CudaSize
    from embpress.dlrm.bench.replay import Timer
    from embpress.dlrm.bench.suite_cuda import backends, cuda_cases, run_cuda_cases
    from embpress.dlrm.bench.suite_tt import chosen
    from embpress.dlrm.measure.device import make_current, resolve_device
    from embpress.dlrm.measure.environment import environment
    from embpress.dlrm.runs.store import write_json
    from embpress.reports.bench.cuda import RECORD, sections, setting, write_page

    if repeats < 1:
        raise InputError(f"--repeats must be at least 1, got {repeats}")
    size = QUICK_CUDA if quick else CudaSize()
    asked = chosen(cuda_cases(size), [name for part in cases.split(",") if (name := part.strip())])
    if only_list:
        for case in asked:
            click.echo(f"{case.name:24}{case.rival}")
        return
    device = resolve_device(device)
    make_current(device)
    context = CudaContext(device, size, Timer(device, 2, 0.0) if quick else Timer(device, repeats))
    folder = Path(out)
    record: dict[str, Any] = {
        "schema": "embpress-bench-cuda/1",
        "command": command_line(),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "environment": environment(device),
        "peak": None if context.peak is None else asdict(context.peak),
        "backend": backends(torch.device(device)),
        "quick": quick,
        "size": asdict(size),
        "rows": [],
    }
    write_json(folder / RECORD, record)  # a folder that cannot be written is better known before than after
    with console(stderr=True).status("starting") as status:
        for row in run_cuda_cases(asked, context, lambda i, name: status.update(f"[{i}/{len(asked)}] {name}")):
            record["rows"].append(asdict(row))
            write_json(folder / RECORD, record)
    show_sections(setting(record), sections(record), write_page(folder, record))
    if not any(row["status"] == "ok" for row in record["rows"]):
        raise click.exceptions.Exit(1)
