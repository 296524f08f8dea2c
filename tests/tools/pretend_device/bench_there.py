"""Runs every case of both benchmarks on the pretended device in small and prints what failed as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import torch
from pretend_device import NAME, install

from embpress.compressors import parse
from embpress.dlrm.bench import step_cases as bench_step
from embpress.dlrm.bench import terabyte as bench_terabyte
from embpress.dlrm.bench.case import QUICK, Context
from embpress.dlrm.bench.step import bench_train
from embpress.dlrm.bench.suite import all_cases, run_cases
from embpress.dlrm.training.settings import resolve


def main():
    torch.set_num_threads(1)
    install()

    def resolve_there(*args, device="cpu", **given):
        return replace(resolve(*args, **given), device=NAME)  # it knows no such device

    bench_step.resolve = bench_terabyte.resolve = resolve_there
    # Terabyte is a process of its own, and tensorly another package's code, which asks for NumPy arrays
    cases = [case for case in all_cases(QUICK) if not case.name.startswith(("terabyte", "tensorly"))]
    rows = list(run_cases(cases, Context(QUICK, 0.0, least=1, block=0.0, device=NAME)))
    failed = {row.name: row.reason for row in rows if row.status == "failed"}
    figures = bench_terabyte.train_terabyte(1e-4, 16, 4, NAME)["figures"]
    specs = [parse(name) for name in ("full", "tt:rank=4", "robe", "mlet")]
    settings = replace(resolve(0, batch_size=16, ratio=None), device=NAME)
    steps, _ = bench_train(specs, settings, 1e-4, 1)
    print(json.dumps({"cases": len(rows), "failed": failed, "steps": figures["steps"], "methods": len(steps)}))


if __name__ == "__main__":
    main()
