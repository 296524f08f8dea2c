"""`:train=true`: what is trained is what is served, and predicts better than two bits that were not trained."""

import pytest
import torch
from torch import Generator, nn

from embpress.compressors import InputError, TableCollection, TableConfig, create, maintain
from embpress.compressors.methods.full_tbe import FullTBE

CONFIGS = [TableConfig(97, 16), TableConfig(5, 16), TableConfig(300, 16)]


def fitted(spec, steps):
    """Tables that have learned rows by heart as far as they can: what they look up, and what they serve."""
    generator = Generator().manual_seed(0)
    tables = TableCollection.build(CONFIGS, spec, min_rows=0, generator=generator)
    wanted = torch.randn(300, 3, 16, generator=generator)
    optimizer = torch.optim.Adagrad(tables.parameters(), 0.1)
    for _ in range(steps):
        ids = torch.stack([torch.randint(0, n, (128,), generator=generator) for n, _, _ in CONFIGS], 1)
        loss = (tables(ids) - wanted[ids, torch.arange(3)]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        maintain(tables, optimizer)
        optimizer.step()
    ids = torch.stack([torch.arange(300) % n for n, _, _ in CONFIGS], 1)
    return tables.eval()(ids).detach(), tables.fold()(ids)


@pytest.mark.parametrize(
    "method", ["full", "hash:k=40:parts=2", "qr", "robe:z=4:size=2000", "mlet", "tt:rank=4", "tt:rank=4:cache_rows=8"]
)
@pytest.mark.parametrize("modifier", ["int2:train=true", "int4:by=row:train=true"])
def test_what_is_trained_is_what_is_served(method, modifier):
    trained, served = fitted(f"{method}+{modifier}", 20)
    torch.testing.assert_close(served, trained, rtol=1e-5, atol=1e-6)


def held_out_loss(spec):
    """Of products of two rows that predict clicks, trained on half of the pairs: what is served, on the other half."""
    generator = Generator().manual_seed(0)
    tables = TableCollection.build([TableConfig(60, 4)] * 2, spec, min_rows=0, generator=generator)
    true = torch.randn(2, 60, 4, generator=generator) * 1.5
    pairs = torch.cartesian_prod(torch.arange(60), torch.arange(60))[torch.randperm(3600, generator=generator)]
    logits = (true[0][pairs[:, 0]] * true[1][pairs[:, 1]]).sum(1)
    clicks = (torch.rand(3600, generator=generator) < logits.sigmoid()).float()
    loss_of = nn.functional.binary_cross_entropy_with_logits
    optimizer = torch.optim.Adagrad(tables.parameters(), 0.1)
    for step in range(600):
        part = torch.arange(step * 90, step * 90 + 90) % 1800
        optimizer.zero_grad()
        loss_of(tables(pairs[part]).prod(1).sum(1), clicks[part]).backward()
        maintain(tables, optimizer)
        optimizer.step()
    return float(loss_of(tables.fold()(pairs[1800:]).prod(1).sum(1), clicks[1800:]))


@pytest.mark.parametrize("method", ["full", "mlet"])
def test_trained_codes_predict_better_than_rounded_ones(method):
    assert held_out_loss(f"{method}+int2:train=true") < 0.98 * held_out_loss(f"{method}+int2")


def test_gradients_within_the_range_are_those_of_the_method():
    table = create("full+int8:train=true", 50, 4, generator=Generator().manual_seed(0))
    plain = create("full", 50, 4, generator=Generator().manual_seed(0))
    ids = torch.tensor([[1], [7], [7]])
    for one in (table, plain):
        (one(ids) * torch.arange(4.0)).sum().backward()
    torch.testing.assert_close(table.table.weight.grad, plain.weight.grad)


def test_a_range_that_is_too_narrow_widens():
    table = create("full+int4:train=true", 50, 4, generator=Generator().manual_seed(0))
    with torch.no_grad():
        table.weight_learned[..., 1, :] -= 3  # steps a twentieth of what they should be
    before = table.weight_learned[..., 1, :].detach().clone()
    optimizer = torch.optim.SGD([table.weight_learned], 10)
    ids = torch.arange(50).view(-1, 1)
    for _ in range(20):
        optimizer.zero_grad()
        (table(ids) - table.table.weight.detach()).square().sum().backward()
        optimizer.step()
    assert bool((table.weight_learned[..., 1, :] > before).all())


def test_the_table_starts_its_ranges_anew_as_it_grows():
    table = create("full+int4:train=true", 50, 4, generator=Generator().manual_seed(0))
    with torch.no_grad():
        table.table.weight.mul_(100)
    maintain(table)
    torch.testing.assert_close(table.to_dense(), table.table.weight.detach(), rtol=0, atol=1.5)


@pytest.mark.skipif(FullTBE.unavailable() is not None, reason=str(FullTBE.unavailable()))
def test_what_updates_itself_is_refused():
    with pytest.raises(InputError, match="full-tbe updates itself"):
        create("full-tbe+int4:train=true", 50, 4)
