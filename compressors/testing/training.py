"""Checks of gradients and training."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.compressors.base import Compressor
from embpress.compressors.testing.subject import D, N, Subject, bags, close, gradients, touch


def check_gradients(subject: Subject) -> None:
    """Gradients equal finite differences in double, for sums, means and weights, with repeated ids."""
    if subject.cls.tags.fused_update or not subject.cls.tags.has(torch.float64):
        return  # declared: no .grad, or no double (check_fused, check_training)
    ids, offsets = subject.ids([0, N - 1, 3, 3, 41, 3]), subject.ids([0, 2, 2, 5])
    weights = torch.linspace(-1, 2, 6, dtype=torch.float64, device=subject.device, requires_grad=True)
    for mode, weight in (("sum", None), ("mean", None), ("sum", weights)):
        table = subject.make(mode=mode, dtype=torch.float64)
        if table.tags.straight_through:
            return  # declared: no difference shows them
        for _ in range(3):  # a method may adapt to what is looked up; finite differences need it to stand still
            table(ids, offsets, weight)
        table.eval()
        leaves = [p for p in table.parameters() if p.requires_grad]
        assert leaves, "the table has no parameter to train"

        def pooled(*_: Tensor, table: Compressor = table, weight: Tensor | None = weight) -> Tensor:
            return table(ids, offsets, weight)

        inputs = [*leaves, *([weight] if weight is not None else [])]
        assert torch.autograd.gradcheck(pooled, inputs, fast_mode=True, atol=1e-6), "gradients differ"


def check_repeated_ids(subject: Subject) -> None:
    """An id three times in a batch gets three times the gradient, whether in one bag or in three."""
    if subject.cls.tags.fused_update:
        return  # declared: no .grad to compare
    by_bags = []
    for ids in ([[3, 3, 3]], [[3], [3], [3]], [[3]]):
        table = subject.make(**subject.double)
        table(subject.ids(ids)).sum().backward()
        by_bags.append(gradients(table))
    one = by_bags[2]
    assert one, "no parameter got a gradient"
    for several in by_bags[:2]:
        for name, grad in several.items():
            close(grad, 3 * one[name], f"gradient of {name}")


def check_sparse(subject: Subject) -> None:
    """Sparse gradients, where declared, equal the dense ones."""
    if not subject.cls.tags.sparse_gradients:
        return
    ids, offsets = bags(subject)
    dense, sparse = subject.make(**subject.double), subject.make(sparse=True, **subject.double)
    for table in (dense, sparse):
        (table(ids, offsets) ** 2).sum().backward()
    assert any(p.grad is not None and p.grad.is_sparse for p in sparse.parameters()), "no gradient is sparse"
    for name, grad in gradients(dense).items():
        close(gradients(sparse)[name], grad, f"gradient of {name}")


def check_fused(subject: Subject) -> None:
    """A fused table changes in the backward, only where it was looked up, and leaves no `.grad`."""
    if not subject.cls.tags.fused_update:
        return
    table = subject.make()
    before = table.to_dense()
    touch(table(subject.ids([[3], [41]])), torch.ones(2, D, device=subject.device))
    changed = (table.to_dense() != before).any(1).nonzero().flatten().tolist()
    assert changed == [3, 41], f"rows {changed} changed, want 3 and 41"
    assert all(p.grad is None for p in table.parameters()), "a fused table has a .grad"


def check_training(subject: Subject) -> None:
    """Steps against the gradient bring looked-up rows to their targets."""
    table = subject.make()
    ids = subject.ids([0, 3, 41, 96])
    target = torch.linspace(-0.1, 0.1, 4 * D, device=subject.device).view(4, D)
    parameters = [p for p in table.parameters() if p.requires_grad]
    optimizer = torch.optim.Adagrad(parameters, lr=0.05) if not subject.cls.tags.fused_update else None
    start = float(((table.lookup(ids) - target) ** 2).sum().detach())
    for _ in range(200):
        touch(table.lookup(ids), target)
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
    end = float(((table.lookup(ids) - target) ** 2).sum().detach())
    assert end < 0.6 * start, f"200 steps took the loss from {start:.4g} to {end:.4g} only"
