"""Trains methods on the CPU and on the pretended device, and prints what came of it as JSON.

`train_both.py CASE...`; a case is `SPEC/OPTIMIZER`, with `/sparse` for sparse gradients or `/bags` for multi-hot ids.
"""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import replace

import torch
from pretend_device import NAME, PretendTensor, install

from embpress.compressors import parse
from embpress.compressors.tables import build
from embpress.dlrm.data import Bags, load
from embpress.dlrm.measure import latency
from embpress.dlrm.runs.experiment import build_model, build_tables
from embpress.dlrm.training.click_model import train
from embpress.dlrm.training.evaluate import cache_hit_rate, inputs_of
from embpress.dlrm.training.settings import resolve


def trained(data, spec, optimizer, device):
    """Everything a run computes that is no time: logits, parameters, curve, hit rate, lookups of the folded tables."""
    settings = replace(resolve(0, optimizer=optimizer, batch_size=256, min_rows=50), device=device)
    tables = build_tables(data, parse(spec), settings, seed=3)
    model = build_model(data, tables, settings, seed=3)
    start = [held(p) for p in model.parameters()]
    result = train(model, data, settings, seed=3)
    folded = tables.fold()
    rows = folded(inputs_of(data.test.slice(0, 50).to(device)))
    latency.measure(model, folded, data.train.dense.shape[1], 0.0)
    return {
        "devices": sorted({t.device.type for t in [*model.parameters(), *model.buffers(), rows] if t.dim()}),
        "start": start,
        "parameters": [held(p) for p in model.parameters()],
        "logits": result.test_logits,
        "loss": [point["train_loss"] for point in result.curve],
        "hit_rate": cache_hit_rate(tables, data.test),
        "rows": held(rows),
    }


def with_bags(data):
    """The same data, two of the features as bags of none to three ids."""
    for part in (data.train, data.valid, data.test):
        lengths = torch.arange(len(part)) % 4
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        for feature in (2, 5):
            part.bags[feature] = Bags(part.ids[:, feature].repeat_interleave(lengths), offsets)
            part.ids[:, feature] = 0
    return data


def held(tensor):
    tensor = tensor.detach()
    return (tensor.held if isinstance(tensor, PretendTensor) else tensor).clone()


def compared(case):
    """How the run there differs from the run here."""
    spec, optimizer, *options = case.split("/")
    build.SPARSE_ROWS = 0 if "sparse" in options else 100_000
    data = load(rows=1500, scale=0.0005, min_count=1)
    data = with_bags(data) if "bags" in options else data
    there, here = (trained(data, spec, optimizer, device) for device in (NAME, "cpu"))

    def furthest(a, b):
        return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))

    return {
        "devices": there["devices"],
        "start": furthest(there["start"], here["start"]),
        "end": max(furthest(there[name], here[name]) for name in ("parameters", "logits", "rows")),
        "learned": furthest(there["start"], there["parameters"]),
        "loss": [here["loss"], there["loss"]],
        "hit_rate": [here["hit_rate"], there["hit_rate"]],
    }


def main(cases):
    torch.set_num_threads(1)
    latency._LEAST = latency._WARM_UP = 1  # times mean nothing here
    install()  # before any backward: that starts the threads of all devices that are known
    found = {}
    for case in cases:
        try:
            found[case] = compared(case)
        except Exception as error:
            found[case] = {"failed": "".join(traceback.format_exception(error)[-4:])}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
