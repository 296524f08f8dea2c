"""`embpress bench`: a command for each suite that lies in `dlrm/bench/suites`."""

from __future__ import annotations

import datetime
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embpress.cli.numbers import Whole
from embpress.dlrm.bench import suite

if TYPE_CHECKING:
    from types import ModuleType

_SHARED = [
    click.option(
        "--cases", default="", metavar="NAMES", help="Only these cases, such as 'train-*,latency-B1'. [default: all]"
    ),
    click.option("--list", "only_list", is_flag=True, help="Show the cases and measure nothing."),
    click.option("--quick", is_flag=True, help="Small sizes and two repeats, to see that everything works."),
    click.option("--seconds", type=float, default=3.0, show_default=True, help="Time for the repeats of a case."),
    click.option("--repeats", type=Whole(1, 10**6), help="So many repeats of a case instead. [default on a GPU: 30]"),
    click.option("--threads", type=Whole(1), help="CPU threads. [default: torch's]"),
    click.option("--out", type=click.Path(), metavar="FOLDER", help="For page and record. [default: runs/bench-NAME]"),
]


class Suites(click.Group):
    """Learns the suites from their folder; one is imported when it is asked for: help does not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """By what lies in the folder."""
        return suite.names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a suite, with the options that its size adds."""
        return _command(cmd_name) if cmd_name in suite.names() else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Names the nearest suite for one that is not there."""
        if args and args[0] not in suite.names() and not args[0].startswith("-"):
            from embpress.compressors.errors import InputError, nearest

            raise InputError(f"no benchmark {args[0]!r}{nearest(args[0], suite.names())}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line a suite, without importing them."""
        with formatter.section("Benchmarks"):
            formatter.write_dl([(name, suite.about(name)) for name in suite.names()])


@click.group(name="bench", cls=Suites, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Measure speed on this machine.

    Ratios are taken in one run, of paired repeats on the CPU and by replay of CUDA graphs on a GPU. A benchmark writes
    a page with tables, and the record they are made from.

    \b
    Examples:
      embpress bench tt --cases 'train-*' --threads 1
      embpress bench robe --device cuda
      embpress bench train --methods full,full-tbe,tt:rank=32 --largest 7 --scale 1
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _command(name: str) -> click.Command:
    from embpress.cli.options import DEVICE

    module = suite.load(name)
    knobs = {knob.name: knob for knob in fields(module.FULL) if knob.metadata}

    def run(**options: Any) -> None:
        chosen = {knob: value for knob in knobs if (value := options.pop(knob)) is not None}
        _run(name, module, replace(module.QUICK if options["quick"] else module.FULL, **chosen), **options)

    command = click.Command(name, callback=run, help=suite.about(name))
    for field, knob in knobs.items():
        kind, text, default = knob.metadata["type"], knob.metadata["help"], knob.default
        option = click.option(
            f"--{field.replace('_', '-')}",
            type=kind,
            is_flag=kind is bool,
            default=None,
            help=f"{text} [default: {default}]" if default else text,
        )
        command = option(command)
    for option in (*_SHARED, DEVICE):
        command = option(command)
    return command


def _run(
    name: str,
    module: ModuleType,
    size: Any,
    cases: str,
    only_list: bool,
    quick: bool,
    seconds: float,
    repeats: int | None,
    device: str,
    threads: int | None,
    out: str | None,
) -> None:
    import torch

    from embpress.cli.options import command_line, set_threads
    from embpress.cli.show import console, show_sections
    from embpress.compressors.errors import InputError
    from embpress.compressors.guard import path as path_of
    from embpress.dlrm.bench.case import Context
    from embpress.dlrm.bench.replay import timer_of
    from embpress.dlrm.measure.device import make_current, resolve_device
    from embpress.dlrm.measure.environment import environment
    from embpress.dlrm.runs.store import write_json
    from embpress.kernels import ops
    from embpress.reports.bench.page import page_of

    if not 0 < seconds < 1e6:
        raise InputError(f"--seconds must be positive, got {seconds:g}")
    if not only_list:
        device = resolve_device(device)
    on = torch.device(device)
    chosen = suite.chosen(module.cases(size, on), [part.strip() for part in cases.split(",") if part.strip()])
    if only_list:
        width = max(len(case.name) for case in chosen) + 2
        for case in chosen:
            click.echo(f"{case.name:{width}}{case.baseline}".rstrip())
        return
    set_threads(threads)
    make_current(device)
    context = Context(size, timer_of(on, seconds=seconds, repeats=repeats, quick=quick), on)
    record: dict[str, Any] = {
        "schema": "embpress-bench/1",
        "suite": name,
        "about": suite.about(name),
        "command": command_line(),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "environment": environment(device),
        "device": device,
        "peak": None if context.peak is None else asdict(context.peak),
        "backend": {op: ops.backend(op, on.type) for op in ops.names() if op.startswith(getattr(module, "OPS", ""))},
        "quick": quick,
        "seconds": seconds,
        "size": asdict(size),
        "rows": [],
    }
    folder = Path(f"runs/bench-{name}") if out is None else path_of(out, "--out")
    path = folder / f"{page_of(record).stem}.json"
    write_json(path, record)  # a folder that cannot be written is better known before than after
    with console(stderr=True).status("starting") as status:
        for row in suite.run_cases(chosen, context, lambda i, case: status.update(f"[{i}/{len(chosen)}] {case}")):
            record["rows"].append(asdict(row))
            write_json(path, record)
    page = page_of(record)
    show_sections(page.setting(), page.sections(), page.write(folder))
    if not any(row["status"] == "ok" for row in record["rows"]):
        raise click.exceptions.Exit(1)
