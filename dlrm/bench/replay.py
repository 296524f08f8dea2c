"""Times of calls on a GPU without the host's share: captured in a CUDA graph and replayed; on the CPU by its clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from embpress.dlrm.bench.timing import Call, Times

GRAPH, EVENTS, HOST = "graph replay", "events", "host clock"
_WARM_UP, _MOST_A_BLOCK = 3, 32
Block = Callable[[], None]


@dataclass(frozen=True)
class Timed:
    """Seconds of each call in each repeat, and how they were taken; `reason` says why not by replay on a GPU."""

    times: Times
    how: str
    reason: str = ""


class Timer:
    """Times calls in turn on one device.

    Args:
        device: `cpu` or a CUDA device.
        repeats: measurements of each call.
        block: seconds of work that one measurement should hold: so many calls in a row, 1 to 32, count as their mean.
    """

    def __init__(self, device: torch.device | str, repeats: int = 30, block: float = 2e-3) -> None:
        self.device, self.repeats, self.block = torch.device(device), repeats, block
        self._cuda = self.device.type == "cuda"
        self._stream = torch.cuda.Stream(self.device) if self._cuda else None

    @contextmanager
    def stream(self) -> Iterator[None]:
        """What is made and called inside is on the stream that graphs are captured on, as a backward must be."""
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream(self.device).wait_stream(self._stream)

    def measure(self, calls: Sequence[Call]) -> Timed:
        """Times of the calls, all taken in the same way: where one of them cannot be captured, none is.

        A captured block runs its calls with the numbers 0, 1, … each time, so that their inputs vary within it.
        """
        counts = [self._count(call) for call in calls]
        if not self._cuda:
            blocks = [_in_a_row(call, count) for call, count in zip(calls, counts)]
            return Timed(self._in_turn(blocks, counts, _host_seconds), HOST)
        try:
            blocks = [self._captured(_in_a_row(call, count)) for call, count in zip(calls, counts)]
        except RuntimeError as error:
            torch.cuda.synchronize(self.device)
            blocks = [_in_a_row(call, count) for call, count in zip(calls, counts)]
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return Timed(self._in_turn(blocks, counts, self._event_seconds), EVENTS, f"not captured: {reason}")
        return Timed(self._in_turn(blocks, counts, self._event_seconds), GRAPH)

    def _count(self, call: Call) -> int:
        for i in range(_WARM_UP):
            call(i)
        self._wait()
        began = time.perf_counter()
        call(_WARM_UP)
        self._wait()
        return max(1, min(_MOST_A_BLOCK, math.ceil(self.block / max(time.perf_counter() - began, 1e-7))))

    def _captured(self, block: Block) -> Block:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            block()
        graph.replay()  # the first one uploads it
        self._wait()
        return graph.replay

    def _in_turn(self, blocks: Sequence[Block], counts: Sequence[int], seconds: Callable[[Block], float]) -> Times:
        repeats = []
        for repeat in range(self.repeats):
            taken = [0.0] * len(blocks)
            for k in range(len(blocks)):
                which = (k + repeat) % len(blocks)
                taken[which] = seconds(blocks[which]) / counts[which]
            repeats.append(tuple(taken))
        return Times(repeats)

    def _event_seconds(self, block: Block) -> float:
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        block()
        after.record()
        after.synchronize()
        return float(before.elapsed_time(after)) / 1e3

    def _wait(self) -> None:
        if self._cuda:
            torch.cuda.synchronize(self.device)


def _in_a_row(call: Call, count: int) -> Block:
    def block() -> None:
        for i in range(count):
            call(i)

    return block


def _host_seconds(block: Block) -> float:
    began = time.perf_counter()
    block()
    return time.perf_counter() - began
