"""`compress_model`: swaps the embedding modules of anybody's model for compressed ones, in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from torch import Generator, nn

from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError
from embpress.compressors.fitted import check_start
from embpress.compressors.modifiers.base import Modifier
from embpress.compressors.options import TableOptions
from embpress.compressors.spec import MethodSpec, PlanFile, parse
from embpress.compressors.tables.build import build_tables, fit_tables
from embpress.compressors.tables.conversion.find import KINDS, Found, Selection, find_tables, select
from embpress.compressors.tables.conversion.fit import planned
from embpress.compressors.tables.conversion.modules import (
    CompressedEmbedding,
    CompressedEmbeddingBag,
    CompressedLinear,
    TableUser,
    pooling,
)
from embpress.compressors.tables.conversion.replaced import watch
from embpress.compressors.tables.conversion.report import report
from embpress.compressors.tables.conversion.torchrec import adapt, is_collection
from embpress.compressors.tables.planning.plan import Plan


def compress_model(
    model: nn.Module,
    method: str | MethodSpec | Plan,
    *,
    ratio: float | None = None,
    budget: int | None = None,
    min_rows: int = 200,
    largest: int | None = None,
    only: Selection | None = None,
    skip: Selection | None = None,
    from_weights: bool = False,
    generator: Generator | None = None,
) -> pd.DataFrame:
    """Replaces `nn.Embedding` and `nn.EmbeddingBag` modules of a model by compressed tables.

    Module names, mode, `padding_idx`, `include_last_offset`, device and dtype stay; modules that are one object, or
    that share one weight, share one compressed table afterwards, an `nn.Linear` that has the same weight among them.
    Tables of TorchRec's `EmbeddingBagCollection` and `EmbeddingCollection` are replaced where they are.

    What cannot be replaced without computing something else stays as it is, with a note: subclasses, `max_norm`,
    frozen weights, hooks, weights that other modules use; and tables that the method cannot hold, or would make larger.
    The size is one total over all tables, those that stay among them.

    Args:
        model: changed in place.
        method: such as `"tt"` or `"robe:z=32"`, or a plan.
        ratio, budget: size of all tables together.
        min_rows, largest: which tables stay as they are.
        only, skip: which modules may be replaced, and which may not: a name or a pattern (`"encoder.*"`), several, or a
            function of `(name, module)`.
        from_weights: start near the trained weights, with a method that has `from_dense`, instead of afresh.
        generator: source of the initial values.

    Returns:
        One row a module: `module, num_embeddings, embedding_dim, method, bytes_before, bytes_after, ratio, note`, and
        under `from_weights` the relative Frobenius `error`, 0 for a table that stays full. A table that several modules
        share has its bytes in the first one's row; memory that tables share is divided in proportion to n·D.
        `.attrs["ratio"]` is the ratio of all of them together.

    Warns:
        later, where an optimizer or a loss still refers to a weight that was replaced.

    Raises:
        InputError: no embedding in the model or nothing else, a name that is none, a method that saves only by width
            under a ratio, or one that cannot start from weights.
        BudgetError: the size cannot be reached. In both cases the model is unchanged.
    """
    spec = parse(method) if isinstance(method, str) else method
    spec = Plan.read(spec.path) if isinstance(spec, PlanFile) else spec
    if from_weights:
        _check_start(spec)
    found = find_tables(model)
    if not found:
        raise InputError("the model has no nn.Embedding and no nn.EmbeddingBag")
    if any(isinstance(module, nn.parallel.DistributedDataParallel) for module in model.modules()):
        raise InputError("DistributedDataParallel holds the model's parameters already: convert the model before")
    if isinstance(model, KINDS):
        raise InputError("the model is itself an embedding, which cannot be replaced in place: use create()")
    select(found, only, skip)
    made = planned(found, spec, ratio=ratio, budget=budget, min_rows=min_rows, largest=largest)
    chosen = [t for t, table in enumerate(found) if not table.note]
    part = Plan(tuple(made.tables[t] for t in chosen))
    tables, errors = _built([found[t] for t in chosen], part, from_weights, generator)
    labels = [str(table.method if isinstance(spec, Plan) else spec) for table in part.tables]
    collections = [module for module in model.modules() if is_collection(module)]
    for t, table in zip(chosen, tables):
        _swap(model, found[t], table)
    _register_once(tables)
    for module in collections:
        if any(isinstance(one, Compressor | TableUser) for one in module.modules()):
            adapt(module)
    return report(found, dict(zip(chosen, zip(tables, labels, errors))), from_weights)


def _check_start(spec: MethodSpec | Plan) -> None:
    for one in [table.method for table in spec.tables] if isinstance(spec, Plan) else [spec]:
        check_start(one)


def _built(
    found: Sequence[Found], plan: Plan, from_weights: bool, generator: Generator | None
) -> tuple[list[Compressor], list[float]]:
    """The tables that replace these, and how far they are from the weights."""

    def options(t: int) -> TableOptions:
        weight, users = found[t].weight, [module for _, module in found[t].users]
        return {
            **pooling(users),
            "sparse": any(user.sparse for user in users) and plan.tables[t].method.tags.sparse_gradients,
            "device": weight.device,
            "dtype": weight.dtype,
            "generator": generator,
        }

    if not from_weights:
        return (build_tables(plan, options) if found else []), [0.0] * len(found)
    return fit_tables(plan, [table.weight for table in found], options)


def _swap(model: nn.Module, found: Found, table: Compressor) -> None:
    """Puts the table where its modules stand; the first of several holds it, one under two names stays one."""
    swapped: dict[int, nn.Module] = {}
    alone = len({id(module) for _, module in (*found.users, *found.heads)}) == 1
    watch({f"{found.users[0][0]}.weight": found.weight})
    for name, module in (*found.users, *found.heads):
        if id(module) not in swapped:
            first = next(iter(swapped.values()), table)
            new = table if alone and isinstance(module, nn.EmbeddingBag) else _user(module, first)
            swapped[id(module)] = new.train(module.training)
        setattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], swapped[id(module)])


def _user(module: Any, table: Any) -> TableUser:
    if isinstance(module, nn.Linear):
        return CompressedLinear(table, module.bias)
    if isinstance(module, nn.EmbeddingBag):
        return CompressedEmbeddingBag(table, module.mode, module.include_last_offset, module.padding_idx)
    return CompressedEmbedding(table, module.padding_idx)


def _register_once(tables: Sequence[Compressor]) -> None:
    """Lets the first table that has a parameter or a buffer own it; the others look it up there."""
    owners: dict[int, Compressor] = {}
    for table in tables:
        while isinstance(table, Modifier):
            table = table.table
        for name, tensor in [*table._parameters.items(), *table._buffers.items()]:
            owner = owners.setdefault(id(tensor), table) if tensor is not None else table
            if owner is not table:
                table.adopt(owner, name, None)
