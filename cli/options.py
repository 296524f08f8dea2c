"""Options that several commands share, and what they turn into."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from embpress.cli.numbers import Minutes, Whole
from embpress.dlrm import models
from embpress.dlrm.data.formats import formats
from embpress.dlrm.distributed.place import Place
from embpress.dlrm.option import SHOWN_AS, Option
from embpress.dlrm.training import presets
from embpress.dlrm.training.settings import OPTIMIZERS, SHUFFLE_BLOCK, Settings
from embpress.dlrm.tuning import forms

if TYPE_CHECKING:
    from embpress.dlrm.data import ClickData
    from embpress.dlrm.runs.record import Asked

F = TypeVar("F", bound=Callable[..., Any])

DEVICE = click.option("--device", default="cpu", show_default=True, help="Where it runs: cpu, cuda or cuda:INDEX.")
AMP = click.option("--amp", is_flag=True, help="MLPs and interaction in bfloat16; tables and loss stay float32.")
KEEP_WEIGHTS = click.option(
    "--keep-weights", is_flag=True, help="Keep the trained weights in the run folder, for embpress export."
)

CHECKPOINT = click.option(
    "--checkpoint-minutes",
    type=Minutes(),
    default=10,
    show_default=True,
    metavar="MINUTES",
    help="Keep a run so often while it is trained: killed, the same command goes on from there, and ends as if nothing "
    "had happened. 0: never.",
)


def _way(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from embpress.compressors.errors import InputError

    if value == "":
        raise InputError("--tune is empty; leave it out, or name a way to tune")
    return value


TUNE = click.option(
    "--tune",
    callback=_way,
    metavar="WAY",
    help="Choose each method's learning rate, and perhaps knobs, on the validation part, by as many trials for each: "
    + " ".join(f"{form}: {about}." for form, about in forms().items()),
)

# the options of all data, as `load` calls them; each format adds its own
_COMMON = (
    *("dataset", "paths", "format", "test", "split", "split_seed", "min_count", "number_ids"),
    *("max_rows_per_table", "rows"),
)


def _training(several: bool) -> list[Callable[[F], F]]:
    known = models.options()
    named = [f"{name} ({about})" for name, about in presets.about().items()]

    def default(field: str) -> str:
        return presets.default_text(field, getattr(Settings, field))

    return [
        click.option(
            "--ratio",
            type=str,
            help=f"Full bytes / serving bytes of all tables together, such as 16{'; or several: 4,16,64' * several}.",
        ),
        click.option(
            "--budget",
            type=str,
            help=f"Serving bytes of all tables together, such as 20M{'; or several: 20M,5M' * several}.",
        ),
        click.option("--min-rows", type=Whole(), help=f"Smaller tables stay full, and count. {default('min_rows')}"),
        click.option("--largest", type=Whole(1), help="Compress only so many tables, the largest."),
        click.option(
            "--model",
            default=Settings.model,
            show_default=True,
            help=f"Click model: {', '.join(known)}; or MODULE:FUNCTION, which gives a model of your own.",
        ),
        *_of_members(known),
        click.option("--preset", default=Settings.preset, show_default=True, help=f"{', '.join(named)}."),
        click.option("--width", type=Whole(1), help=f"Width of the tables. {default('width')}"),
        click.option("--optimizer", help=f"{', '.join(OPTIMIZERS)}. {default('optimizer')}"),
        click.option("--lr", "learning_rate", type=float, help=f"Learning rate. {default('learning_rate')}"),
        click.option("--batch-size", type=Whole(1), help="Samples a step. [default: 256, from a million rows on 2048]"),
        click.option("--epochs", type=Whole(1), help=f"Passes over the training part. {default('epochs')}"),
        click.option(
            "--shuffle-window",
            type=Whole(SHUFFLE_BLOCK),
            metavar="ROWS",
            help="Mix samples within so many rows, for data that are larger than memory. "
            "[default: all rows; of more than 67 million 1,048,576]",
        ),
        DEVICE,
        AMP,
        click.option("--threads", type=Whole(1), help="CPU threads. [default: torch's]"),
    ]


def _data() -> list[Callable[[F], F]]:
    known = formats()
    ordered = [name for name, reader in known.items() if reader.split == "order"]
    return [
        click.argument("paths", nargs=-1, type=click.Path(), metavar="[FILE]..."),
        click.option("--dataset", metavar="NAME", help="FILEs are those of a public data set: see embpress data list."),
        click.option("--format", default="auto", show_default=True, help=f"auto, or one of {', '.join(known)}."),
        click.option("--test", multiple=True, type=click.Path(), metavar="FILE", help="Test file; may be repeated."),
        *_of_members({name: reader.options for name, reader in known.items()}),
        click.option(
            "--split",
            help=f"order (last fifth is the test part; default of {', '.join(ordered)}), random, or halves (first half "
            "of the --test files is the test part, the second is for validation).",
        ),
        click.option("--split-seed", type=Whole(), help="Seed of a random split. [default: 0]"),
        click.option("--min-count", type=Whole(1), help="Rarer ids share row 0 of their table. [default: 2]"),
        click.option(
            "--number-ids",
            help="frequency (the most frequent id is the first row, by which some methods gain) or random. "
            "[default: frequency]",
        ),
        click.option(
            "--max-rows-per-table", type=Whole(1), help="At most so many rows a table; the rarest ids then share row 0."
        ),
        click.option("--rows", type=Whole(1), help="Rows to read of each part, or to make (synthetic: 200,000)."),
    ]


def _of_members(known: dict[str, tuple[Option, ...]]) -> list[Callable[[F], F]]:
    """The options that only some formats or models have: one with the same name in several is one."""
    homes: dict[str, dict[Option, list[str]]] = {}
    for name, own in known.items():
        for option in own:
            if option.command_line:
                homes.setdefault(option.name, {}).setdefault(option, []).append(name)
    decorators = []
    for name, meanings in homes.items():
        text = " ".join(f"{', '.join(names)}: {_help(option)}" for option, names in meanings.items())
        shown = SHOWN_AS[next(iter(meanings)).kind]
        decorators.append(click.option(f"--{name.replace('_', '-')}", name, type=str, metavar=shown, help=text))
    return decorators


def _help(option: Option) -> str:
    if option.default is None:
        return option.help
    return f"{option.help} {presets.default_text(option.name, option.default, option.presets)}"


def data_options(function: F) -> F:
    """Adds the options that say which data and how to read them."""
    for option in reversed(_data()):
        function = option(function)
    return function


def training_options(function: F) -> F:
    """Adds the options that say how large the tables may be and how to train."""
    for option in reversed(_training(several=False)):
        function = option(function)
    return function


def sweep_options(function: F) -> F:
    """As `training_options`, for a command that takes several sizes: see `sizes_of`."""
    for option in reversed(_training(several=True)):
        function = option(function)
    return function


def sizes_of(options: dict[str, Any]) -> list[Asked]:
    """The sizes of a `--ratio` or a `--budget` that lists several, which it takes out of the options; else none.

    Raises:
        InputError: one that is no size, or stands there twice.
    """
    from embpress.compressors.errors import InputError
    from embpress.compressors.spec import as_bytes, as_ratio
    from embpress.dlrm.runs.record import Asked

    texts = {name: str(options[name] or "") for name in ("ratio", "budget")}
    if all(texts.values()):
        raise InputError("give --ratio or --budget, not both")
    name, text = next(((name, text) for name, text in texts.items() if "," in text), ("", ""))
    if not name:
        return []
    options[name] = None
    parts = [part.strip() for part in text.split(",")]
    sizes = [Asked(ratio=as_ratio(part)) if name == "ratio" else Asked(budget=as_bytes(part)) for part in parts]
    if len(set(sizes)) < len(sizes):
        raise InputError(f"--{name} {text} names the same size twice")
    return sizes


def data_keywords(options: dict[str, Any], cache: str | None = None) -> dict[str, Any]:
    """Keywords of `load` from the options' values, those of a data set that has a name among them.

    The digests of its files are kept in the cache, where there is one.
    """
    from embpress.dlrm.data.named import keywords

    values = {name: value for name, value in options.items() if name in _data_names()}
    dataset, paths = values.pop("dataset"), values.pop("paths")
    if dataset is not None:
        return keywords(dataset, paths, values, cache)
    return {"paths": paths, **values}


def tell_order(options: dict[str, Any]) -> None:
    """Says that files are read as the shell sorts them, where their numbers say otherwise: `day_10` before `day_2`.

    The files of a data set that has a name are found by their names.
    """
    from embpress.dlrm.data.expand import natural

    given = list(options["paths"])
    if options["dataset"] is None and given == sorted(given) != sorted(given, key=natural):
        first = ", ".join(Path(path).name for path in given[:4])
        click.echo(f"files are read in the order given: {first}, …; a pattern in quotes takes them by number", err=True)


def _data_names() -> set[str]:
    return {*_COMMON, *(o.name for reader in formats().values() for o in reader.options if o.command_line)}


def settings_of(rows: int, options: dict[str, Any]) -> Settings:
    """Settings for data of so many rows from the options' values; makes their device the current one."""
    import torch

    from embpress.compressors.errors import InputError
    from embpress.compressors.spec import as_bytes, as_ratio
    from embpress.dlrm.measure.device import make_current
    from embpress.dlrm.training.settings import resolve

    values = {name: value for name, value in options.items() if name not in _data_names()}
    ratio, budget = values.pop("ratio"), values.pop("budget")
    if ratio is not None and budget is not None:
        raise InputError("give --ratio or --budget, not both")
    settings = resolve(
        rows,
        ratio=None if ratio is None else as_ratio(ratio),
        budget=None if budget is None else as_bytes(budget),
        threads=torch.get_num_threads(),
        **values,
    )
    make_current(settings.device)
    return settings


def set_threads(threads: int | None) -> None:
    """Sets torch's threads, where a number is asked for.

    Raises:
        InputError: more than may be asked for: so many would only wait for each other, or cannot be started.
    """
    import torch

    from embpress.compressors.guard import whole
    from embpress.dlrm.training.settings import max_threads

    if threads is not None:
        torch.set_num_threads(whole(threads, "--threads", 1, max_threads()))


def command_line() -> str:
    """The command as it was typed, to repeat it; a worker's is that of its command, less what it is told besides."""
    words, place = sys.argv[1:], Place.here()
    words = words[: words.index("--worker") if "--worker" in words else None]
    if place.world > 1 and not any(word.split("=")[0] == "--processes" for word in words):  # torchrun's own
        end = words.index("--") if "--" in words else len(words)
        words[end:end] = ["--processes", str(place.world)]
    return shlex.join(["embpress", *words])


def run_folder(asked: str | None, data: ClickData, settings: Settings) -> Path:
    """The run folder: `asked`, or one named after what its runs share, so that the same command finds it again."""
    from embpress.compressors.guard import path
    from embpress.dlrm.runs.record import protocol
    from embpress.dlrm.runs.store import default_folder
    from embpress.dlrm.training.model import describe, describe_training

    shared = protocol(data.fingerprint, describe(settings), describe_training(settings, len(data.train)))
    return default_folder(data.name, shared) if asked is None else path(asked, "--out")


def out_folder(asked: str | None, data: ClickData, settings: Settings) -> Path:
    """`run_folder`, tried.

    Raises:
        InputError: it cannot be written.
    """
    from embpress.dlrm.runs.store import check_writable

    folder = run_folder(asked, data, settings)
    check_writable(folder)
    return folder
