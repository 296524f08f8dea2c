"""Runs in the middle: what a run that is killed goes on from, in one file that is there while it is trained."""

from __future__ import annotations

import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch

from embpress.compressors import InputError
from embpress.dlrm.runs.checkpoint import written
from embpress.dlrm.runs.claims import Claim
from embpress.dlrm.runs.record import Run
from embpress.dlrm.runs.store import write_atomic
from embpress.dlrm.training.state import CannotResume
from embpress.kernels.errors import said_by

SCHEMA = "embpress-partial/1"
_VERSIONS = ("embpress", "torch")  # of which another may compute something else
T = TypeVar("T")


class PartialWarning(UserWarning):
    """A run that cannot be kept in the middle, or cannot be taken up again; it is made all the same."""


class Partial:
    """What is kept of one run while it is trained: see `training.course.Saved`.

    A file that is damaged, or that another run or version has written, is left aside, and a warning says so. One that
    cannot be written is a warning too: the one before it stays.

    Args:
        path: of the file.
        minutes: by the clock, from one time to the next; 0 keeps nothing, and takes up nothing.
        claim: of the run; without it nobody else makes it.
    """

    def __init__(self, path: Path, minutes: float, claim: Claim | None = None) -> None:
        self.path, self.minutes, self.claim = path, minutes, claim
        self.of: dict[str, Any] = {}
        self._last = time.monotonic()

    def begin(self, about: Run, **more: Any) -> None:
        """Says what is trained: nothing else is taken up. `more` are plain values that have to agree as well."""
        versions = {name: str(about.environment.get(name)) for name in _VERSIONS}
        self.of = {"run": about.id, "data": about.data.fingerprint, **versions, **more}

    def tried(self, work: Callable[[], T]) -> T:
        """Does the work of the run; from the beginning where what was kept does not fit after all."""
        try:
            return work()
        except CannotResume as error:
            self._leave(f"does not fit ({error})")
            self.path.unlink(missing_ok=True)
        return work()  # not while the error holds the model that was built before

    def due(self) -> bool:
        """See `Saved.due`."""
        return self.minutes > 0 and time.monotonic() - self._last >= 60 * self.minutes

    def save(self, state: dict[str, Any]) -> None:
        """See `Saved.save`."""
        if self.claim is None or self.claim.stands:
            value = {"schema": SCHEMA, "of": self.of, "state": state}
            try:
                write_atomic(self.path, lambda file: written(torch.save, value, file))
            except Exception as error:  # whatever a model of the user's holds: it costs a checkpoint, never the run
                self._warn(f"{_first_line(error)}: the run goes on, and from an earlier step if it is interrupted")
            else:
                if self.claim is not None:
                    self.claim.progressed()
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """See `Saved.load`."""
        self._last = time.monotonic()
        if self.minutes <= 0 or not self.path.exists():
            return None
        try:
            with zipfile.ZipFile(self.path) as file:
                if file.testzip() is not None:  # by checksums, which torch does not look at
                    raise ValueError("its checksums do not agree")
            value = torch.load(self.path, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception:  # whatever is made of the bytes
            return self._leave("is damaged")
        if not isinstance(value, Mapping) or value.get("schema") != SCHEMA:
            return self._leave("is no checkpoint of this version")
        found = value["of"]
        differing = [name for name in {**self.of, **found} if found.get(name) != self.of.get(name)]
        if differing:
            name = differing[0]
            return self._leave(f"is of another {name}: {found.get(name)} instead of {self.of.get(name)}")
        state: dict[str, Any] = value["state"]
        return state

    def remove(self) -> None:
        """Takes the file away."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _leave(self, why: str) -> dict[str, Any] | None:
        """None, having said why."""
        self._warn(f"{self.path} {why}: the run starts anew")
        return None

    def _warn(self, text: str) -> None:
        warnings.warn(text, PartialWarning, stacklevel=2)


def partial_of(folder: Path, run: str, minutes: float, claim: Claim | None = None) -> Partial:
    """That of a run, by its id, in a run folder or in its `trials/`."""
    return Partial(folder / "partial" / f"{run}.pt", minutes, claim)


def newest(*folders: Path) -> int:
    """When a run of these folders was last kept in the middle, nanoseconds; 0 where none is."""
    found = 0
    for folder in folders:
        with suppress(OSError):  # files and folder come and go
            for path in (folder / "partial").iterdir():
                found = max(found, path.stat().st_mtime_ns)
    return found


def tidy(folder: Path) -> None:
    """Takes the folder of runs in the middle away, where none is in it."""
    with suppress(OSError):
        (folder / "partial").rmdir()


def check_minutes(minutes: float) -> float:
    """Minutes between two checkpoints.

    Raises:
        InputError: no number, or one below 0.
    """
    if isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or not 0 <= minutes < float("inf"):
        raise InputError(f"minutes between checkpoints are a number from 0 (none), got {minutes}")
    return float(minutes)


def _first_line(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    return f"no checkpoint can be written ({said_by(error)})"
