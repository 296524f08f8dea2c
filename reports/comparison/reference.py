"""The test AUC that is published for a data set beside the one that was reached."""

from __future__ import annotations

from collections.abc import Sequence

from embpress.dlrm.data.named import datasets
from embpress.reports import numerals
from embpress.reports.summary import Summary


def reference(rows: Sequence[Summary]) -> str:
    """One sentence with the published AUC, its source, and that of the full tables here.

    Empty where the runs are not all of one public data set with its published test part, or none is published for it.
    """
    names = {run.data.published for row in rows for run in (*row.runs, *row.lost)}
    name = names.pop() if len(names) == 1 else None
    dataset = None if name is None else datasets().get(name)
    if dataset is None or dataset.auc is None:
        return ""
    own = next((row.mean("auc") for row in rows if row.is_full and row.mean("auc") is not None), None)
    here = "no full tables were run here" if own is None else f"full tables here {numerals.score(own)}"
    return f"Published test AUC on {name}: {numerals.score(dataset.auc)} ({dataset.auc_from}); {here}"
