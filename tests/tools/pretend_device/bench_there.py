"""Runs every case of the benchmarks on the pretended device in small and prints what failed as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import torch
from pretend_device import NAME, install

from embpress.dlrm.bench import step, suite, terabyte
from embpress.dlrm.bench.case import Context
from embpress.dlrm.bench.timing import Paired
from embpress.dlrm.training.settings import resolve


def rows_of(name, **size):
    """Rows of a suite's cases but two: Terabyte is a process of its own, and tensorly another package's code, which
    asks for NumPy arrays."""
    module, device = suite.load(name), torch.device(NAME)
    context = Context(replace(module.QUICK, **size), Paired(device, 0.0, 1, 0.0), device)
    cases = module.cases(context.size, device)
    if name == "tt":
        cases += module.gpu_cases(context.size)
    return list(suite.run_cases([c for c in cases if not c.name.startswith(("terabyte", "tensorly"))], context))


def main():
    torch.set_num_threads(1)
    install()

    def resolve_there(*args, device="cpu", **given):
        return replace(resolve(*args, **given), device=NAME)  # it knows no such device

    step.resolve = resolve_there
    rows = [*rows_of("tt"), *rows_of("robe")]
    methods = rows_of("train", methods="full,tt:rank=4,robe:ratio=8,mlet", batch_size=16)
    failed = {row.name: row.reason for row in [*rows, *methods] if row.status == "failed"}
    figures = terabyte.train_terabyte(1e-4, 16, 4, NAME)["figures"]
    print(json.dumps({"cases": len(rows), "failed": failed, "steps": figures["steps"], "methods": len(methods)}))


if __name__ == "__main__":
    main()
