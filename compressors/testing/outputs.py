"""Checks of what `nn.EmbeddingBag`'s users do with outputs, weights and attributes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embpress.compressors.testing.feature import NotApplicable, Refused, Use, feature, named
from embpress.compressors.testing.subject import D, close


@feature("in-place operations on an output")
def check_in_place(use: Use) -> None:
    """`out.mul_(2)` before the backward gives the gradient of `out * 2`, and changes no row."""
    module, twin = use.make(), use.make()
    before = use.answers(module)
    out = module(use.ids())
    out.mul_(2).add_(1)
    (out**2).sum().backward()
    if not use.fused:
        assert torch.equal(use.answers(module), before), "the rows changed with the output"
    ((twin(use.ids()) * 2 + 1) ** 2).sum().backward()
    for (name, ours), theirs in zip(module.named_parameters(), twin.parameters()):
        if theirs.grad is not None:
            assert ours.grad is not None, f"{name} has no gradient"
            close(ours.grad.to_dense(), theirs.grad.to_dense(), f"gradient of {name}")
    close(use.answers(module), use.answers(twin), "lookups after the backward")


@feature("gradients of per-sample weights where nothing is looked up are zero")
def check_weights_of_nothing(use: Use) -> None:
    """Empty bags and bags of padding alone: zeros, not None."""
    device = use.subject.device
    cases: list[tuple[nn.Module, Tensor, Tensor]] = [
        (use.make(), torch.empty(0, dtype=torch.int64, device=device), torch.tensor([0, 0], device=device))
    ]
    if not use.collected:
        padding = torch.full((4,), 5, device=device)
        cases.append((use.make(padding_idx=5), padding, torch.tensor([0, 2], device=device)))
    for module, ids, offsets in cases:
        weights = torch.ones(len(ids), device=device, requires_grad=True)
        bag = (ids, offsets, weights)
        out = module([bag] * 3) if use.collected else module(*bag)
        assert not out.any(), "bags of nothing are not zero"
        if not out.requires_grad:
            continue
        out.sum().backward()
        assert weights.grad is not None, f"the weights of {len(ids)} ids have no gradient"
        assert not weights.grad.any(), "the weights of nothing have a gradient"


@feature("a last offset below the number of ids, as `nn.EmbeddingBag` takes it")
def check_short_last_offset(use: Use) -> None:
    """With `include_last_offset` the ids beyond the last offset are in no bag; or it is refused."""
    if use.collected:
        raise NotApplicable("a collection's offsets have no last one")
    table = use.subject.make(include_last_offset=True)
    ids, offsets = use.subject.ids([1, 2, 3, 4]), use.subject.ids([0, 1, 3])
    want = F.embedding_bag(ids, table.to_dense(), offsets, mode="sum", include_last_offset=True)
    try:
        out = table(ids, offsets)
    except ValueError as error:
        raise Refused(named(error, "last offset")) from None
    close(out.detach(), want, "bags")


@feature("`max_norm`, `norm_type`, `scale_grad_by_freq`, `sparse`, `mode` can be read")
def check_attributes(use: Use) -> None:
    """Code that asks an `nn.EmbeddingBag` for its options gets the values that ask for nothing."""
    want = {"max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False, "sparse": False, "mode": "sum"}
    want |= {"padding_idx": None, "include_last_offset": False}
    for table in use.tables(use.make()):
        for name, value in want.items():
            assert hasattr(table, name), f"there is no {name}"
            assert getattr(table, name) == value, f"{name} is {getattr(table, name)!r}"


@feature("`weight` is the table, or is refused by name")
def check_weight(use: Use) -> None:
    """A differentiable `(n, D)`, or an AttributeError that names `lookup` and `to_dense`."""
    for table in use.tables(use.make()):
        try:
            weight = table.weight
        except AttributeError as error:
            raise Refused(named(error, "lookup", "to_dense")) from None
        assert isinstance(weight, Tensor), "weight is no tensor"
        assert tuple(weight.shape) == (table.num_embeddings, D), "weight has another shape than the table"
        close(weight.detach(), table.to_dense(), "weight")


@feature("a frozen table stays as it is, in training mode too")
def check_frozen(use: Use) -> None:
    """With `requires_grad_(False)` nothing moves, whatever is looked up and however often."""
    module = use.make().requires_grad_(False).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    answers = use.answers(module)
    for _ in range(4):
        out = module(use.ids())
        if out.requires_grad:
            out.sum().backward()
        for table in use.tables(module):
            table.maintain()
    assert torch.equal(use.answers(module), answers), "lookups changed"
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} changed"


@feature("activation checkpointing")
def check_checkpointing(use: Use) -> None:
    """A forward that the backward repeats gives the same gradients, among steps that may change what a table keeps."""
    from torch.utils.checkpoint import checkpoint

    use.with_gradients()
    module, twin = use.make(), use.make()
    for step in range(4):
        for one, call in ((module, lambda ids: checkpoint(module, ids, use_reentrant=False)), (twin, twin)):
            use.loss(call).backward()
            for table in use.tables(one):
                table.maintain(step)
            with torch.no_grad():
                for parameter in one.parameters():
                    if parameter.grad is not None:
                        parameter.sub_(0.1 * parameter.grad)
                        parameter.grad = None
        close(use.answers(module), use.answers(twin), f"lookups after step {step + 1}")
