"""Every optimizer by its name: what it keeps is what the ledger counts."""

import pytest
import torch
from torch import nn

from embpress.cli.options import training_options
from embpress.compressors import InputError, TableCollection, TableConfig
from embpress.compressors.ledger import OPTIMIZERS as COUNTED
from embpress.compressors.ledger import optimizer_bytes
from embpress.dlrm.training.optim import TableAdagrad, TableSGD, make_optimizers
from embpress.dlrm.training.settings import OPTIMIZERS, resolve


def test_the_ledger_counts_what_can_be_trained_with_and_help_names_it():
    assert set(COUNTED) - {"none"} == set(OPTIMIZERS)
    (option,) = (o for o in training_options(lambda: None).__click_params__ if o.name == "optimizer")
    assert all(name in option.help for name in OPTIMIZERS)
    with pytest.raises(InputError, match="did you mean 'adam'"):
        resolve(9, optimizer="adamm")


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_trains_and_keeps_the_bytes_that_are_counted(name, sparse):
    tables = TableCollection.build([TableConfig(50, 4)], sparse=sparse)
    model = nn.ModuleDict({"tables": tables, "top": nn.Linear(4, 1)})
    optimizers = make_optimizers(model, name, 0.1)
    before = [p.detach().clone() for p in model.parameters()]
    model["top"](tables(torch.tensor([[3], [7]]))[:, 0]).sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    assert [torch.equal(a, b) for a, b in zip(before, model.parameters())] == [False] * 3
    (weight,) = tables.parameters()
    assert torch.equal(weight[4], before[0][4])  # a row that was not looked up
    kept = [t for o in optimizers for t in o.state.get(weight, {}).values() if torch.is_tensor(t) and t.dim()]
    assert sum(t.nbytes for t in kept) == optimizer_bytes(name, 200, 50, 4)


@pytest.mark.parametrize("shape", [(30,), (5, 4), (3, 4, 5)])
@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_a_step_of_a_dense_gradient_is_torchs(name, shape):
    g = torch.Generator().manual_seed(0)
    theirs = nn.Parameter(torch.randn(shape, generator=g))
    mine = nn.Parameter(theirs.detach().clone())
    kinds = {"sgd": (TableSGD, torch.optim.SGD), "adagrad": (TableAdagrad, torch.optim.Adagrad)}[name]
    optimizers = [make([parameter], lr=0.3) for make, parameter in zip(kinds, (mine, theirs))]
    for _ in range(3):
        grad = torch.randn(shape, generator=g)
        for parameter, optimizer in zip((mine, theirs), optimizers):
            parameter.grad = grad.clone()
            optimizer.step()
    torch.testing.assert_close(mine, theirs)
