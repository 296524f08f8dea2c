"""A state dict carries what is random but not learned, whatever is done to its tensors; no other table takes it."""

import copy

import pytest
import torch
from methods_here import here
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from embpress.compressors import TableCollection, TableConfig, available, create, parse
from embpress.compressors.configuration import decoded, encoded

METHODS = here([*available(), "robe:z=4:sign=true", "hash:parts=2", "tt:cache_rows=8", "hash+bf16"])
CONFIGS = [TableConfig(400, 16, "a"), TableConfig(300, 16, "b"), TableConfig(7, 16, "c")]
IDS = torch.tensor([[0, 1, 2], [399, 299, 6], [7, 7, 0]])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def alone(method, seed=0, rows=400):
    return create(method, rows, 16, generator=seeded(seed))


def together(method, seed=0):
    ratio = None if parse(method).fixes_size or not parse(method).tags.for_budget else 4
    return TableCollection.build(CONFIGS, method, ratio=ratio, min_rows=0, generator=seeded(seed))


def rows_of(module):
    module.eval()
    with torch.no_grad():
        return module(IDS[:, :1] if hasattr(module, "num_embeddings") else IDS)


@pytest.mark.parametrize("make", [alone, together])
@pytest.mark.parametrize("method", METHODS)
def test_a_state_dict_makes_differently_seeded_modules_equal(make, method):
    for assign in (False, True):
        source, target = make(method, 1), make(method, 2)
        target.load_state_dict(source.state_dict(), assign=assign)
        assert torch.equal(rows_of(source), rows_of(target))


@pytest.mark.parametrize("make", [alone, together])
@pytest.mark.parametrize("method", ["hash", "robe:z=4", "hash:parts=2", "qr"])
def test_averages_and_casts_of_a_state_dict_leave_hash_functions_alone(make, method):
    source, target = make(method, 1), make(method, 2)
    state = source.state_dict()
    for name, value in state.items():  # an average with itself, step by step, as often written
        shadow = value.clone().float() if not value.is_floating_point() else value.clone()
        for _ in range(5):
            shadow = 0.9 * shadow + 0.1 * value
        state[name] = shadow.to(value.dtype)
    target.load_state_dict(state)
    torch.testing.assert_close(rows_of(target), rows_of(source))
    target.load_state_dict({name: value.half() for name, value in state.items()})
    torch.testing.assert_close(rows_of(target), rows_of(source), atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("make", [alone, together])
@pytest.mark.parametrize("method", ["hash", "robe:z=4", "qr", "full", "mlet"])
def test_an_averaged_model_looks_up_what_the_model_does(make, method):
    model = make(method)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(3):
        averaged.update_parameters(model)
    torch.testing.assert_close(rows_of(averaged.module), rows_of(model))


@pytest.mark.parametrize("method", ["hash", "robe:z=4", "robe", "hash:parts=2"])
def test_processes_that_are_seeded_differently_hash_alike(method):
    lookups = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        table = create(method, 400, 16)
        with torch.no_grad():
            parameter = next(table.parameters())
            parameter.copy_(torch.arange(parameter.numel()).view_as(parameter))
        lookups.append(table.to_dense())
    assert torch.equal(*lookups)


@pytest.mark.parametrize("method", here([*available(), "robe:z=4", "tt:cache_rows=8"]))
def test_a_table_made_without_memory_works_after_reset_parameters(method):
    table = create(method, 400, 16, device="meta").to_empty(device="cpu")
    table.reset_parameters(seeded(0))
    rows = table.to_dense()
    assert rows.isfinite().all()
    assert len(rows.unique(dim=0)) > 10
    same = create(method, 400, 16, device="meta").to_empty(device="cpu")
    same.load_state_dict(table.state_dict())
    assert torch.equal(same.to_dense(), rows)


@pytest.mark.parametrize(
    ("saved", "wanted", "said"),
    [
        ("robe:z=4", "robe:z=8", "z=4 instead of z=8"),
        ("robe:z=4:sign=true", "robe:z=4", "sign=True instead of sign=False"),
        ("qr:op=mult", "qr:op=add", "op=mult instead of op=add"),
        ("qr:c=4", "qr:c=5", "c=4 instead of c=5"),
        ("hash:k=40:parts=1", "hash:k=40:parts=2", "parts=1 instead of parts=2"),
        ("hash:k=40", "robe", "method=hash instead of method=robe"),
        ("tt:rank=4", "tt:rank=8", "rank=4 instead of rank=8"),
        ("mlet:k=64", "mlet:k=128", "k=64 instead of k=128"),
    ],
)
@pytest.mark.parametrize("make", [alone, together])
def test_a_checkpoint_of_another_table_is_refused_by_name(make, saved, wanted, said):
    with pytest.raises(RuntimeError, match=said):
        make(wanted).load_state_dict(make(saved).state_dict(), strict=False)


def test_a_checkpoint_of_a_larger_table_is_refused_though_its_parameters_fit():
    with pytest.raises(RuntimeError, match="num_embeddings=400 instead of num_embeddings=399"):
        alone("hash:k=40", rows=399).load_state_dict(alone("hash:k=40").state_dict())


def test_a_checkpoint_without_hash_functions_is_refused_unless_that_is_asked_for():
    state = {name: value for name, value in alone("hash").state_dict().items() if "extra" not in name}
    with pytest.raises(RuntimeError, match="Missing key"):
        alone("hash").load_state_dict(state)


def test_a_damaged_configuration_is_refused():
    table = alone("hash")
    state = table.state_dict()
    state["_extra_state"] = torch.zeros(13)
    with pytest.raises(RuntimeError, match="no table says of itself"):
        table.load_state_dict(state)


def test_a_full_table_takes_the_state_dict_of_an_embedding_bag():
    bag = torch.nn.EmbeddingBag(400, 16)
    table = alone("full")
    table.load_state_dict(bag.state_dict())
    assert torch.equal(table.to_dense(), bag.weight)


@pytest.mark.parametrize("text", ["", "x" * 5000, "ünïcode 表"])
def test_what_is_encoded_survives(text):
    state = encoded({"text": text})
    assert len(state) % 4096 == 0
    assert decoded((state.float() * 0.999).half())[0] == {"text": text}


def test_data_behind_a_configuration_survives_averages_and_casts():
    for count in (0, 1, 63, 64, 1000):
        data = torch.randint(-(2**63), 2**63 - 1, (count,), generator=torch.Generator().manual_seed(count))
        state = encoded({"text": "{[ü}"}, data)
        averaged = state.clone()
        for _ in range(20):
            averaged.copy_(0.9 * averaged + (1 - 0.9) * state)
        for other in (state, averaged, averaged.bfloat16(), averaged.half().float()):
            text, found = decoded(other)
            assert text == {"text": "{[ü}"}
            assert torch.equal(found, data)


def test_a_copy_has_constants_of_its_own():
    table = alone("hash")
    twin = copy.deepcopy(table)
    twin.load_state_dict(alone("hash", 5).state_dict())
    assert not torch.equal(table.coefficients, twin.coefficients)
