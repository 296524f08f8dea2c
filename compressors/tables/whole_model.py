"""What is asked of all tables in anybody's model at once: their bytes, and their form to serve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from embpress.compressors.base import Compressor
from embpress.compressors.ledger import Ledger
from embpress.compressors.methods.full import Full
from embpress.compressors.tables.collection import TableCollection
from embpress.compressors.tables.serving import folded

_PLAIN = (nn.Embedding, nn.EmbeddingBag)


def as_full(module: nn.Embedding | nn.EmbeddingBag) -> Full:
    """A table that is the plain module's: the same weight, for its ledger and its fold."""
    n, dim = module.weight.shape
    table = Full(n, dim, padding_idx=module.padding_idx, sparse=module.sparse, device="meta")
    table.register_parameter("weight", module.weight)  # type: ignore[arg-type] # a plain module says it is a tensor
    return table


def model_ledger(model: nn.Module, optimizer: str | None = None, batch_size: int | None = None) -> Ledger:
    """Bytes of all tables in a module tree: compressors, collections, and plain embeddings; what is shared counts once.

    Args:
        model: any module.
        optimizer, batch_size: of training, as in `Compressor.ledger`; each table is looked up `batch_size` times.
    """
    whole, weights = Ledger(), set()
    for name, table in _tables(model, ""):
        if isinstance(table, _PLAIN):
            if id(table.weight) in weights:
                continue
            weights.add(id(table.weight))
            table = as_full(table)
        whole += table.ledger(optimizer, batch_size).renamed(f"{name}: " if name else "")
    return whole


def _tables(module: nn.Module, name: str, seen: set[int] | None = None) -> list[tuple[str, Any]]:
    """The outermost tables and collections of a module tree by name, each once."""
    seen = set() if seen is None else seen
    if id(module) in seen:
        return []
    seen.add(id(module))
    if isinstance(module, (Compressor, TableCollection, *_PLAIN)):
        return [(name, module)]
    children = ((f"{name}.{own}" if name else own, child) for own, child in module.named_children())
    return [found for own, child in children for found in _tables(child, own, seen)]


def fold_model(model: nn.Module) -> nn.Module:
    """The model to serve: every compressed table in its folded form, in place; equal outputs in eval mode.

    A module that stands at several places stays one. Parameters of the dense layers are untouched.

    Returns:
        The model, in eval mode; where it is itself a table or a collection, what that folds to.
    """
    served = _with_folded(model, None, []).eval()
    _share(served)
    return served


@contextmanager
def served_model(model: nn.Module, steps: int | None = None) -> Iterator[nn.Module]:
    """The model as `fold_model` would have it, in place for a while; then the tables of before stand there again.

    Args:
        model: any module; training goes on with it afterwards as if nothing had been.
        steps: see `folded`.
    """
    places: list[tuple[nn.Module, str, nn.Module]] = []
    try:
        yield _with_folded(model, steps, places)
    finally:
        for module, name, table in places:
            setattr(module, name, table)


def _with_folded(model: nn.Module, steps: int | None, places: list[tuple[nn.Module, str, nn.Module]]) -> nn.Module:
    """The model with its tables folded in place; `places` is told which stood where."""
    made: dict[int, nn.Module] = {}

    def served(module: nn.Module) -> nn.Module:
        if id(module) not in made:
            made[id(module)] = module
            if isinstance(module, TableCollection):
                made[id(module)] = module.fold(steps)
            elif isinstance(module, Compressor):
                made[id(module)] = folded(module, steps)
            if made[id(module)] is module:
                for name, child in list(module._modules.items()):
                    if child is not None and served(child) is not child:
                        places.append((module, name, child))
                        setattr(module, name, served(child))
        return made[id(module)]

    return served(model)


def _share(model: nn.Module) -> None:
    """Makes parameters that are the same memory one object again, by which the ledger knows that it is shared."""
    known: dict[tuple[int, Any, torch.Size], nn.Parameter] = {}
    for table in (module for module in model.modules() if isinstance(module, Compressor)):
        for name, parameter in table._parameters.items():
            if parameter is not None and parameter.numel() and not parameter.is_meta:
                place = parameter.untyped_storage().data_ptr(), parameter.storage_offset(), parameter.shape
                table._parameters[name] = known.setdefault(place, parameter)
