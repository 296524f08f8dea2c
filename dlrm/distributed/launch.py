"""Processes of this machine that do one thing together, started by torch's elastic launcher as torchrun does."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def launch(words: Sequence[str], processes: int, environment: Mapping[str, str]) -> tuple[int, str]:
    """Starts a Python program so many times and waits until all have ended; where one fails the others are ended.

    Args:
        words: what follows the interpreter.
        environment: variables that they get besides.

    Returns:
        The exit status, and where a process was ended by a signal which and by what; "" otherwise, when it has said
        itself what was wrong.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    with _quiet(), _variables(environment):
        try:
            elastic_launch(config, sys.executable)(*words)
        except ChildFailedError as error:
            return _status(error.failures)
        except SignalException as stop:
            return 128 + stop.sigval.value, ""
    return 0, ""


def _status(failures: Mapping[int, ProcessFailure]) -> tuple[int, str]:
    """That of the first process that failed; those that were ended after it are no cause."""
    rank, first = min(failures.items(), key=lambda item: item[1].timestamp)
    if first.exitcode > 0:
        return first.exitcode, ""
    return 1, f"the process of rank {rank} (process {first.pid}) was ended by {first.signal_name()}"


@contextmanager
def _quiet() -> Iterator[None]:
    """The launcher's log is for those who call it by name; what went wrong is said in a sentence here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # its loggers have levels of their own
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _variables(environment: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
