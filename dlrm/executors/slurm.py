"""`slurm[:KEY=VALUE…]`: jobs of a Slurm cluster by submitit, such as slurm:workers=8:partition=long:timeout_min=600."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import Any

from typing_extensions import Self

from embpress.compressors.errors import InputError, require
from embpress.dlrm.executors.base import MAX_WORKERS, Ended, Executor, Job, Worker, work_here
from embpress.kernels.errors import said_by

_WORKERS = 4
_WHOLE = ("timeout_min", "gpus_per_node", "cpus_per_task", "nodes")  # what submitit wants as numbers


class Slurm(Executor):
    """One job a worker. `workers` (4) says how many, `cluster=local` has submitit run them on this machine.

    All else is submitit's: `timeout_min`, `mem_gb`, `nodes`, `gpus_per_node`, `cpus_per_task`; other names are options
    of sbatch, such as `partition`, `account` or `constraint`.
    """

    name = "slurm"
    form = "slurm or slurm:workers=8:partition=long:timeout_min=600"

    def __init__(self, workers: int, cluster: str | None, options: dict[str, Any]) -> None:
        self.workers, self.cluster, self.options = workers, cluster, options

    @classmethod
    def of(cls, argument: str) -> Self:
        """Options as they are written.

        Raises:
            InputError: submitit is not installed, there is no sbatch here, or an option is written otherwise.
        """
        from embpress.compressors.guard import shown, whole

        require("submitit", "--executor slurm")
        options: dict[str, Any] = {}
        for part in argument.split(":") if argument else ():
            key, equals, value = part.partition("=")
            if not equals or not key.isidentifier() or not value:
                raise InputError(f"--executor slurm is written {cls.form}, got {shown(part)}")
            options[key] = value
        workers = whole(options.pop("workers", _WORKERS), "--executor slurm: workers", 1, MAX_WORKERS)
        cluster = options.pop("cluster", None)
        if cluster is None and shutil.which("sbatch") is None:
            raise InputError("--executor slurm needs the command sbatch, which is not found here: start it where it is")
        for key in _WHOLE:
            if key in options:
                options[key] = whole(options[key], f"--executor slurm: {key}", 0, 2**31 - 1)
        if "mem_gb" in options:
            options["mem_gb"] = _number(options["mem_gb"])
        return cls(workers, cluster, options)

    def open(self, job: Job) -> int:
        """Tells submitit what a job is."""
        import submitit

        own = ("mem_gb", *_WHOLE)
        given = {key if key in own else f"slurm_{key}": value for key, value in self.options.items()}
        asked: dict[str, Any] = {"name": "embpress", "timeout_min": 24 * 60, "cpus_per_task": job.threads}
        if job.gpus:
            asked["gpus_per_node"] = job.gpus
        try:
            self.submitter = submitit.AutoExecutor(job.logs, cluster=self.cluster or "slurm")
            self.submitter.update_parameters(**{**asked, **given})
        except Exception as error:  # of many kinds, by what it does not take
            raise InputError(f"--executor slurm: {said_by(error)}") from None
        return self.workers

    def start(self, job: Job, number: int) -> Worker:
        """A job in the queue."""
        try:
            return Submitted(self.submitter.submit(work_here, job, number))
        except Exception as error:  # what sbatch refuses
            raise InputError(f"--executor slurm: {said_by(error)}") from None


class Submitted(Worker):
    """A worker that is a job of a cluster."""

    def __init__(self, job: Any) -> None:
        self.job = job

    def ended(self) -> Ended | None:
        """What the job gave; one that was cancelled, or ran out of its time, ended badly."""
        if not self.job.done():
            return None
        try:
            return Ended(*self.job.result())
        except Exception as error:  # the job's own, or none of it came
            return Ended(-1, said_by(error))

    def stop(self) -> None:
        """Cancels the job."""
        with suppress(Exception):  # it has ended already
            self.job.cancel()


def _number(text: str) -> float:
    from embpress.compressors.guard import shown

    try:
        return float(text)
    except ValueError:
        raise InputError(f"--executor slurm: mem_gb is a number of gigabytes, got {shown(text)}") from None
