"""Checks of checkpoints in the middle of training: what goes on from one ends as if nothing had happened."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator, Tensor, nn

from embpress.compressors.maintenance import begin_training, load_training_state, maintain, training_state
from embpress.compressors.tables.conversion.groups import optimizer_groups
from embpress.compressors.testing.feature import ROWS, Use, feature
from embpress.compressors.testing.subject import N

STEPS, EPOCHS = 8, 4
MAINTAINED = 72  # steps of methods that change on their way, so long that some of it lies between any two stops
STOPS = (7 / 18, 13 / 18)  # shares of the steps after which a training is taken up again


@feature("a training that goes on from a checkpoint ends bit-equal")
def check_resumed(use: Use) -> None:
    """Parameters, buffers, optimizer state and answers of a training that was taken up again in a new module."""
    steps = MAINTAINED if any(table.tags.maintain for table in use.tables(use.make())) else STEPS
    model, optimizers = _begun(use, steps, seed=1)
    stops = {max(1, round(share * steps)) for share in STOPS}
    saved: dict[int, bytes] = {}
    for number in range(steps):
        _step(use, model, optimizers, number)
        if number + 1 in stops:
            saved[number + 1] = _saved(model, optimizers)
    for stop, state in saved.items():
        again, others = _begun(use, steps, seed=2)  # what is not restored is another module's
        _restore(state, again, others)
        for number in range(stop, steps):
            _step(use, again, others, number)
        wanted, found = dict(_tensors(model, optimizers)), dict(_tensors(again, others))
        assert found.keys() == wanted.keys(), f"taken up after step {stop}, it ends with other tensors"
        for name, value in wanted.items():
            assert torch.equal(found[name], value), f"taken up after step {stop}, {name} ends otherwise"
        assert training_state(again) == training_state(model), f"taken up after step {stop}, it remembers otherwise"
        assert torch.equal(use.answers(again), use.answers(model)), f"taken up after step {stop}, other rows come out"


def _begun(use: Use, steps: int, seed: int) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    model = use.make(seed=seed)
    begin_training(model, steps, EPOCHS)
    groups = [] if use.fused else [{"params": group["params"]} for group in optimizer_groups(model)]
    return model, [torch.optim.Adagrad(groups, lr=0.1)] if groups else []


def _step(use: Use, model: nn.Module, optimizers: list[torch.optim.Optimizer], number: int) -> None:
    """One step on ids that are those of its number; small ids are frequent."""
    draw = Generator().manual_seed(number)
    sizes = ROWS if use.collected else (N,)
    ids = torch.stack([(torch.rand(12, generator=draw) ** 2 * n).long() for n in sizes], dim=1).to(use.subject.device)
    out = model(ids)
    slope = torch.randn(out.shape, generator=draw).to(out)
    (out * slope).sum().backward()
    # loops need not number their steps: some methods count themselves
    maintain(model, *optimizers, step=number if use.collected else None)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


def _saved(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> bytes:
    file = io.BytesIO()
    own = [optimizer.state_dict() for optimizer in optimizers]
    torch.save({"model": model.state_dict(), "training": training_state(model), "optimizers": own}, file)
    return file.getvalue()


def _restore(state: bytes, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    found: dict[str, Any] = torch.load(io.BytesIO(state), weights_only=True)
    model.load_state_dict(found["model"])
    load_training_state(model, found["training"])
    for optimizer, own in zip(optimizers, found["optimizers"], strict=True):
        optimizer.load_state_dict(own)


def _tensors(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> Iterator[tuple[str, Tensor]]:
    yield from model.state_dict().items()
    for k, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state_dict()["state"].items():
            yield from ((f"{name} of parameter {k}.{parameter}", torch.as_tensor(v)) for name, v in state.items())
