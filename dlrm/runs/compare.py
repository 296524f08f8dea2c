"""Several methods and seeds on one data set, into one folder; a killed comparison goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from embpress.compressors import MethodSpec
from embpress.dlrm.data import ClickData
from embpress.dlrm.data.hot_rows import hot_rows
from embpress.dlrm.runs import record as records
from embpress.dlrm.runs.experiment import describe_run, run
from embpress.dlrm.training.loop import Progress
from embpress.dlrm.training.settings import Settings


class Step(NamedTuple):
    """One finished run of a comparison."""

    record: dict[str, Any]
    kept: bool  # it was there already
    number: int
    total: int


def compare(
    data: ClickData,
    methods: Sequence[MethodSpec],
    settings: Settings,
    seeds: Sequence[int],
    folder: Path,
    command: str = "",
    progress: Callable[[int, int, str], Progress] | None = None,
) -> Iterator[Step]:
    """Runs every method with every seed, seed by seed, and saves a record after each.

    Runs that finished before, in this folder and with the same data, settings, method and seed, are kept; failed ones
    are tried again.

    Args:
        progress: makes the progress callback of run `number` of `total` with a title.

    Raises:
        InputError: the folder cannot be written or holds damaged records or runs that cannot be compared with these.
    """
    total = len(methods) * len(seeds)
    present = {path.stem: records.read(path) for path in sorted((folder / "records").glob("*.json"))}
    for path in (folder / "records").glob(".writing-*"):
        path.unlink(missing_ok=True)  # left by a killed process
    todo = [(spec, seed, describe_run(data, spec, settings, seed, command)) for seed in seeds for spec in methods]
    records.check_comparable([*present.values(), todo[0][2]], folder)
    hot: dict[str, Any] | None = None
    for number, (spec, seed, about) in enumerate(todo, 1):
        done = present.get(about["id"])
        if done is not None and done["status"] == "ok":
            yield Step(done, True, number, total)
            continue
        callback = progress(number, total, f"{spec} · seed {seed}") if progress else None
        if hot is None:  # once for all runs: it depends on the data alone
            if callback:
                callback(0, 0, "counting hot rows")
            hot = hot_rows(data)
        made, predictions = run(data, spec, settings, seed, command, callback)
        made["data"]["hot_rows"] = hot
        records.save(folder, made, predictions)
        yield Step(made, False, number, total)
