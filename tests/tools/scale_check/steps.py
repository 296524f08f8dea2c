"""Training steps of real models, and the workload that `embpress scale` is asked for the same."""

from itertools import count

import torch
from torch import Generator

from embpress.compressors import parse
from embpress.dlrm.bench.step import bench_model, step_inputs, training_step
from embpress.dlrm.scale.workload import Workload
from embpress.dlrm.training.settings import resolve

MLPS = {"bottom": (64,), "top": (128, 64)}


def workload(rows, dim, batch):
    """The model as a workload; SGD, 13 dense features."""
    return Workload(tuple(rows), dim=dim, batch=batch, optimizer="sgd", **MLPS)


def uniform_ids(sizes, batch, generator):
    """Ids `(batch, F)`, each row of a table as likely as any other."""
    return torch.stack([torch.randint(n, (batch,), generator=generator) for n in sizes], 1)


def made(rows, dim, batch, method, ratio):
    """A training step to be called, and bytes of the gradients that devices would sum.

    Ids are uniform, as the formulas have it: frequent ones would stay in a cache.
    """
    generator = Generator().manual_seed(0)
    options = {"width": dim, "optimizer": "sgd", "learning_rate": 0.01, "ratio": ratio, **MLPS}
    settings = resolve(0, preset="default", batch_size=batch, min_rows=200, **options)
    model = bench_model(list(rows), parse(method), settings, generator)
    step = training_step(model, settings, step_inputs(list(rows), batch, generator, draw=uniform_ids))
    numbers = count()
    return lambda: step(next(numbers)), sum(p.nbytes for p in model.parameters() if p.requires_grad)
