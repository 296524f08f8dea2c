"""Times of calls on a GPU without the host's share: captured in a CUDA graph and replayed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from embpress.dlrm.bench.timing import Call, Paired, Timed, Timer, in_turn

GRAPH, EVENTS = "graph replay", "events"
_WARM_UP, _MAX_BLOCK = 3, 32
Block = Callable[[], None]


def timer_of(device: torch.device, *, seconds: float = 3.0, repeats: int | None = None, quick: bool = False) -> Timer:
    """Graph replay on a GPU, paired repeats elsewhere.

    Args:
        device: that the calls work on.
        seconds: for the repeats of a case, where there are pairs and no `repeats`.
        repeats: how many; on a GPU 30 where nothing is said.
        quick: two repeats, to see that everything works.
    """
    if device.type == "cuda":
        return Replay(device, 2, 0.0) if quick else Replay(device, repeats or 30)
    if quick:
        return Paired(device, 0.01, 2, 0.0)
    return Paired(device, seconds) if repeats is None else Paired(device, 0.0, repeats)


class Replay:
    """Times calls in turn on one GPU.

    Args:
        device: a CUDA device.
        repeats: measurements of each call.
        block: seconds of work that one measurement should hold: so many calls in a row, 1 to 32, count as their mean.
    """

    def __init__(self, device: torch.device | str, repeats: int = 30, block: float = 2e-3) -> None:
        self.device, self.repeats, self.block = torch.device(device), repeats, block
        self._stream = torch.cuda.Stream(self.device)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """What is made and called inside is on the stream that graphs are captured on, as a backward must be."""
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream(self.device).wait_stream(self._stream)

    def measure(self, calls: Sequence[Call]) -> Timed:
        """Times of the calls, all taken in the same way: where one of them cannot be captured, none is.

        A captured block runs its calls with the numbers 0, 1, … each time, so that their inputs vary within it.
        """
        counts = [self._count(call) for call in calls]
        blocks = [_in_a_row(call, count) for call, count in zip(calls, counts)]
        how, reason = GRAPH, ""
        try:
            replayed = [self._captured(block) for block in blocks]
        except RuntimeError as error:
            torch.cuda.synchronize(self.device)
            replayed, how = blocks, EVENTS
            reason = f"not captured: {(str(error).strip().splitlines() or [type(error).__name__])[0]}"
        timed = [self._seconds(block, count) for block, count in zip(replayed, counts)]
        return Timed(in_turn(timed, lambda done: done < self.repeats), how, reason)

    def _count(self, call: Call) -> int:
        for i in range(_WARM_UP):
            call(i)
        torch.cuda.synchronize(self.device)
        began = time.perf_counter()
        call(_WARM_UP)
        torch.cuda.synchronize(self.device)
        return max(1, min(_MAX_BLOCK, math.ceil(self.block / max(time.perf_counter() - began, 1e-7))))

    def _captured(self, block: Block) -> Block:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            block()
        graph.replay()  # the first one uploads it
        torch.cuda.synchronize(self.device)
        return graph.replay

    def _seconds(self, block: Block, count: int) -> Callable[[], float]:
        def seconds() -> float:
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            before.record()
            block()
            after.record()
            after.synchronize()
            return float(before.elapsed_time(after)) / 1e3 / count

        return seconds


def _in_a_row(call: Call, count: int) -> Block:
    def block() -> None:
        for i in range(count):
            call(i)

    return block
