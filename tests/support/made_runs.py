"""Made runs of many methods, sizes and seeds, as records: what reports of any length are looked at with."""

import random

from embpress.dlrm.runs.record import Run

# as people write them; the first five are a small comparison
METHODS = (
    *("full", "robe+int4", "tt+int4", "qr+int4", "hash+int4", "mlet+int4", "narrow+int4", "top+int4", "unified+int4"),
    *("cce+int4", "dhe", "sketch+int4", "lowrank+int4", "md+int4", "prune", "robe", "tt:rank=16:init=sampled-gaussian"),
    *("qr:op=concat:parts=3", "hash:parts=4+int4", "robe:z=8+hot:fraction=0.01+int8"),
)
ROWS = {f"C{i}": max(4, 90_000 // (i * i)) for i in range(1, 27)}
FULL_BYTES = 64 * sum(ROWS.values())


def made_runs(methods: int = 20, seeds: int = 5, ratios: tuple[float, ...] = (4.0, 16.0, 64.0)) -> list[Run]:
    """Each method with each seed at each ratio; full tables have one size and count once a seed and ratio asked for."""
    found = []
    for seed in range(seeds):
        shared = random.Random(seed).gauss(0, 0.0012)  # what a seed does to all methods alike
        for i, method in enumerate(METHODS[:methods]):
            for ratio in ratios[:1] if method == "full" else ratios:
                loss = 0.0 if i == 0 else (0.0005 + 0.0012 * i) * (ratio / 16) ** 0.5 - 0.002
                own = random.Random(f"{seed}{method}{ratio}").gauss(0, 0.0006)
                found.append(made_run(method, seed, None if i == 0 else ratio, 0.745 - loss + shared + own, i))
    return found


def made_run(method: str, seed: int, ratio: float | None, auc: float, i: int = 0, **changes: object) -> Run:
    """One run at an asked ratio (None: full tables)."""
    name, *modifiers = method.split("+")
    name = name.partition(":")[0]
    noise = random.Random(f"{method}{seed}{ratio}")
    serving = round(FULL_BYTES / (ratio or 1.0))
    lookup = 30.0 + 9 * i
    record = {
        "method": method,
        "name": name,
        "modifiers": modifiers,
        "is_full": method == "full",
        "is_baseline": name in ("full", "narrow", "top"),
        "seed": seed,
        "asked": {"ratio": ratio},
        "status": "ok",
        "latency_of_seed": 0,
        "metrics": {
            "serving_bytes": serving,
            "full_bytes": FULL_BYTES,
            "training_bytes": round(2.5 * serving),
            "ratio": ratio or 1.0,
            "auc": auc,
            "valid_auc": auc + noise.gauss(0, 0.001),
            "log_loss": 0.46 + (0.745 - auc) / 2,
            "accuracy": 0.78 + (auc - 0.745) / 2,
            "best_epoch": 2,
            "step_ms": 3.0 + i / 4 + noise.random() / 5,
            "train_seconds": 31.5,
            **{f"lookup_p50_us_b{b}": lookup * (b / 128) ** 0.5 for b in (1, 128, 2048)},
            **{f"lookup_p99_us_b{b}": 1.8 * lookup * (b / 128) ** 0.5 for b in (1, 128, 2048)},
            **({"auc_trained": auc + 0.0004} if modifiers else {}),
        },
        "tables": [
            {
                "feature": feature,
                "num_embeddings": rows,
                "embedding_dim": 16,
                "method": method if rows > 200 else "full",
                "is_full": method == "full" or rows <= 200,
                "serving_bytes": round(rows * 64 / (ratio or 1.0)) if rows > 200 else rows * 64,
                "full_bytes": rows * 64,
                "row0_share": 0.1,
            }
            for feature, rows in ROWS.items()
        ],
        "learning_curve": [
            {
                "step": 50 * k,
                "epoch": k / 8,
                "train_loss": 0.46 + (0.745 - auc) + 0.23 / (k + 1) + noise.gauss(0, 0.002),
                "valid_auc": auc - 0.2 / (k + 1) ** 1.3 + noise.gauss(0, 0.0006),
            }
            for k in range(25)
        ],
        "data": {
            "name": "made",
            "format": "criteo",
            "fingerprint": "9f2c",
            "rows": {"train": 144_000, "valid": 16_000, "test": 40_000},
            "label_mean": 0.248,
            "features": list(ROWS),
            "num_embeddings": list(ROWS.values()),
            "dense": [f"I{k}" for k in range(1, 14)],
            "split": "order",
            "min_count": 2,
            "row0_share": [0.3 / k for k in range(1, 27)],
            "row0_share_total": 0.05,
        },
        "model": {"name": "dlrm", "preset": "default", "width": 16},
        "training": {"optimizer": "adagrad", "learning_rate": 0.02, "batch_size": 256, "epochs": 3},
        "environment": {"embpress": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "cpu": "Some CPU", "threads": 1},
        "backend": "native",
        "device": "cpu",
        "command": "embpress compare made.txt --format criteo --methods all --ratio 16 --seeds 5",
        "created": f"2026-11-21T10:0{seed}:00Z",
    }
    return Run.from_json({**record, **changes})
