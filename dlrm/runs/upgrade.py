"""Records of earlier schemas in the present form."""

from __future__ import annotations

from typing import Any

from embpress.compressors import InputError
from embpress.compressors.registry import modifier
from embpress.dlrm.runs.record import SCHEMA, Smallest

_KNOBS = {
    "tt": {"rows": "row_factors", "columns": "column_factors", "cores": "num_cores"},
    "robe": {"start": "row_offset"},
}
_SCORES = ("auc", "auc_last", "log_loss", "accuracy")  # of the test part

_FULL = "full"
_BASELINES = ("full", "full-tbe")  # of schema 2
_TRAINED_ONLY = "an earlier version measured it as trained, not as served: the same command runs it again"


def _renamed(name: str, knobs: dict[str, Any]) -> dict[str, Any]:
    return {_KNOBS.get(name, {}).get(knob, knob): value for knob, value in knobs.items()}


def _from_1(old: dict[str, Any]) -> dict[str, Any]:
    """Schema 1: other names of knobs, latency measured by every seed, one click model with the ends of its MLPs."""
    name, metrics, smallest, model = old["name"], old["metrics"], old.get("smallest"), old["model"]
    parts = [part.partition("=") for part in old["method"].split(":")[1:]]
    knobs = [_KNOBS.get(name, {}).get(knob, knob) + mark + value for knob, mark, value in parts]
    full_bytes = sum(4 * n * model["width"] for n in old["data"]["num_embeddings"])
    measured = any(metric.startswith("lookup_") for metric in metrics)
    return {
        **old,
        "method": ":".join([old["method"].split(":")[0], *knobs]),
        "knobs": _renamed(name, old["knobs"]),
        "tables": [{**table, "knobs": _renamed(table["method"], table["knobs"])} for table in old["tables"]],
        "model": {
            **model,
            "name": "dlrm",
            "preset": model["name"],
            "bottom": model["bottom"][1:-1],
            "top": model["top"][:-1],
        },
        "smallest": smallest and vars(Smallest.of(smallest["bytes"], full_bytes)),
        "latency_of_seed": old["seed"] if measured else None,
    }


def _with_full(record: dict[str, Any]) -> dict[str, Any]:
    """With what tells plain tables, which the first records of schema 2 left to the method's name."""
    if "is_full" in record or "name" not in record:
        return record
    tables = [
        {**table, "is_full": table.get("method") == _FULL and not table.get("modifiers")}
        for table in record.get("tables", [])
    ]
    return {**record, "is_full": record["name"] == _FULL and not record.get("modifiers"), "tables": tables}


def _served(record: dict[str, Any]) -> dict[str, Any]:
    """Schema 2: test scores were those of the model as trained, whatever its modifiers made of it later."""
    modifiers = record.get("modifiers") or ()
    found = {**record, "is_baseline": record.get("name") in _BASELINES and all(map(_at_fold, modifiers))}
    of_tables = (one for table in record.get("tables", ()) for one in table.get("modifiers") or ())
    if record.get("status") != "ok" or not any(map(_at_fold, {*modifiers, *of_tables})):
        return found
    metrics = {key: value for key, value in record["metrics"].items() if key not in _SCORES}
    metrics |= {f"{key}_trained": record["metrics"][key] for key in ("auc", "log_loss") if key in record["metrics"]}
    return {**found, "status": "failed", "reason": _TRAINED_ONLY, "metrics": metrics}


def _at_fold(text: str) -> bool:
    """Whether a modifier as written in a spec is applied by `fold()` alone; one that is unknown here may be."""
    try:
        return modifier(text.partition(":")[0]).at_fold
    except InputError:
        return True


def upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """A record of any schema that this program has had, in the present one; of others as it is.

    Raises:
        ValueError: the record lacks what its schema asks for.
    """
    schema = record.get("schema")
    if schema not in ("embpress-run/1", "embpress-run/2"):
        return record
    try:
        found = _with_full(_from_1(record) if schema == "embpress-run/1" else record)
        return {**_served(found), "schema": SCHEMA}
    except KeyError as error:
        raise ValueError(f"it lacks {error.args[0]}") from None
    except (AttributeError, TypeError) as error:
        raise ValueError(f"it is not of its schema: {error}") from None
