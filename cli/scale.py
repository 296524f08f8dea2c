"""`embpress scale`."""

from __future__ import annotations

import json
import shlex
from typing import Any

import click

from embpress.cli.numbers import Whole
from embpress.dlrm.training.settings import OPTIMIZERS
from embpress.kernels import found

_NODE, _NEAR, _FAR = 8, "nvlink4", "infiniband-hdr"  # devices of one machine, what links them, and what links more


def _names(package: str) -> str:
    return ", ".join(name.replace("_", "-") for name in found.names(f"embpress.dlrm.scale.{package}"))


def _widths(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    return tuple(Whole(1).convert(one.strip(), parameter, ctx) for one in value.split(","))


@click.command(name="scale")
@click.option("--tables", metavar="SIZE", help="Bytes of all full tables together, such as 50TB.")
@click.option(
    "--rows",
    metavar="ROWS",
    help="Rows of each table, 40M,40M,39060; one number for all of them; or criteo-kaggle, criteo-terabyte.",
)
@click.option("--tables-number", type=Whole(1), help="How many tables.")
@click.option("--dim", type=Whole(1, 1 << 20), default=128, show_default=True, help="Width of the full tables.")
@click.option("--batch", type=Whole(1, 1 << 40), default=65_536, show_default=True, help="Samples a step, in all.")
@click.option("--lookups", type=Whole(1, 1 << 20), default=1, show_default=True, help="Ids of each table in a sample.")
@click.option("--bottom", callback=_widths, default="512,256", show_default=True, help="MLP before the interaction.")
@click.option("--top", callback=_widths, default="1024,1024,512,256", show_default=True, help="MLP after it.")
@click.option("--optimizer", default="sgd", show_default=True, help=f"{', '.join(OPTIMIZERS)}.")
@click.option("--inference", is_flag=True, help="A step of inference; else of training.")
@click.option(
    "--machines",
    default="8xH100",
    show_default=True,
    metavar="NxDEVICE",
    help=f"Devices: {_names('machines')}; or memory, bandwidth and FLOP/s, 8x80GB:2TB/s:19.5TFLOP/s.",
)
@click.option(
    "--network",
    help=f"What links each device with all others: {_names('networks')}; or a rate each way, 100Gb/s, with a latency, "
    f"100Gb/s:5us.  [default: {_NEAR}, for more than {_NODE} devices {_FAR}]",
)
@click.option("--tf32", is_flag=True, help="Matrix products in tensor cores, where the device has them.")
@click.option("--memory-share", type=float, default=0.9, show_default=True, help="Of a device's memory to be filled.")
@click.option("--methods", default="robe", show_default=True, help="Specs of methods, separated by commas.")
@click.option("--ratio", help="Full bytes / serving bytes.  [default: 1000, where no size is given]")
@click.option("--budget", help="Serving bytes of all tables together, such as 5GB.")
@click.option("--min-rows", type=Whole(), default=200, show_default=True, help="Smaller tables stay full, and count.")
@click.option(
    "--case", "case_name", metavar="NAME", help=f"A published case, and what was published: {_names('cases')}."
)
@click.option("--json", "as_json", is_flag=True, help="Print numbers as JSON.")
@click.option("--out", type=click.Path(), metavar="FILE", help="Also write a page of markdown.")
@click.pass_context
def command(ctx: click.Context, case_name: str | None, as_json: bool, out: str | None, **options: Any) -> None:
    """Calculate a step on many devices: full tables sharded over them, compressed tables on each.

    Bytes of the tables are exact, those of the real ones made without values. Times are those of bytes and FLOPs at
    peak rates, by formulas that stand with their sources in embpress.dlrm.scale: memory traffic of lookups, shuffle of
    pooled rows and of their gradients (all-to-all), sum of gradients (ring all-reduce), FLOPs of the MLPs. Nothing is
    measured.

    \b
    Examples:
      embpress scale --rows criteo-terabyte --ratio 1000
      embpress scale --tables 50TB --tables-number 200 --machines 128xA100-40GB --network 200Gb/s
      embpress scale --rows 40M --tables-number 26 --methods robe,tt --ratio 64 --network 100Gb/s:5us
      embpress scale --case sharing-inference --out page.md
    """
    from rich.padding import Padding
    from rich.text import Text

    from embpress.cli.show import console, table
    from embpress.compressors.errors import InputError
    from embpress.dlrm.scale.answer import answers
    from embpress.dlrm.scale.case import case
    from embpress.reports.scale.cells import HEADERS, notes, rows, title
    from embpress.reports.scale.page import page

    published = None
    if case_name is not None:
        typed = [name for name in options if ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE]
        if typed:
            raise InputError(f"a case says everything itself; leave out --{typed[0].replace('_', '-')}, or --case")
        published = case(case_name)
        asked = command.make_context("scale", shlex.split(published.options)).params
        options = {name: value for name, value in asked.items() if name in options}
    question = _question(**options)
    found_answers = answers(question)
    if as_json:
        click.echo(json.dumps([one.to_json() for one in found_answers], indent=1))
    else:
        show = console()
        for one in found_answers:
            show.print(title(one), markup=False, style="bold")
            if one.steps:
                show.print(table(HEADERS, rows(one), left=(8,)))
            show.print()
        for note in notes(question):
            show.print(Padding(Text(note, style="dim"), (0, 0, 0, 2)))
        if published is not None:
            lines = [[claim.what, claim.paper, claim.ours(found_answers)] for claim in published.claims]
            show.print()
            show.print(published.source, markup=False, style="bold")
            show.print(table(["what", "the paper", "the calculator"], lines))
    if out is not None:
        from embpress.cli.options import command_line
        from embpress.compressors.guard import path
        from embpress.dlrm.runs.store import write_text

        target = write_text(path(out, "--out"), page(question, found_answers, command_line(), published))
        click.echo(f"page: {target}", err=as_json)


def _question(
    *,
    tables: str | None,
    rows: str | None,
    tables_number: int | None,
    machines: str,
    network: str | None,
    tf32: bool,
    memory_share: float,
    methods: str,
    ratio: str | None,
    budget: str | None,
    min_rows: int,
    inference: bool,
    **model: Any,
) -> Any:
    """What is asked, from the options.

    Raises:
        InputError: one that is none, or contradicts another.
    """
    from embpress.compressors import parse_all
    from embpress.compressors.errors import InputError
    from embpress.compressors.spec import as_bytes, as_ratio
    from embpress.dlrm.scale.answer import Question
    from embpress.dlrm.scale.parsing import as_devices, as_network, as_tables
    from embpress.dlrm.scale.step import Hardware
    from embpress.dlrm.scale.workload import Workload

    if ratio is not None and budget is not None:
        raise InputError("give --ratio or --budget, not both")
    if not 0 < memory_share <= 1:
        raise InputError(f"--memory-share is a share above 0 and up to 1, got {memory_share:g}")
    specs = tuple(parse_all(methods))
    if not specs:
        raise InputError("--methods names no method; leave it out, or name one, such as robe")
    devices, machine = as_devices(machines)
    link = network or (_NEAR if devices <= _NODE else _FAR)
    hardware = Hardware(machine, as_network(link), tf32, memory_share)
    if tf32 and machine.tf32 is None:
        raise InputError(f"{machine.name} has no TF32 rate; leave --tf32 out")
    work = Workload(as_tables(tables, rows, tables_number, model["dim"]), training=not inference, **model)
    size = 1000.0 if ratio is None and budget is None else None if ratio is None else as_ratio(ratio)
    return Question(work, hardware, devices, specs, size, None if budget is None else as_bytes(budget), min_rows)
