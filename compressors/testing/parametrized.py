"""Checks of what torch hangs on parameters: parametrizations and pruning."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from embpress.compressors.testing.feature import Use, feature
from embpress.compressors.testing.subject import close


class _Half(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return value / 2


def _owned(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Modules with the trained parameters that they hold themselves."""
    for owner in list(module.modules()):
        for name, parameter in list(owner.named_parameters(recurse=False)):
            if parameter.requires_grad:
                yield owner, name


def _changed(use: Use, factor: Tensor | float) -> Tensor:
    """Lookups of a module whose parameters are multiplied."""
    other = use.make()
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.requires_grad:
                parameter.mul_(factor)
    return use.answers(other)


@feature("parametrizations of the parameters")
def check_parametrized(use: Use) -> None:
    """Lookups and gradients go through the parametrization."""
    module = use.make()
    for owner, name in list(_owned(module)):
        parametrize.register_parametrization(owner, name, _Half())
    close(use.answers(module), _changed(use, 0.5), "lookups of halved parameters")
    if not use.fused:
        use.loss(module).backward()
        assert any(p.grad is not None and p.grad.any() for p in module.parameters()), "no original has a gradient"


@feature("pruning of the parameters")
def check_pruned(use: Use) -> None:
    """A mask of zeros makes all rows zero."""
    module = use.make()
    owned = list(_owned(module))
    for owner, name in owned:
        prune.custom_from_mask(owner, name, torch.zeros_like(getattr(owner, name)))
    close(use.answers(module), _changed(use, 0.0), "lookups of parameters that are all pruned")
