"""TorchRec's collections of tables; TorchRec itself is imported only for a model that has one."""

from __future__ import annotations

from torch import nn

_COLLECTIONS = ("EmbeddingBagCollection", "EmbeddingCollection")


def is_collection(module: nn.Module) -> bool:
    """Whether it is exactly TorchRec's `EmbeddingBagCollection` or `EmbeddingCollection`."""
    kind = type(module)
    return kind.__module__ == "torchrec.modules.embedding_modules" and kind.__name__ in _COLLECTIONS


def adapt(module: nn.Module) -> None:
    """Makes a collection whose tables were replaced one that TorchRec neither shards nor quantizes."""
    from embpress.compressors.tables.conversion.torchrec_collections import adapt as adapted

    adapted(module)
