"""Checks of training in several processes: DDP, FSDP2, ranks of other seeds, shared memory."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from embpress.compressors.testing.feature import NotApplicable, Use, feature
from embpress.compressors.testing.subject import close


def _one_process() -> None:
    """Makes a process group of this process alone where there is none; it stays: its end can wait for ever for threads.

    Raises:
        NotApplicable: torch has no gloo here.
    """
    if not dist.is_available() or not dist.is_gloo_available():
        raise NotApplicable("torch has no gloo here")
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


@feature("DistributedDataParallel")
def check_ddp(use: Use) -> None:
    """A step under DDP is the step without it; a fused table, whose update DDP cannot see, is refused."""
    _one_process()
    module, twin = use.make(), use.make()
    use.loss(nn.parallel.DistributedDataParallel(module)).backward()
    assert not use.fused, "ranks of a table that updates itself drift apart without a word"
    use.loss(twin).backward()
    for (name, ours), theirs in zip(module.named_parameters(), twin.parameters()):
        if theirs.grad is not None:
            assert ours.grad is not None, f"{name} has no gradient"
            close(ours.grad.to_dense(), theirs.grad.to_dense(), f"gradient of {name}")


@feature("ranks seeded differently agree once rank 0's parameters and buffers are broadcast")
def check_ranks(use: Use) -> None:
    """DDP broadcasts every parameter and buffer when it starts: then all ranks hold one module."""
    modules = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        modules.append(use.make(generator=None))
    first, second = modules
    tensors = [[*module.parameters(), *module.buffers()] for module in modules]
    assert len(tensors[0]) == len(tensors[1]), "the modules have other tensors"
    with torch.no_grad():
        for ours, theirs in zip(*tensors):
            theirs.copy_(ours)
    close(use.answers(second), use.answers(first), "lookups of the second rank")


@feature("FSDP2's `fully_shard`")
def check_fsdp(use: Use) -> None:
    """A step of a sharded module is the step without sharding."""
    _one_process()
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    module, twin = use.make(), use.make()
    fully_shard(module, mesh=init_device_mesh("cpu", (1,)))
    use.loss(module).backward()
    assert not use.fused, "a table that updates itself is sharded without a word"
    use.loss(twin).backward()
    grads = [parameter.grad for parameter in module.parameters()]
    for (name, theirs), ours in zip(twin.named_parameters(), grads):
        if theirs.grad is not None:
            assert ours is not None, f"{name} has no gradient"
            close(ours.full_tensor(), theirs.grad.to_dense(), f"gradient of {name}")  # type: ignore[attr-defined]


@feature("`share_memory_()`, as for hogwild")
def check_shared(use: Use) -> None:
    """Parameters in shared memory are looked up and train as before."""
    module, twin = use.make(), use.make()
    module.share_memory()
    assert all(parameter.is_shared() for parameter in module.parameters()), "a parameter is not shared"
    use.step(module)
    use.step(twin)
    close(use.answers(module), use.answers(twin), "lookups after a step")
