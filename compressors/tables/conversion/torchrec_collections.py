"""TorchRec's collections with compressed tables: called as before, replicated where others are sharded."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection

from embpress.compressors.errors import InputError
from embpress.compressors.tables.conversion.modules import TableUser


class _Compressed:
    """What both collections have in common.

    TorchRec looks modules up by their exact class. A class of its own is passed over where tables are sharded, so that
    `DistributedModelParallel` replicates it as it does dense layers. Quantization would pass it over as well, and
    without a word: for it there is a child of TorchRec's class, without tables, that refuses.
    """

    def reset_parameters(self) -> None:
        """Draws the initial values of all tables."""
        for table in _tables(self):
            (table.table if isinstance(table, TableUser) else table).reset_parameters()


class CompressedEmbeddingBagCollection(_Compressed, EmbeddingBagCollection):
    """TorchRec's `EmbeddingBagCollection` with compressed tables."""


class CompressedEmbeddingCollection(_Compressed, EmbeddingCollection):
    """TorchRec's `EmbeddingCollection` with compressed tables."""


_REPLACED = {
    EmbeddingBagCollection: (CompressedEmbeddingBagCollection, "embedding_bag_configs"),
    EmbeddingCollection: (CompressedEmbeddingCollection, "embedding_configs"),
}


def adapt(module: nn.Module) -> None:
    """Gives a collection whose tables were replaced its new class."""
    original = type(module)
    made, configs = _REPLACED[original]
    refusing: Any = original(tables=[])
    setattr(refusing, configs, partial(_refuse, original.__name__))
    module.__class__ = made
    module.add_module("quantization", refusing)


def _tables(collection: Any) -> list[Any]:
    return list(
        (collection.embedding_bags if hasattr(collection, "embedding_bags") else collection.embeddings).values()
    )


def _refuse(name: str) -> Any:
    raise InputError(
        f"{name} holds compressed tables, which quantize_embeddings cannot quantize: leave it out, or serve fewer "
        "bytes with a modifier such as '+bf16'"
    )
