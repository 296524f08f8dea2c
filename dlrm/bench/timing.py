"""Paired timing: things timed in turn within one run, so that a slow moment of the machine meets them all."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from embpress.dlrm.measure.clock import Clock

Call = Callable[[int], object]  # gets a running number, to vary its input
GEMM = 2048
LEAST, _MOST, _WARM_UP = 5, 1000, 2


@dataclass(frozen=True)
class Quartiles:
    """Median and quartiles of the repeats."""

    low: float
    median: float
    high: float


def quartiles(values: Sequence[float]) -> Quartiles:
    """Median and quartiles, by linear interpolation."""
    at = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    return Quartiles(*torch.tensor(values, dtype=torch.float64).quantile(at).tolist())


class Gemm:
    """A square matrix product, whose speed stands for the peak of this machine at this moment.

    Attributes:
        flops: floating point operations of one call, `2 · size³`.
    """

    def __init__(
        self, size: int = GEMM, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        self.flops = 2 * size**3
        self._a, self._b = (torch.rand(size, size, dtype=dtype).to(device) for _ in range(2))

    def __call__(self, _: int = 0) -> object:
        """The product."""
        return torch.mm(self._a, self._b)


@dataclass(frozen=True)
class Times:
    """Seconds a call, one tuple a repeat, in the order of the calls given to `paired`."""

    repeats: list[tuple[float, ...]]

    def median(self, which: int) -> float:
        """Median seconds of one of the calls."""
        return quartiles([times[which] for times in self.repeats]).median

    def ratio(self, above: int, below: int, scale: float = 1.0) -> Quartiles:
        """`scale · seconds of above / seconds of below`, taken in each repeat by itself."""
        return quartiles([scale * times[above] / times[below] for times in self.repeats])

    def difference(self, of: int, minus: int) -> Quartiles:
        """Seconds of one call minus those of another, taken in each repeat by itself."""
        return quartiles([times[of] - times[minus] for times in self.repeats])


def seconds_of(call: Call, clock: Clock, start: int = 0, count: int = 1) -> float:
    """Mean seconds of `count` calls in a row, on the clock's device."""

    def block() -> None:
        for i in range(start, start + count):
            call(i)

    return clock.seconds(block) / count


def paired(calls: Sequence[Call], seconds: float, clock: Clock, *, least: int = LEAST, block: float = 0.01) -> Times:
    """Times calls in turn: each repeat times every one of them, in an order that turns from repeat to repeat.

    Args:
        calls: what to time.
        seconds: repeats go on until this much time is spent, warm-up not counted.
        clock: of the device that the calls work on.
        least: repeats at least.
        block: a call shorter than this many seconds is timed as a block of several in a row, and counts as their mean.
    """
    with _no_collector():
        counts = []
        for call in calls:
            for i in range(_WARM_UP):
                call(i)
            counts.append(max(1, math.ceil(block / max(seconds_of(call, clock), 1e-7))))
        repeats: list[tuple[float, ...]] = []
        done = [0] * len(calls)
        end = time.perf_counter() + seconds
        while len(repeats) < least or (time.perf_counter() < end and len(repeats) < _MOST):
            times = [0.0] * len(calls)
            for k in range(len(calls)):
                which = (k + len(repeats)) % len(calls)
                times[which] = seconds_of(calls[which], clock, done[which], counts[which])
                done[which] += counts[which]
            repeats.append(tuple(times))
    return Times(repeats)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Garbage collection before the timing instead of somewhere in it."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
