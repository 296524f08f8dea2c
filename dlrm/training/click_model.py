"""Training of a click model on click data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Generator, Tensor

from embpress.compressors import TableCollection
from embpress.dlrm.data import ClickData, Part
from embpress.dlrm.data.ahead import ahead
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.training.course import Best, Saved, Trained
from embpress.dlrm.training.evaluate import Tested, predict, scores, tested
from embpress.dlrm.training.loop import Progress, fit
from embpress.dlrm.training.optim import make_optimizers
from embpress.dlrm.training.order import drawn, window_of
from embpress.dlrm.training.settings import Settings
from embpress.dlrm.training.state import random_state, restore, set_random_state, state_of
from embpress.dlrm.training.step import train_step

# samples that are put in order at once: few calls, and never a copy of data that are larger than memory. Two such
# pieces are held, one whose batches are used and the next, which another thread makes meanwhile
GATHERED = 1 << 15


class ClickWork:
    """A click model with click data; the seed alone fixes the order of the samples."""

    def __init__(self, model: ClickModel, data: ClickData, settings: Settings, seed: int) -> None:
        self.model, self.data, self.size, self.device = model, data, settings.batch_size, model.device
        self.order = Generator().manual_seed(seed)
        self._drawn_from = self.order.get_state()  # where the order of this epoch was drawn
        self.optimizers = make_optimizers(model, settings.optimizer, settings.learning_rate)
        self.rows = len(data.train)
        self.steps = -(-self.rows // self.size)
        self.window = window_of(self.rows, settings.shuffle_window)

    def batches(self, epoch: int, first: int = 0) -> Iterator[tuple[Part, int]]:
        """The samples in the order of the seed, in batches of one size but the last, from the `first`-th on.

        The order of an epoch is drawn where it begins, and nothing else is drawn.
        """
        for part in self.read(first):
            yield part.to(self.device), len(part)

    def read(self, first: int = 0) -> Iterator[Part]:
        """The batches of the next epoch where the data are; see `batches`."""
        self._drawn_from = self.order.get_state()
        order = drawn(self.rows, self.window, self.order)
        piece = max(1, GATHERED // self.size) * self.size
        for some in ahead(order.pieces(self.data.train, piece, first * self.size)):
            yield from some.split(self.size)

    def step(self, batch: Part, number: int) -> Tensor:
        """See `train_step`."""
        return train_step(self.model, self.optimizers, batch, number)

    def state(self) -> dict[str, Any]:
        """See `Work.state`."""
        drawn = {"order": self._drawn_from, "random": random_state(self.device)}
        return {**state_of(self.model, self.optimizers), **drawn}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Work.restore`."""
        restore(self.model, self.optimizers, state)
        self.order.set_state(state["order"])
        set_random_state(state["random"], self.device)

    def scored(self, part: Part, tables: TableCollection | None = None) -> tuple[Tensor, dict[str, float]]:
        """Logits `(N,)` and `scores` of a part by the model as it is trained, or with these tables."""
        logits = predict(self.model, part, tables=tables)
        return logits, scores(logits, part.labels)

    def valid(self) -> dict[str, float]:
        """Scores of the validation part by the model as it is trained."""
        return self.scored(self.data.valid)[1]

    def test(self) -> Tested:
        """Scores of the test part by the model as it is served, modifier by modifier.

        Where serving changes lookups the metrics have `valid_auc_served`, by which a plan can be made.
        """
        tables, test = self.model.tables, self.data.test
        found = tested(tables.tables, lambda steps: self.scored(test, None if steps is None else tables.fold(steps)))
        if found.served:
            found.metrics["valid_auc_served"] = self.scored(self.data.valid, tables.fold())[1]["auc"]
        return found


def train(
    model: ClickModel,
    data: ClickData,
    settings: Settings,
    seed: int,
    progress: Progress | None = None,
    best: Best | None = None,
    saved: Saved | None = None,
) -> Trained:
    """Trains and scores a click model: see `fit`."""
    model.train()
    return fit(ClickWork(model, data, settings, seed), settings.epochs, progress, best, saved)
