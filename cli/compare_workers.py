"""`embpress compare --executor`: the same command once more in workers, which make the runs."""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embpress.dlrm.executors import forms

if TYPE_CHECKING:
    from embpress.dlrm.executors import Executor
    from embpress.dlrm.executors.base import Job
    from embpress.dlrm.runs.claims import Claims, Session
    from embpress.dlrm.training.settings import Settings

_LOOK = 1.0  # seconds between two looks at whether the parent process lives

EXECUTOR = click.option(
    "--executor",
    metavar="WHERE",
    help="Make the runs by several workers, of --threads each: "
    + " ".join(f"{form}: {about}." for form, about in forms().items()),
)
WORKER = click.option("--worker", hidden=True, help="The session for which this process makes runs.")


class Workers:
    """What `--executor` and `--worker` say; neither is a command that makes its runs itself.

    Attributes:
        executor: where workers run; None where this process makes runs.
        session: for which command it does; None for its own.
        parent: the process that started this one, asked early: it may end while data are read.
    """

    def __init__(self, executor: Executor | None = None, session: Session | None = None) -> None:
        self.executor, self.session, self.parent = executor, session, os.getppid()

    @classmethod
    def of(cls, executor: str | None, worker: str | None, options: dict[str, Any]) -> Workers:
        """From the options; those of all commands get the threads of a worker, where nobody says how many.

        Raises:
            InputError: no such executor, or one that cannot be used here.
        """
        if worker is not None:
            from embpress.dlrm.runs.claims import Session

            return cls(session=Session.parse(worker))
        if executor is None:
            return cls()
        from embpress.dlrm.executors import parse

        found = parse(executor)
        if options["threads"] is None:
            options["threads"] = found.threads
        return cls(found)

    def claims(self, folder: Path, settings: Settings, progress: Any = None) -> AbstractContextManager[Claims]:
        """What this process takes of the runs of a folder; at its end no worker is left."""
        from embpress.dlrm.runs.claims import Claims
        from embpress.dlrm.runs.watch import Watch

        if self.executor is None:
            return nullcontext(Claims(folder, self.session))
        words = list(click.get_current_context().obj)

        def job(session: Session, logs: Path) -> Job:
            return job_of(words, folder, settings, session, logs)

        return Watch(folder, self.executor, job, progress)


def job_of(words: Iterable[str], folder: Path, settings: Settings, session: Session, logs: Path) -> Job:
    """The command with these words as a worker's: what is said twice counts as said last, before what follows `--`."""
    from embpress.dlrm.executors.base import Job
    from embpress.dlrm.runs.watch import passed_on

    said = list(words)
    end = said.index("--") if "--" in said else len(said)
    own = ("--worker", str(session), "--out", str(folder.absolute()), "--threads", str(settings.threads))
    return Job(
        words=("-m", "embpress.cli.main", *said[:end], *own, *said[end:]),
        directory=Path.cwd(),
        logs=logs.absolute(),
        threads=settings.threads,
        gpus=int(settings.device == "cuda"),
        environment=passed_on(),
    )


def work(steps: Callable[[], Iterable[Any]], parent: int) -> None:
    """Makes runs as a worker does: silently, and no longer than the process lives that started it."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt("stopped: its run is given back")

    signal.signal(signal.SIGTERM, interrupt)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        return
    for _ in steps():
        pass


def _end_with(parent: int) -> None:
    """Interrupts this process once its parent is another: the one that started it has gone."""
    waiting = threading.Event()
    while not waiting.wait(_LOOK):
        if os.getppid() != parent:
            _thread.interrupt_main()
            return
