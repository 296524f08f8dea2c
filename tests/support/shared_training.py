"""A click model trained by a rank of two, or by one process, on the same small data."""

import hashlib
import warnings
from dataclasses import replace
from functools import cache

import torch

from embpress.compressors import parse
from embpress.dlrm.data import load
from embpress.dlrm.runs.experiment import build_model, build_tables
from embpress.dlrm.training.settings import resolve

COUNTED = (".keys", ".counts", ".used")  # what each rank counts by itself, and adds up with the others when it is due


@cache
def data():
    return load(rows=3000, scale=0.001, min_count=1)


def settings(**options):
    """17 batches of 127 samples and one of a single sample, of which one of two ranks gets none."""
    return replace(resolve(3000, **{"threads": 1, "batch_size": 127, "ratio": 4, **options}), latency_seconds=0.0)


def model_of(spec, settings, seed=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that ranks are told of their generators is not the matter here
        tables = build_tables(data(), parse(spec), settings, seed)
    model = build_model(data(), tables, settings, seed)
    return model.train()


def digests(model, optimizers):
    """A hash of every tensor that a model and its optimizers hold, by name, and of all rows."""
    held = {name: value for name, value in model.state_dict().items() if not name.endswith(COUNTED)}
    held |= {f"rows {t}": table.to_dense() for t, table in enumerate(model.tables.tables)}
    for o, optimizer in enumerate(optimizers):
        for p, state in enumerate(optimizer.state.values()):
            held |= {f"optimizer {o} {p} {k}": v for k, v in state.items() if isinstance(v, torch.Tensor)}
    return {
        name: hashlib.sha256(value.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        if value.numel() and value.dim()
        else str(value)
        for name, value in held.items()
    }
