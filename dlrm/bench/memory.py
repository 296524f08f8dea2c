"""Cases of memory: what a step needs beside the cores, and a model whose full tables would not fit."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from embpress.compressors.methods.tt.table import TTRec
from embpress.dlrm.bench.baselines import NotMeasured
from embpress.dlrm.bench.case import Case, Context, Row
from embpress.dlrm.bench.inputs import training, uniform
from embpress.dlrm.measure.memory import peak_bytes

_LIMIT_S = 1800
PROFILER, PROCESS = "allocator", "own process"  # how memory is seen; these rows have no baseline


def memory_case(name: str, rows: int, rank: int = 32) -> Case:
    """Peak bytes that a forward and backward hold beyond the cores' own gradients.

    They are those of torch's allocator's events and what the native ops keep for themselves.
    """

    def run(context: Context, row: Row) -> None:
        size, generator = context.size, context.generator()
        table = TTRec(rows, size.dim, rank=rank, generator=generator, device=context.device)
        offsets = torch.arange(size.batch, device=context.device)
        inputs = [(uniform(rows, size.batch, generator).to(context.device), offsets)]
        grad = torch.randn(size.batch, size.dim, generator=generator).to(context.device)
        step = training(table, inputs, grad)
        step(0)
        table.zero_grad(set_to_none=True)  # so that the measured step makes its gradients, as every step does
        peak = peak_bytes(lambda: step(0), context.device)
        cores = sum(core.numel() * core.element_size() for core in table.cores)
        row.setting = {
            "rows": rows, "dim": size.dim, "rank": rank, "cores": 3, "batch": size.batch, "ids": "uniform",
            "dtype": "float32", "pass": "forward + backward",
        }  # fmt: skip
        row.figures = {
            "peak_bytes": peak,
            "gradient_bytes": cores,
            "extra_bytes": peak - cores,
            "ledger_activation_bytes": _activations(table, size.batch),
            "serving_bytes": cores,
            "full_bytes": 4 * rows * size.dim,
        }

    return Case(name, "memory", PROFILER, run)


def _activations(table: TTRec, batch: int) -> int:
    return sum(entry.bytes for entry in table.ledger(None, batch).training if entry.name == "activations")


def terabyte_case(name: str, rank: int = 32) -> Case:
    """Trains a few steps of a model with Criteo-Terabyte's tables in a process of its own, and asks for its peak."""

    def run(context: Context, row: Row) -> None:
        size = context.size
        asked: dict[str, Any] = {
            "scale": size.scale,
            "batch_size": size.samples,
            "rank": rank,
            "threads": torch.get_num_threads(),
            "device": str(context.device),
        }
        with tempfile.TemporaryDirectory() as folder:
            answer = Path(folder) / "answer.json"
            command = [sys.executable, "-m", "embpress.dlrm.bench.terabyte", json.dumps(asked), str(answer)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
            except subprocess.TimeoutExpired:
                raise NotMeasured(f"it took longer than {_LIMIT_S} s") from None
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise RuntimeError(f"the process ended with status {done.returncode}: {last}")
            answered = json.loads(answer.read_text())
        row.setting, row.figures = answered["setting"], answered["figures"]
        row.ours_s = row.figures["step_s"]
        row.repeats = int(row.figures["steps"])

    return Case(name, "memory", PROCESS, run)
