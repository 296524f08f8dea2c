"""A signal to end, which launchers send to all processes once one has died, as an error that can be told of."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LATER: list[bool] = []  # of each `told_later` that is going on, whether SIGTERM has come


class Stopped(RuntimeError):
    """SIGTERM has come."""


@contextmanager
def told_later() -> Iterator[None]:
    """Within `told_of_end`: SIGTERM raises `Stopped` when the block ends, not in a `__del__`, where it is lost."""
    _LATER.append(False)
    try:
        yield
    finally:
        if _LATER.pop():
            signal.raise_signal(signal.SIGTERM)


@contextmanager
def told_of_end() -> Iterator[None]:
    """SIGTERM raises `Stopped` once, and from then on does nothing until the block ends.

    A collective that waits for a dead process keeps Python from its handlers, and then fails by itself.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    came = False

    def stop(*_: Any) -> None:
        nonlocal came
        if _LATER:
            _LATER[-1] = True
        elif not came:
            came = True
            raise Stopped("stopped")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is stop:
            signal.signal(signal.SIGTERM, before)


def not_any_more() -> None:
    """Takes no notice of SIGTERM from now on: what this process writes before it ends is written whole."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
