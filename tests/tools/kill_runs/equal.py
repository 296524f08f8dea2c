"""What differs between two run folders that should hold the same runs; times are no difference."""

import json

import numpy as np
import torch

from embpress.dlrm.runs.record import of_method

# what says when, how and how fast a run was made
TOLD = {"created", "command", "resumed", "environment", "latency_of_seed"}
TIMES = {"step_ms", "train_seconds", "train_samples_per_s", "peak_memory_bytes", "peak_device_bytes"}


def plain(path):
    """A record without what may differ."""
    record = {name: value for name, value in json.loads(path.read_text()).items() if name not in TOLD}
    record["metrics"] = {n: v for n, v in record["metrics"].items() if n not in TIMES and not of_method(n)}
    curve = record["learning_curve"]
    return {**record, "learning_curve": [{n: v for n, v in point.items() if n != "seconds"} for point in curve]}


def differences(one, other):
    """Sentences about what of folder `one` is not in `other` as it is there, or is there besides."""
    names = [_files(folder) for folder in (one, other)]
    found = [f"{name} is in one of them only" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        a, b = one / name, other / name
        if name.endswith(".json"):
            first, second = plain(a), plain(b)
            found += [f"{name}: {key}" for key in first.keys() | second.keys() if first.get(key) != second.get(key)]
        elif name.endswith(".npy"):
            found += [] if np.array_equal(np.load(a), np.load(b)) else [name]
        else:
            weights = [torch.load(path, weights_only=True)["weights"] for path in (a, b)]
            same = weights[0].keys() == weights[1].keys()
            found += [] if same and all(torch.equal(v, weights[1][n]) for n, v in weights[0].items()) else [name]
    return found


def _files(folder):
    """What is compared: records, arrays and weights, and what should have been taken away."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".json", ".npy", ".pt")}
