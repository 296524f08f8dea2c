"""What an exported model is, as `manifest.json` says it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from embpress.compressors import TableCollection
from embpress.dlrm.export.safetensors import name_of
from embpress.dlrm.measure.environment import package
from embpress.dlrm.runs.checkpoint import Checkpoint
from embpress.dlrm.runs.record import Run, fingerprint

SCHEMA = "embpress-export/1"
# what of a record tells how good the model is, measured when it was trained
_METRICS = ("auc", "auc_trained", "log_loss", "accuracy", "valid_auc", "best_epoch", "full_bytes")


def _order(run: Run) -> str:
    """How the rows of a table follow one another, in words."""
    random = run.data.about.get("number_ids") == "random"
    return "in an order drawn at random" if random else "by falling frequency in the rows trained on"


def manifest(
    checkpoint: Checkpoint, folded: TableCollection, weights: Mapping[str, Tensor], multi_hot: list[int]
) -> dict[str, Any]:
    """The manifest, but for the files that are written.

    Args:
        checkpoint: what is exported.
        folded: its tables as they are served.
        weights: the tensors of the weights' file.
        multi_hot: the features with bags of ids.
    """
    run = checkpoint.run
    serving = folded.serving_bytes
    return {
        "schema": SCHEMA,
        "embpress": package("embpress") or "not installed",
        "torch": torch.__version__,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "source": {
            "run": run.id,
            "method": run.method,
            "seed": run.seed,
            "command": run.command,
            "created": run.created,
            "embpress": run.environment.get("embpress"),
            "metrics": {name: run.metrics[name] for name in _METRICS if name in run.metrics},
        },
        "model": {
            "name": checkpoint.model.name,
            "width": folded.embedding_dim,
            "configuration": checkpoint.model.configuration,
            "bfloat16_layers": checkpoint.model.amp,
        },
        "inputs": _inputs(checkpoint, multi_hot),
        "output": {"name": "probability", "shape": ["batch"], "dtype": "float32", "what": "of a click"},
        "vocabulary": {
            "what": "ids are those of the data with this fingerprint: row 0 is for missing, unseen and rare values, "
            f"the others follow {_order(run)}",
            "data": run.data.name,
            "format": run.data.format,
            "fingerprint": run.data.fingerprint,
            "split": run.data.split,
            "min_count": run.data.min_count,
            "sizes": fingerprint(list(run.data.num_embeddings)),
        },
        "tables": _tables(checkpoint, folded),
        "bytes": {
            "tables": serving,
            "full_tables": folded.full_bytes,
            "ratio": folded.full_bytes / serving,
            "weights": sum(tensor.nbytes for tensor in weights.values()),
        },
        "tensors": {
            name: {"shape": list(tensor.shape), "dtype": name_of(tensor.dtype), "bytes": tensor.nbytes}
            for name, tensor in weights.items()
        },
    }


def _inputs(checkpoint: Checkpoint, multi_hot: list[int]) -> list[dict[str, Any]]:
    data = checkpoint.run.data
    inputs: list[dict[str, Any]] = [
        {
            "name": "dense",
            "shape": ["batch", checkpoint.model.num_dense],
            "dtype": "float32",
            "columns": list(data.dense),
            "what": "log(1 + max(x, 0)); 0 where missing",
        },
        {"name": "ids", "shape": ["batch", len(data.features)], "dtype": "int64", "columns": list(data.features)},
    ]
    if multi_hot:
        inputs[1]["what"] = "zeros in the columns of features that have bags"
        inputs.append(
            {
                "name": "bags",
                "what": "a list with values and offsets of each of these features; offsets say where a bag starts",
                "columns": [data.features[f] for f in multi_hot],
                "shape": [["values"], ["batch"]],
                "dtype": "int64",
            }
        )
    return inputs


def _tables(checkpoint: Checkpoint, folded: TableCollection) -> list[dict[str, Any]]:
    group_of = {t: g for g, members in enumerate(folded.members) for t in members}
    return [
        {
            "name": planned.config.name,
            "num_embeddings": planned.config.num_embeddings,
            "embedding_dim": planned.embedding_dim,
            "method": planned.method.name,
            "knobs": planned.method.knobs,
            "modifiers": [{"name": one.name, "knobs": one.knobs} for one in planned.method.modifiers],
            "served_as": table.spec_name,
            "tensors": f"tables.groups.{group_of[t]}.",
            "bytes": size,
        }
        for t, (planned, table, size) in enumerate(zip(checkpoint.plan.tables, folded.tables, folded.table_bytes()))
    ]
