"""A signal to end, which launchers send to all processes once one has died, as an error that can be told of."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
        if not self.held:
            raise Stopped("stopped")


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
