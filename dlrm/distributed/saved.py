"""A training of several ranks in the middle: rank 0 keeps it in one file, with what each rank holds for itself."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from embpress.dlrm.distributed.work import SharedWork
from embpress.dlrm.training.course import Saved


class SharedSaved:
    """`Saved` on one of several ranks, all of which call it at the same steps.

    Parameters and the optimizers' state are the same on all ranks. What each of them counts for itself, such as the
    lookups of its share of the rows, and where its random numbers have come to, is gathered and given back.

    Args:
        saved: where rank 0 keeps all of it; not used on the others.
        work: what is trained; rank 0 tells the others with its steps when it is time.
    """

    def __init__(self, saved: Saved | None, work: SharedWork) -> None:
        self.saved, self.work = saved, work
        work.ask = None if saved is None else saved.due

    def load(self) -> dict[str, Any] | None:
        """See `Saved.load`; of rank 0's file on every rank, but for what rank 0 alone goes on from.

        Objects are sent in the memory of the CPU, whatever the device: see `team.backend`.
        """
        kept = None if self.saved is None else self.saved.load()
        ranks = None if kept is None else kept.pop("ranks")
        told: list[Any] = [None if kept is None else _of_all(kept)]
        dist.broadcast_object_list(told, src=0)
        if told[0] is None:
            return None
        given: list[Any] = [None]
        dist.scatter_object_list(given, ranks, src=0)
        state, own = told[0] if kept is None else kept, given[0]
        model = {**state["work"]["model"], **own.pop("model")}
        return {**state, "work": {**state["work"], **own, "model": model}}

    def due(self) -> bool:
        """See `Saved.due`; the same on all ranks."""
        return self.work.due

    def save(self, state: dict[str, Any]) -> None:
        """See `Saved.save`."""
        work = state["work"]
        buffers = {name: value for name, value in self.work.model.named_buffers() if name in work["model"]}
        own = {"model": buffers, **{name: work[name] for name in ("tables", "buffers", "random")}}
        ranks: list[Any] | None = [None] * self.work.world if self.work.rank == 0 else None
        dist.gather_object(own, ranks, dst=0)
        if self.saved is not None:
            self.saved.save({**state, "ranks": ranks})
        self.work.due = False


def _of_all(state: dict[str, Any]) -> dict[str, Any]:
    """A state without what rank 0 alone goes on from: what was taken of the model, and logits, at the best epoch."""
    course = state["course"]
    return {**state, "best": None, "course": {**course, "result": {**course["result"], "test_logits": None}}}
