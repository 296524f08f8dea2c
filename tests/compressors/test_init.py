"""Initial values are drawn where the generator is, so that a seed means the same on every device."""

import pytest
import torch

from embpress.compressors import TableCollection, TableConfig, available, create
from embpress.compressors.init import normal_, uniform_
from embpress.compressors.registry import method

OTHERS = [name for name in available() if not method(name).tags.fused_update]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_on_the_generators_device_the_draws_are_torchs_own():
    ours, theirs = torch.empty(1000), torch.empty(1000)
    uniform_(ours, -2, 3, generator())
    assert torch.equal(ours, theirs.uniform_(-2, 3, generator=generator()))
    normal_(ours, 1, 2, generator())
    assert torch.equal(ours, theirs.normal_(1, 2, generator=generator()))


def test_no_generator_is_torchs_default_one():
    drawn = torch.empty(100)
    torch.manual_seed(3)
    uniform_(drawn, 0, 1, None)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.empty(100).uniform_(0, 1))


@pytest.mark.parametrize("method", OTHERS)
def test_nothing_is_drawn_on_meta(method):
    g = generator()
    create(method, 100, 16, device="meta", generator=g)
    assert torch.equal(g.get_state(), generator().get_state())


@pytest.mark.parametrize("method", OTHERS)
def test_a_collection_follows_to_with_all_its_tensors(method):
    """Also those of which a table only refers to its group's."""
    configs = [TableConfig(n, 16, f"t{n}") for n in (300, 40, 500)]
    tables = TableCollection.build(configs, method, min_rows=100, generator=generator()).to("meta")
    tensors = [*tables.parameters(), *tables.buffers()]
    for table in tables.tables:
        tensors += [value for value in vars(table).values() if isinstance(value, torch.Tensor)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
