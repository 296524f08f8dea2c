"""Parts of a run as short text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from embpress.compressors.guard import times
from embpress.dlrm.runs.record import Run
from embpress.reports import numerals


def scalar_text(value: Any) -> str:
    """A knob or setting as short text."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False, default=str)


def knobs_text(knobs: Mapping[str, Any]) -> str:
    """Knobs as one compact string: `rank=16 init=sampled-gaussian`."""
    return " ".join(f"{name}={scalar_text(value)}" for name, value in knobs.items())


def asked_text(ratio: float | None, budget: float | None) -> str:
    """The size that was asked for: `64×`, `1.5 MB`, or nothing."""
    return times(ratio) if ratio is not None else numerals.size(budget) if budget is not None else ""


def lost_text(run: Run) -> str:
    """Why a run gave no result; of a size that cannot be reached also the smallest that can."""
    if run.status != "cannot reach":
        return f"failed: {run.reason}" if run.reason else "failed"
    text = f"cannot reach {asked_text(run.asked.ratio, run.asked.budget) or 'the size'}"
    if run.smallest is None:
        return f"{text}: {run.reason}" if run.reason else text
    by_ratio = run.asked.ratio is not None
    return f"{text}, smallest {times(run.smallest.ratio) if by_ratio else numerals.size(run.smallest.bytes)}"
