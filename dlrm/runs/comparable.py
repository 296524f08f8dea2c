"""Which runs may be compared: those on the same data, with the same model, trained alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from embpress.compressors import InputError
from embpress.dlrm.runs.record import Run


def protocol_key(run: Run) -> str:
    """Text that comparable runs share, and no others."""
    return json.dumps(run.protocol, sort_keys=True, default=str)


def most_shared(keys: Iterable[tuple[str, int]]) -> str:
    """Of (key, number of runs) pairs the key that most runs share, the first of several; empty without any."""
    counts: dict[str, int] = {}
    for key, number in keys:
        counts[key] = counts.get(key, 0) + number
    return max(counts, key=lambda key: counts[key], default="")


def difference(one: Run, other: Run) -> str:
    """What keeps two runs apart, in words; empty where they may be compared."""
    if one.data.fingerprint != other.data.fingerprint:
        return f"on other data ({one.data.name} and {other.data.name}, or another split)"
    for part in ("model", "training"):
        ours, theirs = one.protocol[part], other.protocol[part]
        for key in {**ours, **theirs}:
            # what is new may hold tuples where a record holds lists
            values = [json.dumps(held.get(key)) for held in (ours, theirs)]
            if values[0] != values[1]:
                name = part if key == "name" else key.replace("_", " ")
                return f"with another {name} ({ours.get(key)} and {theirs.get(key)})"
    return ""


def check_comparable(runs: Sequence[Run], folder: Path) -> None:
    """Raises InputError unless all runs are of one data set and one way of training."""
    for other in runs[1:]:
        reason = difference(runs[0], other)
        if reason:
            raise InputError(f"{folder} holds runs {reason}: give each comparison a folder of its own with --out")
