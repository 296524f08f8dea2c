"""Paired timing: things timed in turn within one run, so that a slow moment of the machine meets them all."""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch

from embpress.dlrm.measure.clock import Clock

Call = Callable[[int], object]  # gets a running number, to vary its input
GEMM = 2048
MIN_REPEATS, _MAX_REPEATS, _WARM_UP = 5, 1000, 2
PAIRED = "paired repeats"


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
    """Seconds a call, one tuple a repeat, in the order of the calls."""

    repeats: list[tuple[float, ...]]

    def of(self, which: int) -> Quartiles:
        """Seconds of one of the calls."""
        return quartiles([times[which] for times in self.repeats])

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


@dataclass(frozen=True)
class Timed:
    """Seconds of each call in each repeat, and how they were taken; `reason` says why in no better way."""

    times: Times
    how: str
    reason: str = ""


class Timer(Protocol):
    """How the calls of a case are timed."""

    def stream(self) -> AbstractContextManager[None]:
        """What a case makes and calls is made and called inside."""

    def measure(self, calls: Sequence[Call]) -> Timed:
        """Times of the calls, taken in turn and all in the same way."""


class Paired:
    """Paired repeats by a device's clock, the host's share included.

    Args:
        device: that the calls work on.
        seconds, min_repeats, block: as in `paired`.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        seconds: float = 3.0,
        min_repeats: int = MIN_REPEATS,
        block: float = 0.01,
    ) -> None:
        self.clock, self.seconds, self.min_repeats, self.block = Clock(device), seconds, min_repeats, block

    def stream(self) -> AbstractContextManager[None]:
        """Nothing: the device's current stream will do."""
        return nullcontext()

    def measure(self, calls: Sequence[Call]) -> Timed:
        """Times of the calls, paired."""
        return Timed(paired(calls, self.seconds, self.clock, min_repeats=self.min_repeats, block=self.block), PAIRED)


def paired(
    calls: Sequence[Call], seconds: float, clock: Clock, *, min_repeats: int = MIN_REPEATS, block: float = 0.01
) -> Times:
    """Times calls in turn: each repeat times every one of them, in an order that turns from repeat to repeat.

    Args:
        calls: what to time.
        seconds: repeats go on until this much time is spent, warm-up not counted.
        clock: of the device that the calls work on.
        min_repeats: repeats at least.
        block: a call shorter than this many seconds is timed as a block of several in a row, and counts as their mean.
    """

    def block_of(call: Call) -> Callable[[], float]:
        for i in range(_WARM_UP):
            call(i)
        count = max(1, math.ceil(block / max(seconds_of(call, clock), 1e-7)))
        starts = itertools.count(0, count)
        return lambda: seconds_of(call, clock, next(starts), count)

    with _no_collector():
        blocks = [block_of(call) for call in calls]
        end = time.perf_counter() + seconds
        return in_turn(blocks, lambda done: done < min_repeats or (time.perf_counter() < end and done < _MAX_REPEATS))


def in_turn(blocks: Sequence[Callable[[], float]], go_on: Callable[[int], bool]) -> Times:
    """Repeats while `go_on(repeats so far)`, each of all blocks, which give seconds; the one that begins changes."""
    repeats: list[tuple[float, ...]] = []
    while go_on(len(repeats)):
        times = [0.0] * len(blocks)
        for k in range(len(blocks)):
            which = (k + len(repeats)) % len(blocks)
            times[which] = blocks[which]()
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
