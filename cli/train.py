"""`embpress train`."""

from __future__ import annotations

from typing import Any

import click

from embpress.cli.compare_processes import PROCESSES
from embpress.cli.data_cache import CACHE
from embpress.cli.numbers import Whole
from embpress.cli.options import CHECKPOINT, KEEP_WEIGHTS, TUNE, data_options, training_options


@click.command(name="train")
@data_options
@CACHE
@click.option("--method", default="full", show_default=True, help="A method with knobs and modifiers, or plan:FILE.")
@training_options
@click.option("--seed", type=Whole(0, 2**40), default=0, show_default=True, help="Data order and initial values.")
@TUNE
@KEEP_WEIGHTS
@PROCESSES
@CHECKPOINT
@click.option("--out", type=click.Path(), metavar="FOLDER", help="Run folder. [default: runs/<data>-<hash>]")
def command(
    method: str, seed: int, keep_weights: bool, checkpoint_minutes: float, out: str | None, **options: Any
) -> None:
    """Train one method with one seed and save its record.

    Runs of the same data and settings may share a folder with those of embpress compare.

    \b
    Examples:
      embpress train --method tt:rank=16
      embpress train clicks.csv --label click --method robe:z=16:ratio=100 --epochs 2
      embpress train train.txt --test test.txt --format criteo --preset kaggle --method qr:c=8
    """
    from embpress.cli.compare import run_with
    from embpress.compressors import parse

    spec = parse(method)
    run_with(options, out, [spec], [seed], keep_weights, checkpoint_minutes=checkpoint_minutes)
