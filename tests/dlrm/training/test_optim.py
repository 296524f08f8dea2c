"""Every optimizer by its name: what it keeps is what the ledger counts."""

import pytest
import torch
from torch import nn

from embpress.cli.options import training_options
from embpress.compressors import InputError, TableCollection, TableConfig
from embpress.compressors.ledger import OPTIMIZERS as COUNTED
from embpress.compressors.ledger import optimizer_bytes
from embpress.dlrm.training.optim import make_optimizers
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
