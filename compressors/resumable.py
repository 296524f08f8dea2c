"""`Resumable`: what a training in progress remembers beside a state dict, so that a checkpoint can go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn


class Resumable(nn.Module):
    """A module that may hold more of a training in progress than its parameters, buffers and extra state.

    A state dict says what a table is; how far its training has come, such as a count of steps, is no part of that and
    stays out of it. A checkpoint in the middle of training needs both.

    Class attributes:
        remembers: attributes that say how far a training has come; what `torch.load(weights_only=True)` takes.
    """

    remembers: ClassVar[tuple[str, ...]] = ()

    def training_state(self) -> dict[str, Any]:
        """The values of what it remembers, by name; those of modules inside are asked for there."""
        return {name: getattr(self, name) for name in self.remembers}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `training_state` of a module of the same configuration gave.

        Raises:
            KeyError: something is missing.
        """
        for name in self.remembers:
            setattr(self, name, state[name])
