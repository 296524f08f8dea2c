"""The tables of a TBE divided among ranks by TorchRec (Ivchenko et al. 2022), each table on one of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from embpress.compressors.tbe import OPTIMIZERS, TBE


def available() -> str | None:
    """Why TorchRec cannot be used, or None where it can."""
    try:
        with _quiet():
            import torchrec.distributed.model_parallel  # noqa: F401
    except Exception as error:  # a release for another torch or FBGEMM fails with AttributeError and worse
        return f"torchrec does not import here ({type(error).__name__}: {error})".splitlines()[0]
    return None


def balanced(sizes: Sequence[int], ranks: int) -> list[int]:
    """A rank for each table: the largest first, each to the rank that holds least so far.

    TorchRec's planner goes by the speed of GPUs and their links, which says nothing on CPUs.
    """
    held, chosen = [0] * ranks, [0] * len(sizes)
    for t in sorted(range(len(sizes)), key=lambda t: -sizes[t]):
        chosen[t] = min(range(ranks), key=held.__getitem__)
        held[chosen[t]] += sizes[t]
    return chosen


class Shards:
    """A `ShardedEmbeddingBagCollection` with the rows, the optimizer and its state of a TBE.

    It talks by a process group of its own, so that its collectives and those of others, such as DDP's, need no order
    between them.

    Args:
        kernel: rows, optimizer and state; it lets go of its memory at the first call after it was current.
        mean: bags are means, not sums.
        timeout: of that group.

    Attributes:
        ranks: of each table, the rank that holds it.
        fresh: the TBE is current: it has what the ranks hold.
    """

    def __init__(self, kernel: TBE, mean: bool, timeout: timedelta | None = None) -> None:
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
        from torchrec.distributed.model_parallel import DistributedModelParallel
        from torchrec.distributed.sharding_plan import construct_module_sharding_plan, table_wise
        from torchrec.distributed.types import ShardingEnv, ShardingPlan
        from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
        from torchrec.modules.embedding_modules import EmbeddingBagCollection

        self.kernel, self.group = kernel, dist.new_group(timeout=timeout)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.ranks = balanced(kernel.rows, self.world)
        self.names = [f"table_{t}" for t in range(len(kernel.rows))]
        self.keys = [f"ids_{t}" for t in range(len(kernel.rows))]
        pooling = PoolingType.MEAN if mean else PoolingType.SUM
        whole = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=name, num_embeddings=n, embedding_dim=kernel.width, feature_names=[key], pooling=pooling
                )
                for name, key, n in zip(self.names, self.keys, kernel.rows)
            ],
            device=torch.device("meta"),  # each rank makes its own tables alone
        )
        how = {
            "optimizer": getattr(EmbOptimType, OPTIMIZERS[kernel.optimizer]),
            "learning_rate": kernel.learning_rate,
            "eps": 1e-10,
        }
        sharder: Any = EmbeddingBagCollectionSharder(fused_params=how)
        device = kernel.weights.device
        plan = construct_module_sharding_plan(
            whole,
            {name: table_wise(rank=rank, compute_kernel="fused") for name, rank in zip(self.names, self.ranks)},
            sharder=sharder,
            world_size=self.world,
            local_size=self.world,
            device_type=device.type,
        )
        with _quiet():
            self.model = DistributedModelParallel(
                whole,
                env=ShardingEnv.from_process_group(self.group),
                device=device,
                plan=ShardingPlan({"": plan}),
                sharders=[sharder],
                init_data_parallel=False,
            )
        self.sent, self.bags = 0, 0
        with torch.no_grad():
            for ours, theirs in self._mine():
                theirs.copy_(ours.view_as(theirs))
        self.fresh = True
        self.learning_rate = kernel.learning_rate

    def __call__(self, ids: Tensor, offsets: Tensor) -> Tensor:
        """Bags `(B, T, D)` of this rank's ids `(N,)` and offsets `(T B + 1,)`, table after table."""
        from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

        if self.fresh:
            self.kernel.let_go()
            self.fresh = False
        if self.learning_rate != self.kernel.learning_rate:
            self.learning_rate = self.kernel.learning_rate
            for group in self.model.module.fused_optimizer.param_groups:
                group["lr"] = self.learning_rate
            self.model.module.fused_optimizer.step()  # which hands the rate on
        lengths = offsets.diff().int()
        with _quiet():
            jagged = KeyedJaggedTensor(keys=self.keys, values=ids, lengths=lengths)
            keyed = self.model(jagged)
            columns = [keyed[key] for key in self.keys]
        away = [t for t, rank in enumerate(self.ranks) if rank != self.rank]
        self.bags = lengths.numel() // len(self.keys)
        counts = jagged.length_per_key()
        self.sent = sum(counts[t] * ids.element_size() + self.bags * lengths.element_size() for t in away)
        return _Summed.apply(torch.stack(columns, 1))

    def sent_bytes(self, batch: int) -> int:
        """Bytes of the three all-to-alls of a step that go to other ranks.

        With T tables of width D, t of them here, and b of B bags a table from this rank: ids and lengths of b bags of
        T - t tables, pooled rows of B - b bags of t tables, and gradients of b bags of T - t tables, 4 D bytes each.
        The few numbers by which TorchRec tells the ranks these sizes are not counted.
        """
        mine = self.ranks.count(self.rank)
        row = 4 * self.kernel.width
        return self.sent + row * ((batch - self.bags) * mine + self.bags * (len(self.ranks) - mine))

    @torch.no_grad()
    def gather(self) -> None:
        """Fills the TBE with all rows and state, on every rank."""
        if self.fresh:
            return
        self.kernel.take_back()
        for ours, theirs in self._mine():
            ours.copy_(theirs.view_as(ours))
        for t, rank in enumerate(self.ranks):
            for tensor in self._ours(t):
                dist.broadcast(tensor, src=rank, group=self.group)
        self.fresh = True

    def _ours(self, t: int) -> list[Tensor]:
        """Rows of a table and their state in the TBE."""
        return [self.kernel.table(t), *([] if self.kernel.state is None else [self.kernel.state_of(t)])]

    def _mine(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and state of this rank's tables: where the TBE has them, and where TorchRec has."""
        rows = self.model.module.state_dict()
        states = self.model.module.fused_optimizer.state_dict()["state"]
        for t, name in enumerate(self.names):
            if self.ranks[t] != self.rank:
                continue
            path = f"embedding_bags.{name}.weight"
            theirs = [rows[path], *([] if self.kernel.state is None else [states[path][f"{name}.momentum1"]])]
            local = [each.local_shards()[0].tensor.detach() for each in theirs]
            yield from zip(self._ours(t), local, strict=True)


class _Summed(torch.autograd.Function):
    """Gradients as they come: TorchRec's all-to-all divides them by the number of ranks, for losses that are means."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.world = dist.get_world_size()
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        from torchrec.distributed.comm_ops import get_gradient_division

        return grad * ctx.world if get_gradient_division() else grad


@contextmanager
def _quiet() -> Iterator[None]:
    """torch warns once that TorchRec asks for something by its old name."""
    log = logging.getLogger("torch.fx._symbolic_trace")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
