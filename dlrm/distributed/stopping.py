"""A signal to end, which launchers send to all processes once one has died, as an error that can be told of."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LATER: list[bool] = []  # of each `told_later` that is going on, whether SIGTERM has come


class Stopped(KeyboardInterrupt):
    """SIGTERM has come: it ends a command as Ctrl-C does, and is no error of what it interrupts."""


class End:
    """What is done with SIGTERM.

    Attributes:
        came: whether it has come. Where it came in a callback Python may have made another error of it, or none.
        held: whether it is told of by `came` alone.
    """

    def __init__(self) -> None:
        self.came = self.held = False

    def __call__(self, *_: Any) -> None:
        """Handles the signal."""
        self.came = True
        if _LATER:
            _LATER[-1] = True
        elif not self.held:
            raise Stopped("stopped")


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
def told_of_end() -> Iterator[End]:
    """SIGTERM raises `Stopped` within the block, each time that it comes and is not held: one may get lost.

    A collective that waits for a dead process keeps Python from its handlers, and then fails by itself.
    """
    end = End()
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield end
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield end
    finally:
        if signal.getsignal(signal.SIGTERM) is end:
            signal.signal(signal.SIGTERM, before)


def not_any_more() -> None:
    """Takes no notice of SIGTERM from now on: what this process writes before it ends is written whole."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
