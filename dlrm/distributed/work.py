"""A rank's part in the training of a click model: its share of every batch, gradients of the whole one."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import Self

from embpress.compressors import TableCollection, optimizer_groups, synchronize
from embpress.compressors.shardable import shardable
from embpress.dlrm.data import ClickData, Part
from embpress.dlrm.distributed.patience import timeout
from embpress.dlrm.distributed.place import share
from embpress.dlrm.distributed.rows import add_up
from embpress.dlrm.distributed.wire import Wire, summed
from embpress.dlrm.measure import spool
from embpress.dlrm.measure.tally import PIECE
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.training.click_model import ClickWork
from embpress.dlrm.training.evaluate import inputs_of, predict, scores
from embpress.dlrm.training.settings import Settings
from embpress.dlrm.training.step import update

_ASKED = 16  # steps from one to the next at which rank 0 says whether to keep the training: the device is waited for


class Share(NamedTuple):
    """A rank's rows of a batch, perhaps none, and how many all ranks have together."""

    part: Part
    of: int


class SharedWork(ClickWork):
    """`ClickWork` on one of several ranks of a process group: the same batches in the same order, however many.

    Each step takes the gradient of the mean loss over the whole batch: DDP sums those that are dense, `rows.add_up`
    those that are sparse. So all ranks hold the same parameters and optimizer state at all times. Each predicts its
    share of the rows that are scored; rank 0 scores them and tells the others.

    Tables that can be divided among the ranks are, from the first step to the end of the `with` block, and are gathered
    before they are scored: see `Shardable`.

    Args:
        model: the same on every rank, or made so by rank 0's.
        data: the same on every rank.

    Attributes:
        ask: whether it is time to keep the training, where this rank says so for all.
        due: what was said at the last step at which it was asked.
    """

    def __init__(self, model: ClickModel, data: ClickData, settings: Settings, seed: int) -> None:
        super().__init__(model, data, settings, seed)
        self.rank, self.world, self.wire = dist.get_rank(), dist.get_world_size(), Wire()
        self.ask: Callable[[], bool] | None = None
        self.due = False
        synchronize(model)
        groups = {group["name"]: group["params"] for group in optimizer_groups(model)}
        self.sparse = groups.get("sparse", [])
        self.divided = shardable(model.tables.groups)
        self.ddp = _replicated(model, [*self.sparse, *(held for group in self.divided for held in group.held)])
        # not `summed` itself: DDP compares its annotations, which are text here, with classes
        self.ddp.register_comm_hook(self.wire, lambda wire, bucket: summed(wire, bucket))

    def __enter__(self) -> Self:
        try:
            for group in self.divided:
                group.shard(datetime.timedelta(seconds=timeout()))
        except BaseException:
            self._undivide()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undivide()

    def _undivide(self) -> None:
        for group in self.divided:
            group.unshard()

    def sent(self) -> float:
        """Bytes that a rank has sent in the steps so far: the mean over the ranks, which differ in what they hold."""
        if not self.divided:
            return self.wire.sent
        sent = torch.tensor(self.wire.sent, dtype=torch.float64, device=self.device)
        dist.all_reduce(sent)
        return float(sent) / self.world

    def batches(self, epoch: int, first: int = 0) -> Iterator[tuple[Share, int]]:  # type: ignore[override] # for step()
        """This rank's share of every batch; see `ClickWork.batches`."""
        for part in self.read(first):
            own = part.slice(*share(len(part), self.rank, self.world))
            yield Share(own.to(self.device), len(part)), len(part)

    def step(self, batch: Share, number: int) -> Tensor:  # type: ignore[override] # what its own batches() gives
        """As in one process; the mean loss is that of the whole batch."""
        part, count = batch
        logits = self.ddp(part.dense, inputs_of(part))
        loss = F.binary_cross_entropy_with_logits(logits, part.labels, reduction="sum") / count
        loss.backward()
        add_up(self.sparse, self.wire)
        self.wire.sent += sum(group.sent_bytes(count) for group in self.divided)
        update(self.model, self.optimizers, number)
        if number % _ASKED == 0:
            asked = loss.new_tensor(float(self.ask is not None and self.ask()))
            loss, asked = self.wire.sum(torch.stack([loss.detach(), asked])).unbind()
            self.due = bool(asked)
            return loss
        return self.wire.sum(loss.detach().clone())

    def state(self) -> dict[str, Any]:
        """See `Work.state`; with what was sent so far, by which `wire_bytes_per_step` is that of the whole training."""
        return {**super().state(), "sent": self.wire.sent}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Work.restore`."""
        super().restore(state)
        self.wire.sent = state["sent"]

    def scored(self, part: Part, tables: TableCollection | None = None) -> tuple[Tensor, dict[str, float]]:
        """See `ClickWork.scored`; the scores are the same on every rank, logits are on rank 0 alone."""
        logits = self._predicted(part, tables)
        # rank 0's, told to all: what follows from them must be the same everywhere
        told: list[Any] = [scores(logits, part.labels) if self.rank == 0 else None]
        dist.broadcast_object_list(told, src=0)
        return logits, told[0]

    def _predicted(self, part: Part, tables: TableCollection | None) -> Tensor:
        """Logits `(N,)` of a part, each rank's share by that rank; on ranks other than 0 there are none."""
        for group in self.divided:
            group.gather()
        spans = [share(len(part), rank, self.world) for rank in range(self.world)]
        start, stop = spans[self.rank]
        own = predict(self.model, part.slice(start, stop), tables=tables) if start < stop else torch.empty(0)
        whole = spool.empty(len(part)) if self.rank == 0 else torch.empty(0)
        longest = max(stop - start for start, stop in spans)
        size = max(1, min(longest, PIECE // self.world))  # of each rank's at once; on the CPU: see `team.backend`
        for first in range(0, longest, size):
            some = own[first : first + size]
            sent = torch.cat([some, some.new_zeros(size - len(some))])
            parts = [torch.empty(size) for _ in spans] if self.rank == 0 else None
            dist.gather(sent, parts, dst=0)
            for one, (start, stop) in zip(parts or [], spans):
                place = whole[start + first : min(start + first + size, stop)]
                place.copy_(one[: len(place)])
        return whole


def _replicated(model: ClickModel, left: list[torch.nn.Parameter]) -> DistributedDataParallel:
    """The model under DDP, which leaves some parameters alone, and buffers, where each rank counts for itself."""
    others = {id(parameter) for parameter in left}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in others]
    names += [name for name, _ in model.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)
    return DistributedDataParallel(model)
