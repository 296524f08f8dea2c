"""`ray[:ADDRESS][:workers=N]`: tasks of a Ray cluster, or of one on this machine; as many as it has CPUs by default."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from typing import Any

from typing_extensions import Self

from embpress.compressors.errors import InputError, require
from embpress.dlrm.executors.base import MAX_WORKERS, Ended, Executor, Job, Worker, work_here
from embpress.kernels.errors import said_by

_PATIENCE = 10.0  # seconds


class Ray(Executor):
    """One task a worker, with as many CPUs as the worker has threads, and a GPU where it trains on one.

    The tasks ask for nothing but embpress on their machines and the run folder under the same path.
    """

    name = "ray"
    form = "ray or ray:ADDRESS or ray:ADDRESS:workers=8"

    def __init__(self, address: str | None, workers: int | None) -> None:
        self.address, self.workers = address, workers
        self.joined = False  # what somebody else has connected stays connected

    @classmethod
    def of(cls, argument: str) -> Self:
        """The cluster at the address, else that of `RAY_ADDRESS`, else one that is started here.

        Raises:
            InputError: ray is not installed, or the number of workers is none.
        """
        from embpress.compressors.guard import whole

        require("ray", "--executor ray")
        address, _, last = argument.rpartition("workers=")
        if "workers=" not in argument:
            return cls(argument or None, None)
        return cls(address.rstrip(":") or None, whole(last, "--executor ray: workers", 1, MAX_WORKERS))

    def open(self, job: Job) -> int:
        """Joins or starts the cluster."""
        import ray

        if not ray.is_initialized():
            self._knock()
            try:
                ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
            except Exception as error:  # of many kinds, by what fails
                raise self._absent(error) from None
            self.joined = True
        has = ray.cluster_resources()
        room = int(has.get("CPU", 0) // job.threads)
        if job.gpus:
            room = min(room, int(has.get("GPU", 0) // job.gpus))
        if room < 1:
            raise InputError(
                f"--executor ray: a worker needs {job.threads} CPUs and {job.gpus} GPUs, the cluster has "
                f"{has.get('CPU', 0):g} and {has.get('GPU', 0):g}"
            )
        return self.workers or room

    def _knock(self) -> None:
        """Tries the address, since Ray itself tries for minutes."""
        host, colon, port = (self.address or "").rpartition("//")[2].rpartition(":")
        if colon and port.isdecimal():
            try:
                socket.create_connection((host, int(port)), _PATIENCE).close()
            except (OSError, OverflowError) as error:
                raise self._absent(error) from None

    def _absent(self, error: Exception) -> InputError:
        return InputError(f"--executor ray: no cluster at {self.address or 'this machine'}: {said_by(error)}")

    def start(self, job: Job, number: int) -> Worker:
        """A task, which waits in Ray's queue where the cluster is full."""
        import ray

        task = ray.remote(work_here).options(
            num_cpus=job.threads, num_gpus=job.gpus, max_retries=0, name=f"embpress worker {number}"
        )
        return Task(task.remote(job, number))

    def close(self) -> None:
        """Leaves the cluster; one that was started here ends."""
        import ray

        if self.joined:
            ray.shutdown()


class Task(Worker):
    """A worker that is a Ray task."""

    def __init__(self, reference: Any) -> None:
        self.reference = reference

    def ended(self) -> Ended | None:
        """What the task gave; a task that was lost with its machine ended badly."""
        import ray

        ready, _ = ray.wait([self.reference], timeout=0)
        if not ready:
            return None
        try:
            return Ended(*ray.get(self.reference))
        except Exception as error:  # its machine or its process has gone
            return Ended(-1, said_by(error))

    def stop(self) -> None:
        """Ends the task's process; the worker sees that and ends too."""
        import ray

        with suppress(Exception):  # it has ended already, or the cluster has gone
            ray.cancel(self.reference, force=True)
