"""What became of each module of a converted model, as a data frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from embpress.compressors.base import Compressor
from embpress.compressors.tables.conversion.find import Found
from embpress.compressors.tables.sharing import divided

_COLUMNS = ["module", "num_embeddings", "embedding_dim", "method", "bytes_before", "bytes_after", "ratio", "note"]


def report(
    found: Sequence[Found], made: Mapping[int, tuple[Compressor, str, float]], with_errors: bool
) -> pd.DataFrame:
    """One row a module, see `compress_model`.

    Args:
        found: all tables of the model.
        made: the compressed ones by number, with what made them and their relative error.
    """
    sizes = dict(zip(made, divided([table for table, _, _ in made.values()])))
    rows = []
    for t, table in enumerate(found):
        n, dim, first = table.config
        before = n * dim * table.weight.element_size()
        after, label, error, note = sizes.get(t, before), "full", 0.0, table.note
        if t in made:
            compressed, label, error = made[t]
            note = "memory shared by all tables of this method" if compressed.tags.shared_memory else ""
            if with_errors and any(_padding(table.weight, module) for _, module in table.users):
                note = "the padding row was not zero and is now"
        rows.append((first, n, dim, label, before, after, before / after, note, error))
        others = [(name, f"shares the table of {first}") for name, _ in table.users[1:]]
        others += [(name, f"a linear layer that has the weight of {first}") for name, _ in table.heads]
        rows += [(name, n, dim, label, 0, 0, float("nan"), note, error) for name, note in others]
    done = pd.DataFrame(rows, columns=[*_COLUMNS, "error"])
    done.attrs["ratio"] = float(done["bytes_before"].sum() / done["bytes_after"].sum())
    return done if with_errors else done[_COLUMNS]


def _padding(weight: Tensor, module: Any) -> bool:
    """Whether a module's padding row holds anything."""
    return module.padding_idx is not None and bool(weight[module.padding_idx].any())
