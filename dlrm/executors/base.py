"""`Executor`: where the workers of a comparison run; `Job` is what each does, `Worker` one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from typing_extensions import Self

MAX_WORKERS = 10_000


@dataclass(frozen=True)
class Job:
    """What a worker does: a Python program that makes runs of a folder until none is left.

    Attributes:
        words: what follows the interpreter, such as `-m module option …`.
        directory: where it is started; a folder that all machines see.
        logs: folder for what workers print.
        threads: of a worker.
        gpus: of a worker, 0 or 1.
        environment: variables that it needs.
    """

    words: tuple[str, ...]
    directory: Path
    logs: Path
    threads: int = 1
    gpus: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


class Ended(NamedTuple):
    """How a worker ended: its exit status, as `subprocess` has it, and the last that it said."""

    status: int
    said: str


class Worker:
    """One worker that has been started."""

    def ended(self) -> Ended | None:
        """How it ended; None while it works, or waits for its turn."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ends it; it may have ended already."""
        raise NotImplementedError


class Executor:
    """A place for workers; a subclass is found by its `name`.

    Class attributes:
        name: as written in `--executor`.
        form: how it is written, for messages.
    """

    name: ClassVar[str]
    form: ClassVar[str]

    @classmethod
    def of(cls, argument: str) -> Self:
        """The executor with what stands after its name; InputError where that is wrong, or a package is missing."""
        raise NotImplementedError

    @property
    def threads(self) -> int:
        """The threads of a worker where nobody says how many."""
        return 1

    def open(self, job: Job) -> int:
        """Makes ready, and says how many workers there may be at once.

        Raises:
            InputError: it cannot be reached, or has no room.
        """
        raise NotImplementedError

    def start(self, job: Job, number: int) -> Worker:
        """Starts a worker; `number` tells it from all others of the command.

        Raises:
            InputError: it cannot be started.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Called at the end, once all workers are stopped."""


def work_here(job: Job, number: int) -> tuple[int, str]:
    """Does the job in a process of its own, on this machine: exit status and the last that it said.

    Executors of many machines call it there, so that what they run in their own processes does not matter.
    """
    log = log_of(job, number)
    status = process(job, log).wait()
    return status, last_said(log) or f"exit status {status}"


def process(job: Job, log: Path) -> subprocess.Popen[bytes]:
    """The job as a process of this machine, what it prints in `log`; apart from the terminal's Ctrl-C."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, *job.words],
            cwd=job.directory,
            env={**os.environ, **job.environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def log_of(job: Job, number: int) -> Path:
    """The file of what a worker prints."""
    return job.logs / f"worker-{number}.log"


def last_said(log: Path) -> str:
    """The last line of a log that is not blank; empty where there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
