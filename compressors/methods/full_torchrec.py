"""Full tables that TorchRec divides among processes (Ivchenko et al. 2022); in one device's memory they are a TBE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError
from embpress.compressors.methods.full_tbe import FullTBE, TBEGroup
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.compressors.shardable import Shardable
from embpress.compressors.tbe import available as fbgemm
from embpress.compressors.torchrec_shards import Shards, available


class TorchRecGroup(TBEGroup, Shardable):
    """All tables in one TBE, or divided among ranks."""

    def __init__(self, tables: Iterable[Compressor], names: Sequence[str] = (), *, alone: bool = False) -> None:
        super().__init__(tables, names, alone=alone)
        self.__dict__["shards"] = None  # not a child: nobody else may see its parameters

    def shard(self, timeout: timedelta | None = None) -> None:
        """See `Shardable.shard`."""
        self.__dict__["shards"] = Shards(self.first.kernel, self.first.mode == "mean", timeout)

    def gather(self) -> None:
        """See `Shardable.gather`."""
        self._shards().gather()

    def unshard(self) -> None:
        """See `Shardable.unshard`."""
        kernel, self.__dict__["shards"] = self.first.kernel, None
        if kernel.away:
            kernel.take_back()
            with torch.no_grad():
                kernel.weights.fill_(torch.nan)

    def sent_bytes(self, batch: int) -> int:
        """See `Shardable.sent_bytes`."""
        return self._shards().sent_bytes(batch)

    @property
    def held(self) -> Sequence[nn.Parameter]:
        """The rows."""
        return [self.first.kernel.weights]

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of ids `(B, T)`, by all ranks where the tables are divided and an update is wanted."""
        if not self._divided():
            return super().rows(ids)
        offsets = torch.arange(ids.numel() + 1, device=ids.device)
        return self._shards()(ids.t().reshape(-1), offsets)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """Bags, by all ranks where the tables are divided and an update is wanted."""
        if not self._divided():
            return super().bags(ids, offsets, weights)
        if weights is not None:
            raise InputError("full-torchrec: bags of tables that are divided take no weights: use the method full")
        return self._shards()(ids, offsets)

    def _divided(self) -> bool:
        return self.__dict__.get("shards") is not None and torch.is_grad_enabled()

    def _shards(self) -> Shards:
        shards: Shards | None = self.__dict__.get("shards")
        if shards is None:
            raise RuntimeError("full-torchrec: the tables are not divided among ranks")
        return shards

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"shards": None}


@register("full-torchrec")
class FullTorchRec(FullTBE):
    """A full table that `embpress compare` trains by TorchRec, on one of the processes: the baseline of many GPUs.

    The tables of a click model are a `ShardedEmbeddingBagCollection` under `DistributedModelParallel` while it trains,
    in one process too; each table is on one rank (table-wise), which updates it in the backward, while all else is
    replicated. Scoring and saving have all rows on every rank. Anywhere else it is what `full-tbe` is, and refuses
    what that refuses.

    Args:
        optimizer: `sgd`, `adagrad` or `rowwise_adagrad`.
        learning_rate: of that optimizer.
    """

    group = TorchRecGroup

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        optimizer: str = "adagrad",
        learning_rate: float = 0.02,
        **options: Unpack[TableOptions],
    ) -> None:
        reason = available()
        if reason is not None:
            raise InputError(
                f"full-torchrec needs TorchRec, but {reason}; install embpress[torchrec], then torchrec itself by "
                "pip install --no-deps torchrec"
            )
        super().__init__(num_embeddings, embedding_dim, optimizer=optimizer, learning_rate=learning_rate, **options)

    @property
    def backend(self) -> str:
        """`torchrec`."""
        return "torchrec"

    @classmethod
    def unavailable(cls, device: torch.device | str = "cpu") -> str | None:
        """Why TorchRec, or the FBGEMM that it stands on, cannot be used on a device; None where they can."""
        return available() or fbgemm(device)
