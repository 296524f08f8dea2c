"""Made run records: what the reports are tested on."""

import random
import re
from dataclasses import replace
from typing import Any

import pytest

from embpress.dlrm.runs.record import Asked, Run
from embpress.reports.metrics import METRICS

ROWS = {f"C{i}": max(4, 90_000 // (i * i)) for i in range(1, 41)}
FULL_BYTES = sum(ROWS.values()) * 64


def make_run(method: str = "tt:rank=16", seed: int = 0, **changes: Any) -> Run:
    """One run; `changes` replace its fields, `auc`, `ratio` and other metrics go to the metrics."""
    name, _, spec = method.partition(":")
    noise = random.Random(f"{method}{seed}")
    ratio = float(changes.pop("ratio", 1.0 if name == "full" else 16.0))
    auc = changes.pop("auc", 0.74)
    lookup = changes.pop("lookup", 40.0)
    metrics: dict[str, Any] = {
        "serving_bytes": round(FULL_BYTES / ratio),
        "full_bytes": FULL_BYTES,
        "training_bytes": round(FULL_BYTES / ratio * 1.5),
        "ratio": ratio,
        "auc": auc,
        "auc_last": auc - 0.002,
        "valid_auc": auc,
        "log_loss": 0.46 + noise.random() / 100,
        "accuracy": 0.78 + noise.random() / 100,
        "best_epoch": 2,
        "step_ms": 9 + noise.random(),
        "train_seconds": 31.5,
        "train_samples_per_s": 28_000.0,
        "peak_memory_bytes": 512_000_000,
        "inference_samples_per_s": 410_000.0,
    }
    for batch, times in ((1, 1.0), (128, 2.2), (2048, 14.0)):
        for percent, late in ((50, 1.0), (95, 1.2), (99, 1.7)):
            metrics[f"lookup_p{percent}_us_b{batch}"] = lookup * times * late / 2.2
            metrics[f"model_p{percent}_us_b{batch}"] = (lookup + 150) * times * late
    metrics |= {key: changes.pop(key) for key in list(changes) if key in METRICS}
    found = {
        "method": method,
        "name": name,
        "is_full": name == "full",
        "is_baseline": name.partition("+")[0] in ("full", "narrow"),
        "knobs": dict(part.split("=") for part in re.split("[:,]", spec) if "=" in part),
        "seed": seed,
        "status": "ok",
        "latency_of_seed": seed,
        "metrics": metrics,
        "tables": [
            {
                "feature": feature,
                "num_embeddings": rows,
                "embedding_dim": 16,
                "method": "full" if rows < 300 else name,
                "is_full": rows < 300 or name == "full",
                "serving_bytes": rows * 64 if rows < 300 else round(rows * 64 / ratio),
                "full_bytes": rows * 64,
                "row0_share": 0.3,
            }
            for feature, rows in ROWS.items()
        ],
        "learning_curve": [
            {
                "step": 50 * k,
                "epoch": k / 8,
                "train_loss": 0.46 + 0.23 / (k + 1) + noise.gauss(0, 0.002),
                "valid_auc": auc - 0.2 / (k + 1) ** 1.3 + noise.gauss(0, 0.0008),
                "valid_log_loss": 0.5,
            }
            for k in range(25)
        ],
        "data": {
            "name": "criteo_kaggle_10k",
            "format": "criteo",
            "fingerprint": "9f2c",
            "rows": {"train": 8000, "valid": 1000, "test": 1000},
            "label_mean": 0.2562,
            "features": list(ROWS),
            "num_embeddings": list(ROWS.values()),
            "dense": [f"I{i}" for i in range(1, 14)],
            "split": "by time: first 80 % train, next 10 % valid, last 10 % test",
            "min_count": 2,
            "best_auc": None,
            "row0_share": [0.9 / i for i in range(1, 41)],
            "row0_share_total": 0.18,
            "about": {"source": "first lines of the public sample"},
        },
        "model": {"name": "dlrm", "preset": "default", "width": 16, "bottom": [13, 64, 16], "top": [367, 128, 1]},
        "training": {"optimizer": "adagrad", "learning_rate": 0.02, "batch_size": 256, "epochs": 3},
        "environment": {
            "embpress": "0.1.0",
            "python": "3.11.7",
            "torch": "2.13.0+cpu",
            "platform": "Linux",
            "cpu": "Some CPU",
            "threads": 2,
            "packages": {"numpy": "2.4.6", "pandas": "3.1.1"},
        },
        "backend": "reference",
        "device": "cpu",
        "predictions": "predictions.npy",
        "command": "embpress compare criteo_kaggle_10k --methods full,tt:rank=16 --seeds 3",
        "created": f"2026-11-21T10:0{seed}:00Z",
        **changes,
    }
    return Run.from_json(found)


def make_lost(method: str, seed: int = 0, status: str = "failed", **changes: Any) -> Run:
    """A run that gave no metrics."""
    empty = {"metrics": {}, "tables": [], "learning_curve": [], "backend": "", "reason": "out of memory"}
    return make_run(method, seed, **{**empty, "latency_of_seed": None, "status": status, **changes})


def make_set(seeds: int = 3, best_auc: float | None = None) -> list[Run]:
    """A likely comparison: five compressed methods near 16×, one out of reach, one failed."""
    means = {
        "full": (0.7450, 1.0, 31.0),
        "tt:rank=16": (0.7421, 16.4, 96.0),
        "robe:size=150k": (0.7416, 16.0, 41.0),
        "qr:collisions=16": (0.7389, 15.2, 52.0),
        "hash": (0.7335, 16.0, 29.0),
        "mlet:width=64": (0.7458, 1.0, 31.5),
    }
    runs = []
    for seed in range(seeds):
        shared = random.Random(seed).gauss(0, 0.0012)  # what the seed does to all methods alike
        for method, (auc, ratio, lookup) in means.items():
            own = random.Random(f"{seed}{method}").gauss(0, 0.0005)
            runs.append(make_run(method, seed, auc=auc + shared + own, ratio=ratio, lookup=lookup))
        asked = {"ratio": 16.0, "budget": None}
        smallest = {"bytes": FULL_BYTES // 4, "ratio": 4.0}
        runs.append(make_lost("lowrank", seed, "cannot reach", reason="rank 1", asked=asked, smallest=smallest))
        runs.append(make_lost("dhe:hashes=1024", seed, reason="RuntimeError: loss is nan | stopped"))
    return [
        replace(run, data=replace(run.data, best_auc=best_auc), asked=Asked() if run.is_full else Asked(16.0))
        for run in runs
    ]


@pytest.fixture
def run():
    return make_run


@pytest.fixture
def lost():
    return make_lost


@pytest.fixture
def runs():
    return make_set()


@pytest.fixture
def run_set():
    return make_set
