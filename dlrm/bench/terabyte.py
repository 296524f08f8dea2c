"""Trains a few steps of a DLRM with Criteo-Terabyte's tables; a program of its own, so that its peak memory is its own.

`python -m embpress.dlrm.bench.terabyte '{"scale": 1, "batch_size": 2048, "rank": 32, "threads": 2}' answer.json`, with
`"device": "cuda"` on a GPU.
"""

from __future__ import annotations

import json
import math
import resource
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from embpress.compressors import parse
from embpress.dlrm.bench.step import bench_model, bench_settings, scaled, step_inputs, training_step
from embpress.dlrm.bench.timing import seconds_of
from embpress.dlrm.measure.clock import Clock
from embpress.dlrm.measure.device import make_current
from embpress.dlrm.measure.memory import device_peak_bytes
from embpress.dlrm.runs.store import write_atomic

# MLPerf training's DLRM on Criteo Terabyte, ids hashed to at most 40 million a table: 204,184,588 rows
TERABYTE_ROWS = (
    40000000, 39060, 17295, 7424, 20265, 3, 7122, 1543, 63, 40000000, 3067956, 405282, 10, 2209, 11938, 155, 4, 976,
    14, 40000000, 40000000, 40000000, 590152, 12973, 108, 36,
)  # fmt: skip
LARGE = 10_000  # tables of so many rows are tensor trains
_STEPS = 8


def peak_resident_bytes() -> int:
    """Peak bytes of this process in memory.

    Linux's own count for the program is preferred: `ru_maxrss` starts from what the parent held at the fork.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return 1024 * int(line.split()[1])
    except OSError:
        pass  # not Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def train_terabyte(scale: float, batch_size: int, rank: int, device: str = "cpu") -> dict[str, Any]:
    """Setting and figures of a few training steps (SGD, MLPerf's MLPs, Zipf ids)."""
    before = peak_resident_bytes()
    sizes = scaled(TERABYTE_ROWS, scale)
    generator = Generator().manual_seed(0)
    settings = bench_settings("terabyte", batch_size, device, min_rows=max(2, int(LARGE * scale)))
    make_current(settings.device)
    clock = Clock(settings.device)
    model = bench_model(sizes, parse(f"tt:rank={rank}"), settings, generator)
    step = training_step(model, settings, step_inputs(sizes, batch_size, generator, device=device))
    times = [seconds_of(step, clock, i) for i in range(_STEPS)]
    on_device = device_peak_bytes(settings.device)
    ledger = model.tables.ledger(settings.optimizer, batch_size)
    network = [*model.bottom.parameters(), *model.top.parameters()]
    if not all(bool(p.isfinite().all()) for p in network):
        raise RuntimeError("training went to infinity")
    return {
        "setting": {
            "rows": sum(sizes),
            "tables": len(sizes),
            "tt_tables": sum(n >= settings.min_rows for n in sizes),
            "dim": settings.width,
            "rank": rank,
            "batch": batch_size,
            "ids": "zipf 1.05",
            "optimizer": settings.optimizer,
            "pass": "training step",
        },
        "figures": {
            "steps": _STEPS,
            "step_s": statistics.median(times[1:]),
            "resident_bytes": peak_resident_bytes(),
            "resident_before_bytes": before,  # python and torch
            **({} if on_device is None else {"peak_device_bytes": on_device}),
            "ledger_bytes": ledger.training_bytes,
            "network_bytes": 2 * sum(p.numel() * p.element_size() for p in network),  # and their gradients
            "serving_bytes": ledger.serving_bytes,
            "full_bytes": model.tables.full_bytes,
        },
    }


def main(asked: str, answer: str) -> None:
    """Runs what the JSON `asked` says and writes the JSON file `answer`."""
    arguments = json.loads(asked)
    torch.set_num_threads(arguments.pop("threads"))
    result = train_terabyte(**arguments)
    if not math.isfinite(result["figures"]["step_s"]):
        raise RuntimeError("no step was timed")
    write_atomic(Path(answer), lambda file: file.write(json.dumps(result).encode()))


if __name__ == "__main__":
    main(*sys.argv[1:])
