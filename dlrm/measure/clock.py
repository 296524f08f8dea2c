"""How long a call takes on its device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


class Clock:
    """Times calls whose work is done on one device.

    On the CPU a call takes from its start to its return. On CUDA, where a call returns before its work is done, it
    takes from one event on the device's current stream, put there before the call, to another, put there after it:
    from the moment the device is through with what came before until it is through with the call, and what it waits
    for the host in between counts.

    Args:
        device: `cpu`, `cuda` or `cuda:1`.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._cuda = self.device.type == "cuda"

    def start(self, call: Callable[[], T]) -> tuple[T, Callable[[], float]]:
        """Runs a call: its result, and what gives its seconds, after waiting for the device where that is needed.

        A device that has work from before begins with the call once that is done, so calls may follow each other
        without a pause, as the steps of a training do.
        """
        if not self._cuda:
            began = time.perf_counter()
            result = call()
            taken = time.perf_counter() - began
            return result, lambda: taken
        stream = torch.cuda.current_stream(self.device)
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record(stream)
        result = call()
        after.record(stream)

        def seconds() -> float:
            after.synchronize()
            return float(before.elapsed_time(after)) / 1e3  # it is in milliseconds

        return result, seconds

    def seconds(self, call: Callable[[], object]) -> float:
        """Seconds of one call that starts on an idle device, waited for."""
        self.wait()
        return self.start(call)[1]()

    def wait(self) -> None:
        """Returns once the device has done all its work."""
        if self._cuda:
            torch.cuda.synchronize(self.device)
