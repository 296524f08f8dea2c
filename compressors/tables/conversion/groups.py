"""Parameter groups for the optimizer of a model with compressed tables."""

from __future__ import annotations

from typing import Any

from torch import nn

from embpress.compressors.base import Compressor
from embpress.compressors.modifiers.base import Modifier


def optimizer_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups of a model with compressed tables.

    Returns:
        Up to four groups with a `name`: `sparse` (rows with sparse gradients, for an optimizer that takes them), `rows`
        (rows with dense gradients), `tables` (the other parameters of compressed tables) and `dense` (the rest).
        Parameters that update themselves are in none.
    """
    groups: dict[str, list[nn.Parameter]] = {"sparse": [], "rows": [], "tables": [], "dense": []}
    kinds: dict[int, str] = {}
    for table in (m for m in model.modules() if isinstance(m, Compressor)):
        rows = "sparse" if table.sparse else "rows"
        for name, parameter in table.parameters_by_name().items():
            if table.tags.fused_update and not isinstance(table, Modifier):
                kinds[id(parameter)] = "fused"
            elif name in table.row_parameters:
                kinds[id(parameter)] = rows
            elif not isinstance(table, Modifier):
                kinds[id(parameter)] = "tables"
    for module in model.modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse:  # left as it was
            kinds[id(module.weight)] = "sparse"
    for parameter in model.parameters():
        kind = kinds.get(id(parameter), "dense")
        if kind in groups and parameter.requires_grad:
            groups[kind].append(parameter)
    return [{"name": name, "params": parameters} for name, parameters in groups.items() if parameters]
