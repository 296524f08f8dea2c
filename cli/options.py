"""Options that several commands share, and what they turn into."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from embpress.compressors.errors import InputError

if TYPE_CHECKING:
    from embpress.dlrm.data import ClickData
    from embpress.dlrm.training.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

DEVICE = click.option("--device", default="cpu", show_default=True, help="Where it runs: cpu, cuda or cuda:INDEX.")
AMP = click.option("--amp", is_flag=True, help="MLPs and interaction in bfloat16; tables and loss stay float32.")

_DATA = [
    click.argument("paths", nargs=-1, type=click.Path(), metavar="[FILE]..."),
    click.option("--format", type=str, default="auto", help="auto, criteo, csv, parquet, libfm or synthetic."),
    click.option(
        "--test", multiple=True, type=click.Path(), metavar="FILE", help="Test file; may be given several times."
    ),
    click.option("--label", help="csv, parquet: the label column (0/1 or -1/1). Guessed if left out."),
    click.option("--dense", help="csv, parquet: numeric columns, separated by commas."),
    click.option("--sparse", help="csv, parquet: id columns, separated by commas; list columns are multi-hot."),
    click.option("--fields", type=click.Path(), metavar="FILE", help="libfm: which field each index belongs to."),
    click.option(
        "--split", help="order (last fifth is the test part) or random. Default: order for criteo and synthetic."
    ),
    click.option("--split-seed", type=int, default=0, show_default=True, help="Seed of a random split."),
    click.option("--min-count", type=int, default=2, show_default=True, help="Rarer ids share row 0 of their table."),
    click.option("--rows", type=int, help="Rows to read of each part, or to make (synthetic: 200,000)."),
    click.option("--scale", type=float, help="Synthetic: table sizes as a share of Criteo-Kaggle's. [default: 0.003]"),
    click.option(
        "--structure", type=float, help="Synthetic: 0 (ids independent) to 1 (clustered, low rank). [default: 0.5]"
    ),
    click.option("--zipf", type=float, help="Synthetic: exponent of the id frequencies. [default: 1.05]"),
]
_TRAINING = [
    click.option("--ratio", type=str, help="Full bytes / serving bytes of all tables together, such as 16."),
    click.option("--budget", type=str, help="Serving bytes of all tables together, such as 20M."),
    click.option("--min-rows", type=int, help="Smaller tables stay full, and count. [default: 200]"),
    click.option("--largest", type=int, help="Compress only so many tables, the largest."),
    click.option(
        "--model", default="default", show_default=True, help="default, kaggle (DLRM's) or terabyte (MLPerf's)."
    ),
    click.option("--width", type=int, help="Width of the tables. [default: 16; terabyte: 128]"),
    click.option("--optimizer", help="sgd, adagrad or rowwise_adagrad. [default: adagrad; kaggle, terabyte: sgd]"),
    click.option("--lr", "learning_rate", type=float, help="Learning rate. [default: 0.02; kaggle: 0.1; terabyte: 1]"),
    click.option("--batch-size", type=int, help="Samples a step. [default: 256, from a million rows on 2048]"),
    click.option("--epochs", type=int, help="Passes over the training part. [default: 1]"),
    DEVICE,
    AMP,
    click.option("--threads", type=int, help="CPU threads. [default: torch's]"),
]
DATA_NAMES = [
    "paths",
    "format",
    "test",
    "label",
    "dense",
    "sparse",
    "fields",
    "split",
    "split_seed",
    "min_count",
    "rows",
    "scale",
    "structure",
    "zipf",
]


def data_options(function: F) -> F:
    """Adds the options that say which data and how to read them."""
    for option in reversed(_DATA):
        function = option(function)
    return function


def training_options(function: F) -> F:
    """Adds the options that say how large the tables may be and how to train."""
    for option in reversed(_TRAINING):
        function = option(function)
    return function


def load_data(given: dict[str, Any]) -> ClickData:
    """Reads or makes the data from the options' values."""
    from embpress.dlrm.data import load

    own = {name: given[name] for name in DATA_NAMES}
    synthetic = {name: value for name in ("scale", "structure", "zipf") if (value := own.pop(name)) is not None}
    return load(**own, **synthetic)


def settings_of(data: ClickData, given: dict[str, Any]) -> Settings:
    """Settings from the options' values; sets the number of threads and makes their device the current one."""
    import torch

    from embpress.compressors.registry import as_bytes, as_ratio
    from embpress.dlrm.measure.device import make_current
    from embpress.dlrm.training.settings import resolve

    own = {name: value for name, value in given.items() if name not in DATA_NAMES}
    ratio, budget = own.pop("ratio"), own.pop("budget")
    if ratio is not None and budget is not None:
        raise InputError("give --ratio or --budget, not both")
    threads = own.pop("threads")
    if threads is not None:
        if threads < 1:
            raise InputError(f"--threads must be at least 1, got {threads}")
        torch.set_num_threads(threads)
    rows = len(data.train) + len(data.valid) + len(data.test)
    settings = resolve(
        rows,
        ratio=None if ratio is None else as_ratio(ratio),
        budget=None if budget is None else as_bytes(budget),
        threads=torch.get_num_threads(),
        **own,
    )
    make_current(settings.device)
    return settings


def command_line() -> str:
    """The command as it was typed, to repeat it."""
    return shlex.join(["embpress", *sys.argv[1:]])


def out_folder(given: str | None, data: ClickData, settings: Settings) -> Path:
    """The run folder: given, or named after the data and the way of training, so that the same command finds it again.

    Raises:
        InputError: it cannot be written.
    """
    from embpress.dlrm.runs.record import fingerprint
    from embpress.dlrm.runs.store import check_writable

    name = f"{data.name}-{fingerprint([data.fingerprint, settings.protocol()])[:6]}"
    folder = Path(given) if given else Path("runs") / name
    check_writable(folder)
    return folder
