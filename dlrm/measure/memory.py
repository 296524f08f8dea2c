"""Peak memory of a training step, as the allocator saw it."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
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


def free_bytes(device: torch.device | str = "cpu") -> int:
    """Bytes that may still be asked for on a device; on the CPU as the system says, half of all where it does not."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="utf-8") as lines:
            found = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
        if found is not None:
            return 1024 * int(found)
    except OSError:
        pass  # not Linux
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def reset_device_peak(device: torch.device | str) -> None:
    """Lets `device_peak_bytes` start anew."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def device_peak_bytes(device: torch.device | str) -> int | None:
    """The most bytes that tensors on a CUDA device took at once since `reset_device_peak`; None on the CPU.

    All tensors of the process count, in the blocks that torch's allocator gives out (multiples of 512 bytes).
    """
    return torch.cuda.max_memory_allocated(device) if torch.device(device).type == "cuda" else None


def peak_bytes(step: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """The most bytes that `step` held on a device beyond what was allocated there before it, as its allocator saw it.

    On the CPU what the native ops keep for themselves counts: they give back what other calls left before `step` runs.
    On CUDA all they take comes from torch's allocator.
    """
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated(device)
        reset_device_peak(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
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
