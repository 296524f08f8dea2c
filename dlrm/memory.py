"""Peak memory of a training step, as the allocator saw it."""

from __future__ import annotations

import os
from collections.abc import Callable

from torch import nn
from torch.autograd.profiler import profile
from torch.optim import Optimizer

from embpress.kernels import load


def resident_bytes(model: nn.Module, optimizers: list[Optimizer]) -> int:
    """Bytes of parameters, buffers and optimizer state, each storage once."""
    tensors = [*model.parameters(), *model.buffers()]
    for optimizer in optimizers:
        tensors += [
            value for state in optimizer.state.values() for value in state.values() if hasattr(value, "untyped_storage")
        ]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def peak_bytes(step: Callable[[], object]) -> int:
    """The most bytes that `step` held beyond what was allocated before it, from the allocator's events.

    What the native ops keep for themselves counts: they give back what other calls left before `step` runs.
    """
    load.release_scratch()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it writes its own lines to stderr
    with profile(profile_memory=True, use_kineto=True) as profiler:
        step()
    events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak + load.scratch_bytes()
