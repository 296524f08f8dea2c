"""`compress_model`: swaps the embedding modules of anybody's model for compressed ones, in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from torch import Generator, Tensor, nn

from embpress.compressors.base import Compressor, TableOptions
from embpress.compressors.errors import InputError
from embpress.compressors.modifiers.base import Modifier
from embpress.compressors.registry import available
from embpress.compressors.registry import method as method_named
from embpress.compressors.spec import MethodSpec, PlanFile, parse
from embpress.compressors.tables.build import build_tables
from embpress.compressors.tables.planning.plan import Plan, TableConfig
from embpress.compressors.tables.planning.proportional import kept_full, plan


class CompressedEmbedding(nn.Module):
    """Stands where an `nn.Embedding` stood: ids `(*)` → `(*, D)`, the padding row zero and never trained.

    Attributes:
        table: the compressor that answers.
    """

    def __init__(self, table: Compressor) -> None:
        super().__init__()
        self.table = table
        self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
        self.padding_idx = table.padding_idx

    def forward(self, input: Tensor) -> Tensor:
        """Rows of `input`, any shape of int32 or int64."""
        # as bags of one id, which tables that learn from what is looked up in training take notice of
        return self.table(input.reshape(-1, 1)).view(*input.shape, self.embedding_dim)


def compress_model(
    model: nn.Module,
    method: str | MethodSpec,
    *,
    ratio: float | None = None,
    budget: int | None = None,
    min_rows: int = 200,
    largest: int | None = None,
    from_weights: bool = False,
    generator: Generator | None = None,
) -> pd.DataFrame:
    """Replaces `nn.Embedding` and `nn.EmbeddingBag` modules of a model by compressed tables.

    Module names, mode, `padding_idx`, `include_last_offset`, device and dtype stay; modules that are one object, or
    that share one weight, share one compressed table afterwards. The size is one total over the replaceable modules,
    as in `TableCollection.build`: modules that stay full count.

    Args:
        model: changed in place.
        method: such as `"tt"` or `"robe:z=32"`.
        ratio, budget: size of all tables together.
        min_rows, largest: which tables stay as they are.
        from_weights: start near the trained weights, with a method that has `from_dense`, instead of afresh.
        generator: source of the initial values.

    Returns:
        One row a module: `module, num_embeddings, embedding_dim, method, bytes_before, bytes_after, ratio, note`, and
        under `from_weights` the relative Frobenius `error`, 0 for a table that stays full. A table that several
        modules share has its bytes in the first one's row.

    Raises:
        InputError: no embedding in the model or nothing else, a method that saves only by width under a ratio, or one
            that cannot start from weights.
        BudgetError: the size cannot be reached. In both cases the model is unchanged.
    """
    spec = parse(method) if isinstance(method, str) else method
    if from_weights and not spec.tags.from_dense:
        able = [name for name in available() if method_named(name).tags.from_dense]
        raise InputError(f"{spec.name} cannot start from trained weights, only {', '.join(able)} can")
    found = [
        (n, m) for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, (nn.Embedding, nn.EmbeddingBag))
    ]
    if not found:
        raise InputError("the model has no nn.Embedding and no nn.EmbeddingBag")
    if isinstance(model, (nn.Embedding, nn.EmbeddingBag)):
        raise InputError("the model is itself an embedding, which cannot be replaced in place: use create()")
    foreign = _foreign_parameters(model)
    tables: dict[int, list[tuple[str, Any]]] = {}
    notes: dict[int, str] = {}
    for name, module in found:
        key = id(module.weight)
        tables.setdefault(key, []).append((name, module))
        reason = _refusal(module) or (f"left full: its weight is also {foreign[key]}" if key in foreign else "")
        if reason:
            notes[key] = reason
    keys = [key for key in tables if key not in notes]
    configs = [TableConfig(*_shape(tables[key][0][1]), tables[key][0][0]) for key in keys]
    if not configs:
        raise InputError("no embedding of the model can be replaced: " + "; ".join(sorted(set(notes.values()))))
    made = plan(spec, configs, ratio=ratio, budget=budget, min_rows=min_rows, largest=largest)
    if any(table.embedding_dim != table.config.embedding_dim for table in made.tables):
        raise InputError(
            f"{spec.name} reaches a ratio only by a smaller width, and a model that is there already fixes its width: "
            "give no ratio, or build the model at the smaller width"
        )
    kept = _kept(made, spec, min_rows, largest)
    notes |= {keys[t]: note for t, note in kept.items()}
    chosen = [t for t in range(len(keys)) if t not in kept]
    labels = {keys[t]: str(made.tables[t].method if isinstance(spec, PlanFile) else spec) for t in chosen}
    modules = [tables[key][0][1] for key in keys]
    made_tables, made_errors = _build(made, modules, chosen, from_weights, generator)
    replaced = {keys[t]: table for t, table in made_tables.items()}
    errors = {keys[t]: error for t, error in made_errors.items()}
    rows = []
    swapped: dict[int, nn.Module] = {}  # a module under two names stays one module
    counted: set[int] = set()  # memory that tables share is in the row of the first
    for key, users in tables.items():
        for position, (name, module) in enumerate(users):
            n, dim = _shape(module)
            before = n * dim * module.weight.element_size() if position == 0 else 0
            after, label, note = before, "full", notes.get(key, "")
            if key in replaced:
                table = replaced[key]
                new = swapped.setdefault(id(module), _replacement(module, table))
                setattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], new)
                serving = table.ledger().serving
                after = sum(e.bytes for e in serving if e.owner not in counted) if position == 0 else 0
                counted |= {entry.owner for entry in serving if entry.owner is not None}
                label = labels[key]
                if table.tags.shared_memory:
                    note = "memory shared by all tables of this method; bytes in the first row"
            if position:
                note = f"shares the table of {users[0][0]}"
            share = before / after if after else float("nan")
            rows.append((name, n, dim, label, before, after, share, note, errors.get(key, 0.0)))
    columns = ["module", "num_embeddings", "embedding_dim", "method", "bytes_before", "bytes_after", "ratio", "note"]
    done = pd.DataFrame(rows, columns=[*columns, "error"])
    return done if from_weights else done[columns]


def optimizer_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups of a model with compressed tables.

    Returns:
        Up to four groups with a `name`: `sparse` (rows with sparse gradients, for an optimizer that takes them), `rows`
        (rows with dense gradients), `tables` (the other parameters of compressed tables) and `dense` (the rest).
        Parameters that update themselves are in none.
    """
    groups: dict[str, list[nn.Parameter]] = {"sparse": [], "rows": [], "tables": [], "dense": []}
    kinds: dict[int, str] = {}
    for table in (m for m in model.modules() if isinstance(m, Compressor) and not isinstance(m, Modifier)):
        for name, parameter in table.parameters_by_name().items():
            rows = "sparse" if table.sparse else "rows"
            kinds[id(parameter)] = (
                "fused" if table.tags.fused_update else rows if name in table.row_parameters else "tables"
            )
    for parameter in model.parameters():
        kind = kinds.get(id(parameter), "dense")
        if kind in groups and parameter.requires_grad:
            groups[kind].append(parameter)
    return [{"name": name, "params": parameters} for name, parameters in groups.items() if parameters]


def _shape(module: Any) -> tuple[int, int]:
    return module.num_embeddings, module.embedding_dim


def _foreign_parameters(model: nn.Module) -> dict[int, str]:
    """Parameters of modules that are no embeddings: id → where."""
    return {
        id(parameter): f"{name}.{own}" if name else own
        for name, module in model.named_modules()
        if not isinstance(module, (nn.Embedding, nn.EmbeddingBag))
        for own, parameter in module.named_parameters(recurse=False)
    }


def _refusal(module: Any) -> str:
    """Why a module cannot be replaced, or nothing."""
    if module.max_norm is not None:
        return "max_norm is not supported"
    if not module.weight.requires_grad:
        return "its weight is frozen"
    if module.scale_grad_by_freq:
        return "scale_grad_by_freq is not supported"
    if isinstance(module, nn.EmbeddingBag) and module.mode == "max":
        return "mode='max' is not supported"
    return ""


def _kept(made: Plan, spec: MethodSpec, min_rows: int, largest: int | None) -> dict[int, str]:
    """Tables that stay as they are, with the reason; a method that is itself `full` replaces what it is asked to."""
    configs = [table.config for table in made.tables]
    if isinstance(spec, PlanFile):
        return {t: "full in the plan" for t, table in enumerate(made.tables) if table.method.plain}
    return {
        t: f"under {min_rows} rows" if configs[t].num_embeddings < min_rows else f"not among the {largest} largest"
        for t, full in enumerate(kept_full(configs, min_rows, largest))
        if full
    }


def _build(
    made: Plan, modules: Sequence[Any], chosen: Sequence[int], from_weights: bool, generator: Generator | None
) -> tuple[dict[int, Compressor], dict[int, float]]:
    """The tables that replace the modules `chosen`, by number, and how far they are from the weights."""

    def options(t: int) -> TableOptions:
        module, bag = modules[chosen[t]], isinstance(modules[chosen[t]], nn.EmbeddingBag)
        return TableOptions(
            mode=module.mode if bag else "sum",
            include_last_offset=module.include_last_offset if bag else False,
            padding_idx=module.padding_idx,
            sparse=module.sparse and made.tables[chosen[t]].method.tags.sparse_gradients,
            device=module.weight.device,
            dtype=module.weight.dtype,
            generator=generator,
        )

    if not chosen:
        return {}, {}
    if not from_weights:
        part = Plan(tuple(made.tables[t] for t in chosen))
        return dict(zip(chosen, build_tables(part, options))), {}
    tables, errors = {}, {}
    for i, t in enumerate(chosen):
        method = made.tables[t].method
        table, errors[t] = method.cls.from_dense(modules[t].weight, **method.knobs, **options(i))  # type: ignore[attr-defined]
        tables[t] = method.wrap(table)
    return tables, errors


def _replacement(module: Any, table: Compressor) -> nn.Module:
    """What stands where the module was; modules that share a table but pool otherwise get a view of their own."""
    new: nn.Module
    if isinstance(module, nn.Embedding):
        new = CompressedEmbedding(_with(table, module, mode="sum", include_last_offset=False))
    else:
        new = _with(table, module, mode=module.mode, include_last_offset=module.include_last_offset)
    return new.train(module.training)


def _with(table: Compressor, module: Any, **attributes: Any) -> Compressor:
    """`table` itself, or where its pooling differs a shallow copy with the same parameters."""
    attributes["padding_idx"] = module.padding_idx
    if all(getattr(table, key) == value for key, value in attributes.items()):
        return table
    modules = dict(table._modules)
    if isinstance(table, Modifier):  # what pools is the table inside
        modules["table"] = _with(table.table, module, **attributes)
    twin = table.__class__.__new__(table.__class__)
    twin.__dict__ = {
        **vars(table),
        "_parameters": dict(table._parameters),
        "_modules": modules,
        **attributes,
    }
    return twin
