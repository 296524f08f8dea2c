"""A command that lets workers make its runs: it starts them, sees that they live, and takes no run itself."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from embpress.compressors import InputError
from embpress.dlrm.executors.base import Ended, Executor, Job, Worker
from embpress.dlrm.runs.claims import Claim, Claims, Session
from embpress.dlrm.runs.partial import newest

_REFUSED = 2  # the exit status of a mistake that the user has to put right
_QUIET = 50  # looks without anything new after which workers that all ended well are not believed
_GRACE = 5.0  # seconds that workers have to end by themselves once all is done
_PASSED = ("PYTHONPATH", "OMP_NUM_THREADS")  # variables that workers on other machines get too, with all of `EMBPRESS_`


class Watch(Claims):
    """Claims that take nothing; used in a `with`, at whose end no worker is left.

    Workers are started once there is something to wait for. One that dies is replaced, as long as runs are finished, or
    kept further in the middle, between deaths; one that finds a mistake of the user's, such as a file that its machine
    lacks, is not.

    Args:
        folder: run folder.
        executor: where workers run.
        job: makes the job of a worker from its session and the folder of its log.
        progress: told how many of how many runs are done, and what is being made.
    """

    def __init__(
        self,
        folder: Path,
        executor: Executor,
        job: Callable[[Session, Path], Job],
        progress: Callable[[int, int, str], Any] | None = None,
    ) -> None:
        super().__init__(folder)
        self.executor, self.job_of, self.progress = executor, job, progress
        self.logs = folder / "workers"
        self.job: Job | None = None
        self.workers: list[Worker] = []
        self.started = self.room = self.deaths = self.refused = self.quiet = 0
        self.ends_well, self.said = False, ""
        self.last: tuple[int, int, int] = (-1, -1, -1)
        self.shown: tuple[int, int, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        until = time.monotonic() + (_GRACE if kind is None else 0)
        while time.monotonic() < until and any(worker.ended() is None for worker in self.workers):
            time.sleep(self.pause)  # all is done, and they are about to see that
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda worker: worker.stop(), self.workers))
        if self.job is not None:
            self.executor.close()
        self.tidy()
        if kind is None:  # what workers said is of no use any more
            shutil.rmtree(self.logs, ignore_errors=True)

    def take(self, run: str, title: str) -> Claim | None:
        """None: workers make all runs."""
        return None

    def wait(self, done: int = 0, total: int = 0) -> None:
        """Sees after the workers, tells how far they are, and waits a little.

        Raises:
            InputError: no worker can do its work; says why.
        """
        come = (done, total, newest(self.folder, self.folder / "trials"))
        if come != self.last:
            self.last, self.deaths, self.quiet = come, 0, 0
        if self.job is None:
            job = self.job_of(Session(self.name, self.began, self.expected), self.logs)
            self.room = self.executor.open(job)
            self.job = job
        self._see_after(self.job, total - done)
        now = (done, total, " | ".join(self.titles()) or "workers start")
        if self.progress is not None and now != self.shown:
            self.progress(*now)
        self.shown = now
        super().wait(done, total)

    def _see_after(self, job: Job, left: int) -> None:
        """Takes note of workers that ended, and starts what is missing for the runs that are left."""
        for worker, how in [(worker, how) for worker in self.workers if (how := worker.ended()) is not None]:
            self.workers.remove(worker)
            self._note(how)
        if self.ends_well:  # it saw all runs done, and so will this process
            self.quiet += not self.workers
            if self.quiet < _QUIET:
                return
            self.ends_well, self.quiet = False, 0
            self.deaths += 1
            self.said = "workers end, and runs are not done"
        missing = min(self.room - self.refused, left) - len(self.workers)
        if self.deaths > self.fatal * (self.room + 1):  # those that work go on, and what they finish gives hope
            missing = 0
        for _ in range(missing):
            self.workers.append(self.executor.start(job, self.started))
            self.started += 1
        if not self.workers:
            raise InputError(f"workers cannot go on, the last one ended with: {self.said} (see {self.logs})")

    def _note(self, how: Ended) -> None:
        if how.status == 0:
            self.ends_well = True
            return
        self.said = how.said
        if how.status == _REFUSED:  # nothing that another try would mend
            self.refused += 1
        else:
            self.deaths += 1


def passed_on() -> dict[str, str]:
    """The variables of this process that workers on other machines need."""
    return {name: text for name, text in os.environ.items() if name in _PASSED or name.startswith("EMBPRESS_")}
