"""What a click model is given and must answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from embpress.compressors import InputError, TableCollection
from embpress.compressors.errors import nearest
from embpress.compressors.tables.collection import BagInput
from embpress.dlrm.members import members
from embpress.dlrm.option import Option

SCORED_BYTES = 1 << 30  # what scoring a batch may take: with hundreds of tables fewer samples are scored at once


class ClickModel(nn.Module):
    """Click logits from dense features and one embedding a categorical feature.

    A model is a file of this folder with a subclass that sets `name`, says its `options` and implements `_score`. Its
    constructor takes `(num_dense, tables, generator, amp)` and the options as keywords, draws from the generator alone,
    on the CPU, so that a seed means the same on every device, and ends on the tables' device.

    Attributes:
        name: what `--model` calls it.
        options: its own, written out: options of the command line, keywords of `resolve`, and part of every record.
        tables: the embedding tables.
        amp: the dense layers compute in bfloat16, by autocast; parameters, tables and logits stay float32.
    """

    name: ClassVar[str]
    options: ClassVar[tuple[Option, ...]] = ()

    def __init__(self, num_dense: int, tables: TableCollection, amp: bool = False) -> None:
        super().__init__()
        self.num_dense, self.tables, self.amp = num_dense, tables, amp

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


def models() -> dict[str, type[ClickModel]]:
    """The click models of this folder by name."""
    return members("embpress.dlrm.models", ClickModel)


def model_class(name: str) -> type[ClickModel]:
    """The click model of this name.

    Raises:
        InputError: there is none; names the nearest.
    """
    known = models()
    if name not in known:
        raise InputError(f"no model {name!r}{nearest(name, known)}")
    return known[name]
