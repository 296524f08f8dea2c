"""The runs that a folder holds: those of before, and those that come while others write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from embpress.dlrm.runs import store
from embpress.dlrm.runs.claims import Claims
from embpress.dlrm.runs.record import Run


class Shelf:
    """The runs of a folder by id, read again where their files are new.

    Args:
        folder: of which `records/` are the runs.
        claims: says what is new.
        stands: whether a run need not be made again.

    Raises:
        InputError: a damaged record.
    """

    def __init__(self, folder: Path, claims: Claims, stands: Callable[[Run], bool] = lambda done: done.ok) -> None:
        self.folder, self.claims, self.stands = folder, claims, stands
        self.runs, self._paths = held(folder)
        self._stamps: dict[str, int] = {}

    def look(self, run: str) -> Run | None:
        """The record of a run, made before or meanwhile; None where there is none."""
        path = self._path(run)
        with suppress(FileNotFoundError):
            stamp = path.stat().st_mtime_ns
            if stamp >= self.claims.began and self._stamps.get(run) != stamp:
                self.runs[run] = store.read(path)
                self._stamps[run] = stamp
        return self.runs.get(run)

    def settled(self, run: str) -> Run | None:
        """The record of a run that need not be made; None where it has to be.

        One that failed since the session began, by whichever worker, is not made a second time.
        """
        done = self.look(run)
        return done if done is not None and (self.stands(done) or (self.is_new(run) and not done.ok)) else None

    def is_new(self, run: str) -> bool:
        """Whether a run was made since the session began."""
        return self.claims.is_new(self._path(run))

    def put(self, run: Run, predictions: np.ndarray | None) -> None:
        """Saves a run and takes away other files of it."""
        written = store.save(self.folder, run, predictions)
        for path in self._paths.pop(run.id, []):
            if path != written:
                path.unlink(missing_ok=True)
        self.runs[run.id] = run

    def _path(self, run: str) -> Path:
        return self.folder / "records" / f"{run}.json"


def held(folder: Path) -> tuple[dict[str, Run], dict[str, list[Path]]]:
    """The runs that a folder holds, by id, one that ended well before one that did not, and the files of each."""
    runs: dict[str, Run] = {}
    paths: dict[str, list[Path]] = {}  # a record of an earlier version has another file name
    for path in store.record_paths(folder):
        kept = store.read(path)
        paths.setdefault(kept.id, []).append(path)
        if kept.ok or kept.id not in runs:
            runs[kept.id] = kept
    return runs, paths


def measured_before(about: Run, runs: Iterable[Run]) -> Run | None:
    """Another seed of the same method, on the same machine with the same software, that measured its latency."""
    return next(
        (
            other
            for other in runs
            if other.ok
            and other.latency_of_seed == other.seed
            and other.without_seed == about.without_seed
            and other.environment == about.environment
        ),
        None,
    )
