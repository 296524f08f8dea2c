"""Data in two or three lines for a terminal."""

from __future__ import annotations

from embpress.compressors.guard import counted, listed
from embpress.dlrm.data.base import ClickData


def describe(data: ClickData) -> str:
    """Rows of each part and label mean; features and vocabulary; which columns are what and which were guessed."""
    rows = f"{len(data.train):,} train, {len(data.valid):,} valid, {counted(len(data.test), 'test row')}"
    best = "" if data.best_auc is None else f"; best reachable AUC {data.best_auc:.4f}"
    lines = [f"{data.name} ({data.format}): {rows}; label mean {data.about['label_mean']:.3f}{best}"]
    looked_up = sum(data.row0_share) / len(data.row0_share)
    bags = f" ({len(data.train.bags)} multi-hot)" if data.train.bags else ""
    lines.append(
        f"{counted(len(data.features), 'sparse feature')}{bags}, {counted(sum(data.num_embeddings), 'table row')}; "
        f"{looked_up:.1%} of test lookups fall on row 0 (missing, unseen or rare)"
    )
    columns = data.about.get("columns")
    if columns:
        guessed = columns["guessed"]
        named = [
            f"{role}{' (guessed)' if role in guessed else ''}: {listed(names) or 'none'}"
            for role, names in (
                ("label", [columns["label"]]),
                ("dense", columns["dense"]),
                ("sparse", columns["sparse"]),
            )
        ]
        lines.append("; ".join(named))
    return "\n".join(lines)
