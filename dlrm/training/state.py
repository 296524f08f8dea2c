"""All that a training goes on from: a model with its optimizers, and where the random numbers have come to."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from embpress.compressors import load_training_state, training_state
from embpress.kernels.errors import EmbpressError


class CannotResume(EmbpressError):
    """What was saved does not fit what is trained here, which may have taken a part of it."""


def state_of(model: nn.Module, optimizers: Sequence[Optimizer]) -> dict[str, Any]:
    """What is trained, between two steps; the tensors are the model's own, and go on changing with it.

    Returns:
        What `torch.load(weights_only=True)` reads once `torch.save` has written it.
    """
    return {
        "model": model.state_dict(),
        "buffers": _hidden_buffers(model),
        "tables": training_state(model),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }


@torch.no_grad()
def restore(model: nn.Module, optimizers: Sequence[Optimizer], state: Mapping[str, Any]) -> None:
    """Makes a freshly built model and its optimizers what they were; after `begin_training`."""
    model.load_state_dict(state["model"])
    own = _hidden_buffers(model)
    if own.keys() != state["buffers"].keys():
        raise ValueError("the model has other buffers")
    for name, value in own.items():
        value.copy_(state["buffers"][name])
    load_training_state(model, state["tables"])
    for optimizer, known in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(known)


def _hidden_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Buffers that no state dict holds."""
    return {
        f"{path}.{name}".lstrip("."): value
        for path, module in model.named_modules()
        for name in sorted(module._non_persistent_buffers_set)
        if (value := module._buffers[name]) is not None
    }


def random_state(device: torch.device) -> dict[str, Any]:
    """Where the random numbers of torch, Python and NumPy have come to."""
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        **({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}),
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest),
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Lets random numbers go on from where `random_state` was taken."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
