"""The embedding tables of the user's model: what they are, what they take, how fast they answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from embpress.compressors import Compressor, Ledger, TableCollection, TableConfig
from embpress.compressors.tables.whole_model import as_full
from embpress.dlrm.measure.clock import Clock
from embpress.dlrm.measure.latency import measure

KINDS = (nn.Embedding, nn.EmbeddingBag)


def embeddings(model: nn.Module) -> dict[str, Any]:
    """The embedding modules of a plain model by name, one a weight."""
    found: dict[int, tuple[str, Any]] = {}
    for name, module in model.named_modules():
        if isinstance(module, KINDS):
            found.setdefault(id(module.weight), (name, module))
    return dict(found.values())


@contextmanager
def counted_lookups(model: nn.Module) -> Iterator[dict[str, int]]:
    """How many ids the calls inside look up in each table; a table that is used otherwise than by a call has none."""
    weights = {id(module.weight): name for name, module in embeddings(model).items()}
    counts: dict[str, int] = {}

    def count(module: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        ids = inputs[0] if inputs else keywords.get("input")
        if isinstance(ids, Tensor):
            name = weights[id(module.weight)]
            counts[name] = counts.get(name, 0) + ids.numel()

    modules = [module for module in model.modules() if isinstance(module, KINDS)]
    handles = [module.register_forward_pre_hook(count, with_kwargs=True) for module in modules]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def compressed(model: nn.Module, names: Sequence[str]) -> dict[str, Compressor]:
    """The tables that stand at these names now; one that was left as it was as a full table of the same memory."""
    tables: dict[str, Compressor] = {}
    for name in names:
        module: Any = model.get_submodule(name)
        if isinstance(module, KINDS):
            tables[name] = as_full(module)
        else:
            tables[name] = module if isinstance(module, Compressor) else module.table
    return tables


def ledger_of(tables: Mapping[str, Compressor], optimizer: str, lookups: Mapping[str, int]) -> Ledger:
    """Bytes of all tables, memory that they share once; training with so many lookups of each in a step."""
    whole = Ledger()
    for name, table in tables.items():
        whole += table.ledger(optimizer, lookups.get(name, 0)).renamed(f"{name}: ")
    return whole


def backend_of(tables: Sequence[Compressor]) -> str:
    """What answers the lookups, `mixed` where several do; plain full tables do not count."""
    kinds = {table.backend for table in tables} - {"torch"}
    return kinds.pop() if len(kinds) == 1 else ("mixed" if kinds else "torch")


def latency_of(tables: Mapping[str, Compressor], full_bytes: int, seconds: float) -> dict[str, float]:
    """Seconds to fold the tables, and latency of one call that looks up an id in each of them.

    Empty where there is no such call: for tables of several widths, dtypes or devices.
    """
    kinds = {(table.embedding_dim, table.itemsize, table.device) for table in tables.values()}
    if len(kinds) > 1:
        return {}
    clock = Clock(next(iter(tables.values())).device)
    start = time.perf_counter()
    folded = [table.fold() for table in tables.values()]
    clock.wait()
    taken = time.perf_counter() - start
    configs = [TableConfig(table.num_embeddings, table.embedding_dim, name) for name, table in tables.items()]
    collection = TableCollection(configs, folded, full_bytes).eval()
    return {"fold_seconds": taken, **measure(None, collection, 0, seconds)}
