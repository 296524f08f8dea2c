"""TorchRec's collections with compressed tables: called as before, replicated where others are sharded.

TorchRec looks modules up by their exact class. A class of its own is passed over where tables are sharded, so that
`DistributedModelParallel` replicates it as it does dense layers. Quantization would pass it over as well, and without a
word: for it there is a child of TorchRec's class, without tables, that refuses. What `DistributedModelParallel` makes
real of a model on the meta device it draws only where a module holds parameters itself, so collections see to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import nn
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection
from typing_extensions import Self

from embpress.compressors.errors import InputError
from embpress.compressors.tables.conversion.modules import TableUser


class CompressedEmbeddingBagCollection(EmbeddingBagCollection):
    """TorchRec's `EmbeddingBagCollection` with compressed tables."""

    def reset_parameters(self) -> None:
        """Draws the initial values of all tables."""
        _reset(self.embedding_bags.values())

    def apply(self, fn: Callable[[nn.Module], None]) -> Self:
        """Calls `fn` on all modules; tables that it makes real are drawn."""
        unreal = _unreal(self)
        super().apply(fn)
        if unreal and not _unreal(self):
            self.reset_parameters()
        return self


class CompressedEmbeddingCollection(EmbeddingCollection):
    """TorchRec's `EmbeddingCollection` with compressed tables."""

    def reset_parameters(self) -> None:
        """Draws the initial values of all tables."""
        _reset(self.embeddings.values())

    def apply(self, fn: Callable[[nn.Module], None]) -> Self:
        """Calls `fn` on all modules; tables that it makes real are drawn."""
        unreal = _unreal(self)
        super().apply(fn)
        if unreal and not _unreal(self):
            self.reset_parameters()
        return self


_CLASSES: dict[type[nn.Module], tuple[type[nn.Module], str]] = {
    EmbeddingBagCollection: (CompressedEmbeddingBagCollection, "embedding_bag_configs"),
    EmbeddingCollection: (CompressedEmbeddingCollection, "embedding_configs"),
}


def adapt(module: nn.Module) -> None:
    """Gives a collection whose tables were replaced its new class."""
    original = type(module)
    compressed, configs = _CLASSES[original]
    refusing: Any = original(tables=[])
    setattr(refusing, configs, partial(_refuse, original.__name__))
    module.__class__ = compressed
    module.add_module("quantization", refusing)


def _unreal(module: nn.Module) -> bool:
    return any(parameter.is_meta for parameter in module.parameters())


def _reset(tables: Iterable[Any]) -> None:
    for table in tables:
        (table.table if isinstance(table, TableUser) else table).reset_parameters()


def _refuse(name: str) -> Any:
    raise InputError(
        f"this {name} holds compressed tables, which TorchRec cannot quantize: leave it out, or serve fewer bytes with "
        "a modifier such as '+bf16'"
    )
