"""What a click model is given and must answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from embpress.compressors import InputError, TableCollection
from embpress.compressors.errors import nearest
from embpress.compressors.tables.collection import BagInput
from embpress.dlrm.members import members

if TYPE_CHECKING:
    from embpress.dlrm.training.settings import Settings

SCORED_BYTES = 1 << 30  # what scoring a batch may take: with hundreds of tables fewer samples are scored at once


class ClickModel(nn.Module):
    """Click logits from dense features and one embedding a categorical feature.

    A model is a file in this folder with a subclass that sets `name`, says its `configuration` and implements
    `_score`. Its constructor takes `(num_dense, tables, generator, amp)` and the configuration as keywords, draws from
    the generator alone, on the CPU, so that a seed means the same on every device, and ends on the tables' device.

    Attributes:
        name: what `--model` calls it.
        tables: the embedding tables.
        amp: the dense layers compute in bfloat16, by autocast; parameters, tables and logits stay float32.
    """

    name: ClassVar[str]

    def __init__(self, num_dense: int, tables: TableCollection, amp: bool = False) -> None:
        super().__init__()
        self.num_dense, self.tables, self.amp = num_dense, tables, amp

    @classmethod
    def configuration(cls, settings: Settings) -> dict[str, Any]:
        """Keywords of the constructor, JSON-able: what a record says of the model, known before it is built."""
        return {}

    @property
    def device(self) -> torch.device:
        """Device of the tables and of all else."""
        return self.tables.tables[0].device

    def forward(self, dense: Tensor, ids: Tensor | Sequence[BagInput]) -> Tensor:
        """Logits `(B,)` of dense features `(B, num_dense)` and ids as in `TableCollection.forward`."""
        return self.score(dense, self.tables(ids))

    def score(self, dense: Tensor, rows: Tensor) -> Tensor:
        """Logits `(B,)` from dense features `(B, num_dense)` and looked-up rows `(B, F, D)`."""
        if not self.amp:
            return self._score(dense, rows)
        with torch.autocast(dense.device.type, torch.bfloat16):
            return self._score(dense, rows).float()

    def _score(self, dense: Tensor, rows: Tensor) -> Tensor:
        """`score`, in whatever dtype autocast asks for."""
        raise NotImplementedError

    def dense_flops(self) -> int:
        """Floating point operations of the linear layers in one sample's forward: `2 · in · out` each."""
        within = {id(module) for module in self.tables.modules()}
        layers = [m for m in self.modules() if isinstance(m, nn.Linear) and id(m) not in within]
        return sum(2 * layer.in_features * layer.out_features for layer in layers)

    def sample_bytes(self) -> int:
        """About the bytes that one sample takes while it is scored; decides how many are scored at once."""
        return 8 * len(self.tables.configs) * self.tables.embedding_dim  # rows, and once more where they are joined


def model_class(name: str) -> type[ClickModel]:
    """The click model of this name.

    Raises:
        InputError: there is none; names the nearest.
    """
    known = members("embpress.dlrm.models", ClickModel)
    if name not in known:
        raise InputError(f"no model {name!r}{nearest(name, known)}")
    return known[name]


def build(num_dense: int, tables: TableCollection, settings: Settings, seed: int) -> ClickModel:
    """The settings' model around the tables; what it draws depends on the seed alone (and on the tables' width)."""
    cls: Any = model_class(settings.model)
    generator = Generator().manual_seed(seed)
    return cls(num_dense, tables, generator=generator, amp=settings.amp, **cls.configuration(settings))


def describe(settings: Settings) -> dict[str, Any]:
    """The model's part of a record: its name, its configuration, and which tables are compressed."""
    return {
        "name": settings.model,
        "preset": settings.preset,
        "width": settings.width,
        **model_class(settings.model).configuration(settings),
        "min_rows": settings.min_rows,
        "largest": settings.largest,
    }
