"""Checks of modules without memory: built on meta, given memory later, and traced with fake tensors."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from embpress.compressors.testing.feature import Use, feature
from embpress.compressors.testing.subject import N


@feature('built under `torch.device("meta")`, called there')
def check_meta(use: Use) -> None:
    """Construction takes no memory, and a forward gives the shape."""
    with torch.device("meta"):
        module = use.make(device="meta")
    assert all(tensor.is_meta for tensor in module.parameters()), "a parameter has memory"
    ids = use.ids().to("meta")
    assert module(ids).shape == use.make()(use.ids()).shape, "the shape on meta is another"


@feature("meta, `to_empty`, `load_state_dict`")
def check_to_empty_load(use: Use) -> None:
    """A module built without memory, then loaded, is the one that was saved."""
    source, target = use.make(), use.make(device="meta")
    target = target.to_empty(device=use.subject.device)
    target.load_state_dict(source.state_dict())
    assert torch.equal(use.answers(target), use.answers(source)), "the loaded module looks up other rows"
    before = use.answers(target)
    use.step(target)
    assert not torch.equal(use.answers(target), before), "it does not train"


@feature("meta, `to_empty`, `reset_parameters`")
def check_to_empty_reset(use: Use) -> None:
    """A module built without memory and drawn later works: finite, distinct rows that train."""
    module = use.make(device="meta").to_empty(device=use.subject.device)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):  # uninitialised memory may hold anything
            tensor.fill_(float("nan") if tensor.is_floating_point() else -1)
    for table in use.tables(module):
        table.reset_parameters(torch.Generator().manual_seed(0))
    found = use.answers(module)
    assert found.isfinite().all(), "a row is not finite"
    rows = found[:, 0] if use.collected else found
    assert len(torch.unique(rows, dim=0)) > N // 20, "most rows are the same"
    use.step(module)
    assert not torch.equal(use.answers(module), found), "it does not train"


@feature("`FakeTensorMode`, padding and bags included")
def check_fake(use: Use) -> None:
    """A forward of fake tensors gives the shape."""
    options = {} if use.collected else {"padding_idx": 0}
    with FakeTensorMode():
        module = use.make(device="cpu", **options)
        ids = use.ids()
        assert module(ids).shape == ((8, 3, 16) if use.collected else (8, 16)), "the shape is another"
        offsets = torch.arange(0, 8, 2)
        bags = [(column, offsets) for column in ids.unbind(1)]
        out = module(bags) if use.collected else module(*bags[0])
        assert out.shape == ((4, 3, 16) if use.collected else (4, 16)), "the shape of bags is another"
