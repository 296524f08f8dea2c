"""`local[:N]`: N worker processes on this machine, one a core by default."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from typing_extensions import Self

from embpress.dlrm.executors.base import MAX_WORKERS, Ended, Executor, Job, Worker, last_said, log_of, process

_PATIENCE = 10.0  # seconds that a worker has to give its run back


class Local(Executor):
    """Processes of this machine. With GPUs each worker sees one of them, in turn."""

    name = "local"
    form = "local or local:4"

    def __init__(self, workers: int) -> None:
        self.workers = workers

    @classmethod
    def of(cls, argument: str) -> Self:
        """So many workers as are given, else as many as there are cores."""
        from embpress.compressors.guard import whole

        return cls(whole(argument, "--executor local: workers", 1, MAX_WORKERS) if argument else cores())

    @property
    def threads(self) -> int:
        """The cores of the machine, divided among the workers."""
        return max(1, cores() // self.workers)

    def open(self, job: Job) -> int:
        """As many as were asked for."""
        return self.workers

    def start(self, job: Job, number: int) -> Worker:
        """A process in a session of its own, so that Ctrl-C comes to the command, which stops it."""
        if job.gpus:
            job = replace(job, environment={**job.environment, "CUDA_VISIBLE_DEVICES": gpu(number)})
        log = log_of(job, number)
        return Process(process(job, log), log)


class Process(Worker):
    """A worker of this machine."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log

    def ended(self) -> Ended | None:
        """How the process ended."""
        status = self.process.poll()
        return None if status is None else Ended(status, last_said(self.log) or f"exit status {status}")

    def stop(self) -> None:
        """Asks it to end, and makes it where it does not."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def gpu(number: int) -> str:
    """The GPU of a worker, as `CUDA_VISIBLE_DEVICES` names it: those that this process sees, in turn."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = [each for each in named.split(",") if each] if named else [str(i) for i in range(torch.cuda.device_count())]
    return seen[number % len(seen)] if seen else ""
