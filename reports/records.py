"""Reading a run record, of which any part may be missing or not a number."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from embpress.reports import numerals

Record = Mapping[str, Any]


def finite(value: Any) -> float | None:
    """The value as a float, None where it is missing, not a number or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def part(record: Record, name: str) -> Mapping[str, Any]:
    """A dictionary inside the record, empty where it is missing."""
    found = record.get(name)
    return found if isinstance(found, Mapping) else {}


def items(record: Record, name: str) -> list[Any]:
    """A list inside the record, empty where it is missing."""
    found = record.get(name)
    return list(found) if isinstance(found, (list, tuple)) else []


def metric(record: Record, name: str) -> float | None:
    """A metric of the run; the ratio is worked out where only the sizes are there."""
    found = finite(part(record, "metrics").get(name))
    if found is None and name == "ratio":
        full, serving = metric(record, "full_bytes"), metric(record, "serving_bytes")
        return full / serving if full is not None and serving else None
    return found


def is_ok(record: Record) -> bool:
    """Whether the run came to its end."""
    return record.get("status") == "ok"


def is_full(record: Record) -> bool:
    """Whether this is a run with uncompressed tables, the reference of all others."""
    return (record.get("name") or record.get("method")) == "full"


def method(record: Record) -> str:
    """The method as the user gave it."""
    return str(record.get("method") or record.get("name") or "unnamed")


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
    return f"{ratio:g}×" if ratio is not None else numerals.size(budget) if budget is not None else ""


def protocol(record: Record) -> str:
    """Model and training settings as one key: only runs that share it may be compared."""
    return json.dumps([part(record, "model"), part(record, "training")], sort_keys=True, default=str)
