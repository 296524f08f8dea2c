"""The tables of a plan, made method by method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from embpress.compressors.base import Compressor
from embpress.compressors.fitted import modified
from embpress.compressors.options import TableOptions
from embpress.compressors.tables.planning.plan import Plan, TablePlan

# gradients are sparse where the rows that a method's tables hold are together more than this
SPARSE_ROWS = 100_000
SPARSE_ELEMENTS = 500_000  # elements, where asked for what is fastest


def build_tables(
    plan: Plan, options: Callable[[int], TableOptions], update: dict[str, Any] | None = None
) -> list[Compressor]:
    """The tables of a plan in their order.

    Tables of one method are made one after another, since they may share memory. Uncompressed ones come last, so that
    the others draw the same initial values whatever stays full, and in their order, so that they draw the same
    whichever method holds each.

    Args:
        options: of table t.
        update: `optimizer` and `learning_rate` of methods that update themselves, where a spec names none.
    """
    tables: dict[int, Compressor] = {}
    others = [part for part in _alike(plan) if not plan.tables[part[0]].method.tags.uncompressed]
    last = [[t] for t, table in enumerate(plan.tables) if table.method.tags.uncompressed]
    for members in [*others, *last]:
        method = plan.tables[members[0]].method
        shapes = [(plan.tables[t].config.num_embeddings, plan.tables[t].embedding_dim) for t in members]
        fused = update or {} if method.tags.fused_update else {}
        knobs = [{**fused, **plan.tables[t].method.knobs} for t in members]
        for t, table in zip(members, method.cls.build_tables(shapes, knobs, [options(t) for t in members])):
            tables[t] = method.wrap(table)
    return [tables[t] for t in range(len(plan.tables))]


def fit_tables(
    plan: Plan, weights: Sequence[Any], options: Callable[[int], TableOptions]
) -> tuple[list[Compressor], list[float]]:
    """The tables of a plan near trained ones, those that share memory fitted together, and their relative errors.

    Args:
        weights: the trained tables `(n, D)`, see `DenseRows`.
        options: of table t.
    """
    fitted: dict[int, tuple[Compressor, float]] = {}
    for members in _alike(plan):
        method = plan.tables[members[0]].method
        rows = [weights[t] for t in members]
        knobs = [plan.tables[t].method.knobs for t in members]
        tables, errors = method.cls.fit_tables(rows, knobs, [options(t) for t in members])
        fitted |= {t: modified(method, *one) for t, one in zip(members, zip(tables, errors, rows))}
    return [fitted[t][0] for t in range(len(plan.tables))], [fitted[t][1] for t in range(len(plan.tables))]


def sparse_tables(plan: Plan, sparse: bool | Literal["auto"] | None) -> list[bool]:
    """Which tables take sparse gradients: as asked; see `TableCollection.build`.

    A hashed table of few rows has dense gradients, however many ids it answers for.
    """
    wanted = [False] * len(plan.tables)
    for members in _alike(plan):
        method = plan.tables[members[0]].method
        if not method.tags.sparse_gradients:
            continue
        many = sparse
        if not isinstance(sparse, bool):
            holders = members[:1] if method.tags.shared_memory else members  # what tables share is there once
            shapes = [shape for t in holders for shape in _row_shapes(plan.tables[t])]
            rows, elements = (sum(numbers) for numbers in zip(*((n, n * width) for n, width in shapes)))
            many = rows > SPARSE_ROWS
            if sparse == "auto":  # torch's own dense gradient of a gather takes longer than the sparse one in any size
                many = many or not method.cls.lookup_op or elements > SPARSE_ELEMENTS
        for t in members:
            wanted[t] = bool(many)
    return wanted


def _row_shapes(table: TablePlan) -> list[tuple[int, int]]:
    """Shapes of the parameters that have a row an id or slot."""
    cls = table.method.cls
    made = cls(table.config.num_embeddings, table.embedding_dim, device="meta", **table.method.knobs)
    made = table.method.wrap(made)
    known = made.parameters_by_name().items()
    return [(p.shape[0], p[0].numel()) for name, p in known if name in made.row_parameters] or [(0, 0)]


def _alike(plan: Plan) -> Sequence[list[int]]:
    """Tables of one method and its modifiers; of one that shares memory, those that ask for the same memory."""
    by_key: dict[str, list[int]] = {}
    for t, table in enumerate(plan.tables):
        method = table.method
        key = str(method) if method.tags.shared_memory else "+".join([method.name, *map(str, method.modifiers)])
        by_key.setdefault(key, []).append(t)
    return list(by_key.values())
