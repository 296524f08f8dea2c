"""Finds the checkpoint that is meant by a run folder, a record or a file."""

from __future__ import annotations

from pathlib import Path

from embpress.compressors.errors import InputError
from embpress.compressors.guard import listed
from embpress.dlrm.runs import store
from embpress.dlrm.runs.checkpoint import checkpoint_path
from embpress.dlrm.runs.record import Asked, Run


def find(source: Path, method: str | None = None, seed: int | None = None, asked: Asked | None = None) -> Path:
    """The checkpoint's file.

    Args:
        source: a run folder, a record in it, or a checkpoint.
        method, seed: which run of a folder.
        asked: the size that it was asked for, where the folder has several.

    Raises:
        InputError: there is no such thing, no such run, more than one, one that failed, or one that kept no weights.
    """
    if source.is_dir():
        return _in_folder(source, method, seed, asked)
    if not source.exists():
        raise InputError(f"no such run folder, record or checkpoint: {source}")
    if method is not None or seed is not None or asked is not None:
        raise InputError(f"{source} is one run: a method, a seed and a size choose among those of a run folder")
    if source.suffix == ".json":
        return _weights_of(source.parent.parent, [store.read(source)])
    return source


def _in_folder(folder: Path, method: str | None, seed: int | None, size: Asked | None) -> Path:
    paths = store.record_paths(folder)
    if not paths:
        raise InputError(f"{folder} holds no records: it is no run folder of embpress compare or train")
    runs = [store.read(path) for path in paths]
    asked = [
        run for run in runs if method in (None, run.method) and seed in (None, run.seed) and size in (None, run.asked)
    ]
    if not asked:
        raise InputError(f"{folder} has no such run; it has {listed(_names(runs))}")
    return _weights_of(folder, asked)


def _weights_of(folder: Path, runs: list[Run]) -> Path:
    kept = [run for run in runs if run.ok and checkpoint_path(folder, run).exists()]
    if len(kept) > 1:
        names = listed(_names(kept))
        sizes = ", and by --ratio or --budget" if " --" in names else ""
        raise InputError(f"{folder} keeps the weights of {names}: choose by --method and --seed{sizes}")
    if kept:
        return checkpoint_path(folder, kept[0])
    ended = [run for run in runs if run.ok]
    if not ended:
        what = f"{_names(runs[:1])[0]} in {folder}"
        raise InputError(f"{what} has no model to export, its run did not end: {runs[0].reason or runs[0].status}")
    raise InputError(
        f"{folder} keeps no weights of {listed(_names(ended))}: run its command again with --keep-weights"
        + (f", {ended[0].command} --keep-weights" if ended[0].command else "")
    )


def _names(runs: list[Run]) -> list[str]:
    several = len({run.asked for run in runs if not run.is_full}) > 1
    return list(dict.fromkeys(f"{run.method}{_size(run.asked) if several else ''} seed {run.seed}" for run in runs))


def _size(asked: Asked) -> str:
    if asked.ratio is not None:
        return f" --ratio {asked.ratio:g}"
    return "" if asked.budget is None else f" --budget {asked.budget}"
