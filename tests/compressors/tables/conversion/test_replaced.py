"""An optimizer or a loss that still refers to a weight that was replaced is told so, once; others hear nothing."""

import gc
import pickle
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.optim import optimizer as optimizers

from embpress.compressors import compress_model
from embpress.compressors.tables.conversion import replaced

IDS = torch.arange(40).view(8, 5)


def model_of():
    model = nn.ModuleDict({"bag": nn.EmbeddingBag(500, 8), "rows": nn.Embedding(400, 8), "top": nn.Linear(8, 1)})
    return model


def step(model, optimizer):
    optimizer.zero_grad()
    model["top"](model["bag"](IDS) + model["rows"](IDS).sum(1)).sum().backward()
    optimizer.step()


@pytest.fixture
def no_hooks_stay():
    """Whatever was replaced in a test is gone after it, and so is the hook of every optimizer's step."""
    yield
    gc.collect()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1)
    optimizer.step()
    assert not replaced._names
    assert replaced._before_step not in optimizers._global_optimizer_pre_hooks.values()


@pytest.mark.usefixtures("no_hooks_stay")
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_an_optimizer_of_before_warns_once(kind):
    model = model_of()
    before = kind(model.parameters(), lr=0.1)
    step(model, before)
    compress_model(model, "hash")
    tables = [p.detach().clone() for p in model["bag"].parameters()]
    with pytest.warns(
        UserWarning, match=rf"{kind.__name__} was built before compress_model.*bag\.weight, rows\.weight"
    ):
        step(model, before)
    for old, new in zip(tables, model["bag"].parameters()):
        assert torch.equal(old, new)  # as the warning says
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(model, before)
        step(model, kind(model.parameters(), lr=0.1))


@pytest.mark.usefixtures("no_hooks_stay")
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_an_optimizer_of_after_hears_nothing(kind):
    model = model_of()
    old = model["bag"].weight
    compress_model(model, "hash")
    optimizer = kind(model.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(model, optimizer)
        step(model, optimizer)
    assert old.grad is None


@pytest.mark.usefixtures("no_hooks_stay")
def test_an_optimizer_without_the_replaced_weights_hears_nothing():
    model = model_of()
    dense = torch.optim.SGD(model["top"].parameters(), lr=0.1)
    stays = torch.optim.SGD(model["rows"].parameters(), lr=0.1)
    compress_model(model, "hash", only="bag")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(model, dense)
        step(model, stays)


@pytest.mark.usefixtures("no_hooks_stay")
def test_a_loss_that_holds_a_replaced_weight_is_told():
    model = model_of()
    regularized = [model["bag"].weight]
    compress_model(model, "hash")
    with pytest.warns(UserWarning, match=r"bag\.weight that compress_model replaced still takes part in a loss"):
        sum(weight.square().sum() for weight in regularized).backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sum(weight.square().sum() for weight in regularized).backward()


@pytest.mark.usefixtures("no_hooks_stay")
def test_a_list_that_holds_the_old_modules_is_told():
    model = model_of()
    listed = [model["bag"]]
    compress_model(model, "hash")
    with pytest.warns(UserWarning, match=r"bag\.weight .* still takes part in a loss"):
        model["top"](listed[0](IDS)).sum().backward()


@pytest.mark.usefixtures("no_hooks_stay")
def test_nothing_is_kept_alive_and_a_converted_model_pickles():
    model = model_of()
    weights = [weakref.ref(model[name].weight) for name in ("bag", "rows")]
    compress_model(model, "hash")
    gc.collect()
    assert [weight() for weight in weights] == [None, None]
    assert torch.equal(pickle.loads(pickle.dumps(model))["bag"](IDS), model["bag"](IDS))


def test_an_optimizer_in_the_backward_keeps_its_table():
    model = model_of()
    model["bag"].weight._in_backward_optimizers = [torch.optim.SGD([model["bag"].weight], lr=0.1)]
    done = compress_model(model, "hash")
    assert type(model["bag"]) is nn.EmbeddingBag
    assert "optimizer of its own" in done["note"][0]
