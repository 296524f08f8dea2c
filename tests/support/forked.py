"""An executor whose workers are forks of this process: nothing is imported or read once more, and patches hold."""

import multiprocessing
import os
import signal
from pathlib import Path

from embpress.dlrm.executors.base import Ended, Executor, Job, Worker
from embpress.dlrm.runs.claims import Claims
from embpress.dlrm.runs.watch import Watch

FORK = multiprocessing.get_context("fork")


class Forked(Executor):
    """`steps(claims)` is what a worker goes through."""

    def __init__(self, steps, workers=2):
        self.steps, self.workers = steps, workers
        self.closed = False

    def open(self, job):
        return self.workers

    def start(self, job, number):
        return Fork(self.steps, job)

    def close(self):
        self.closed = True


class Fork(Worker):
    def __init__(self, steps, job):
        self.process = FORK.Process(target=self.work, args=(steps, *job.words), daemon=True)
        self.process.start()

    @staticmethod
    def work(steps, folder, session):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            for _ in steps(Claims(Path(folder), session)):
                pass
        except Exception as error:
            Path(folder, "said").write_text(str(error))
            os._exit(2)

    def ended(self):
        status = self.process.exitcode
        return None if status is None else Ended(status, f"status {status}")

    def stop(self):
        self.process.terminate()
        self.process.join()


def watched(folder, steps, workers=2, progress=None):
    """The claims of a command whose runs are made by forks."""

    def job(session, logs):
        return Job((folder, session), folder, logs)

    return Watch(folder, Forked(steps, workers), job, progress)
