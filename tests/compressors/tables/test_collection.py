"""All tables of a model at once, several methods mixed: order, bags, gradients, bytes, errors that name the table."""

import copy

import pytest
import torch
from torch import Generator
from torch.nn import functional as F

from embpress.compressors import TableCollection, TableConfig, parse
from embpress.compressors.ledger import held_bytes
from embpress.compressors.tables.planning.plan import Plan, TablePlan

D = 16
# methods alternate, so that no group's tables stand side by side
METHODS = ["full", "tt:rank=4", "hash", "full", "robe:size=640", "tt:rank=4", "hash+bf16", "robe:size=640", "full"]
ROWS = [7, 300, 90, 11, 500, 400, 80, 30, 3]
CONFIGS = [TableConfig(n, D, f"column {t}") for t, n in enumerate(ROWS)]


def make(methods=METHODS, configs=CONFIGS, **options):
    plan = Plan(tuple(TablePlan(one, D, parse(text), 0) for one, text in zip(configs, methods)))
    return TableCollection.build(configs, plan, generator=Generator().manual_seed(0), **options)


def ids_of(batch, seed=0):
    draw = Generator().manual_seed(seed)
    return torch.stack([torch.randint(n, (batch,), generator=draw) for n in ROWS], 1)


@pytest.fixture(scope="module")
def tables():
    return make()


def test_the_tables_are_those_of_the_plan_in_its_order(tables):
    assert [table.num_embeddings for table in tables.tables] == ROWS
    said = ["+".join([table.spec_name, *table.modifiers]) for table in tables.tables]
    assert said == [text.split(":")[0] for text in METHODS]
    assert len(tables.groups) == len(set(METHODS))
    assert sorted(t for part in tables.members for t in part) == list(range(len(ROWS)))


@pytest.mark.parametrize("batch", [1, 5, 300])  # small batches and large ones are joined in other ways
def test_a_row_of_ids_gives_the_rows_of_the_tables_in_order(batch, tables):
    ids = ids_of(batch)
    out = tables(ids)
    assert out.shape == (batch, len(ROWS), D)
    for t, table in enumerate(tables.tables):
        torch.testing.assert_close(out[:, t].detach(), table.to_dense()[ids[:, t]], rtol=1e-5, atol=1e-6)
    assert torch.equal(tables(ids.int()), out)
    assert torch.equal(tables(list(ids.unbind(1))), out)


def test_bags_in_some_columns_ids_in_others_weights_in_one(tables):
    ids, offsets = ids_of(12), torch.tensor([0, 0, 5, 12])
    weights = torch.linspace(-1, 2, 12)
    inputs = [(ids[:, t], offsets) for t in range(len(ROWS))]
    inputs[3] = ids[:4, 3]
    inputs[5] = (ids[:, 5], offsets, weights)
    out = tables(inputs).detach()
    for t, table in enumerate(tables.tables):
        dense = table.to_dense()
        if t == 3:
            want = dense[ids[:4, 3]]
        else:
            each = weights if t == 5 else None
            want = F.embedding_bag(ids[:, t], dense, offsets, mode="sum", per_sample_weights=each)
        torch.testing.assert_close(out[:, t], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [4, 300])
def test_gradients_are_those_of_the_tables_asked_one_by_one(batch):
    together, alone = make(), make()
    ids, slope = ids_of(batch), torch.randn(batch, len(ROWS), D, generator=Generator().manual_seed(1))
    (together(ids) * slope).sum().backward()
    sum((table(ids[:, t : t + 1]) * slope[:, t]).sum() for t, table in enumerate(alone.tables)).backward()
    wanted = dict(alone.named_parameters())
    for name, parameter in together.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=1e-4, atol=1e-5)


def test_folded_tables_answer_alike_want_no_gradients_and_take_what_the_ledger_says(tables):
    ids, folded = ids_of(40), tables.fold()
    rounded = [t for t, text in enumerate(METHODS) if "bf16" in text]
    exact = [t for t in range(len(ROWS)) if t not in rounded]
    want, got = tables(ids).detach(), folded(ids)
    torch.testing.assert_close(got[:, exact], want[:, exact], rtol=1e-5, atol=1e-6)
    assert torch.equal(got[:, rounded], want[:, rounded].bfloat16().float())
    assert not got.requires_grad
    assert not folded.training
    in_two_bytes = sum(entry.bytes for entry in tables.ledger().serving if entry.itemsize == 2)
    assert in_two_bytes == 2 * 8 * D  # the rounded rows of the one table


def test_the_ledger_is_the_sum_of_the_tables_shared_memory_once(tables):
    alone = [table.ledger().serving_bytes for table in tables.tables]
    assert tables.serving_bytes <= sum(alone) - 4 * 640 + 8 * len(ROWS)  # the second ROBE table has no array of its own
    assert tables.serving_bytes >= sum(alone[t] for t in range(len(ROWS)) if t != 7)
    assert tables.serving_bytes == held_bytes(tables.fold())
    assert tables.full_bytes == 4 * D * sum(ROWS)
    assert tables.ratio == tables.full_bytes / tables.serving_bytes
    shares = tables.table_bytes()
    assert shares[0] == 4 * 7 * D
    assert shares[4] / shares[7] == pytest.approx(500 / 30, rel=0.3)  # of one array, by rows
    training = tables.ledger("adam", batch_size=8)
    assert training.serving_bytes == tables.serving_bytes
    assert training.training_bytes > tables.ledger("sgd", batch_size=8).training_bytes


@pytest.mark.parametrize("t", range(len(ROWS)), ids=METHODS)
@pytest.mark.parametrize("bad", [-1, "n"])
def test_an_id_out_of_range_names_its_table(t, bad, tables):
    ids = ids_of(3)
    ids[1, t] = wrong = ROWS[t] if bad == "n" else bad
    for inputs in (ids, [(column, torch.tensor([0, 1])) for column in ids.unbind(1)]):
        with pytest.raises(IndexError, match=rf"column {t}\b") as error:
            tables(inputs)
        assert str(wrong) in str(error.value)
        assert str(ROWS[t]) in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ids: ids[:, :-1], r"ids must be \(B, 9\), got \(3, 8\)"),
        (lambda ids: ids[0], r"ids must be \(B, 9\), got \(9,\)"),
        (lambda ids: list(ids.unbind(1))[:4], "got 4 inputs for 9 tables"),
        (lambda ids: [*ids.unbind(1)[:8], ids[:2, 8]], "column 8 has 2 bags"),
        (lambda ids: [*ids.unbind(1)[:8], (ids[:, 8], torch.tensor([1, 2, 3]))], "column 8"),
        (lambda ids: [*ids.unbind(1)[:8], (ids[:, 8], torch.tensor([0, 1, 2]), torch.ones(2))], "column 8 has 3 ids"),
        (lambda ids: [ids[:, :1], *ids.unbind(1)[1:]], "column 0"),
    ],
)
def test_what_does_not_fit_is_said(change, words, tables):
    with pytest.raises(ValueError, match=words):
        tables(change(ids_of(3)))
    with pytest.raises(TypeError, match="float"):
        tables(ids_of(3).float())


def test_tables_without_names_are_numbered():
    tables = make(["full", "hash"], [TableConfig(5, D), TableConfig(9, D)])
    with pytest.raises(IndexError, match="table 1"):
        tables(torch.tensor([[0, 9]]))


def test_a_copy_is_independent_and_a_state_dict_carries_all_of_it(tables):
    ids, before = ids_of(6), tables(ids_of(6)).detach().clone()
    twin = copy.deepcopy(tables)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(2)
    assert torch.equal(tables(ids), before)
    assert not torch.equal(twin(ids), before)
    twin.load_state_dict(tables.state_dict())
    assert torch.equal(twin(ids), before)


def test_one_backend_is_named_several_are_mixed(tables):
    kinds = {table.backend for table in tables.tables} - {"torch"}
    assert tables.backend == (kinds.pop() if len(kinds) == 1 else "mixed")
    assert make(["full", "full"], CONFIGS[:2]).backend == "torch"


def test_tables_of_other_methods_with_another_number_of_bags_are_named():
    tables = TableCollection.build([TableConfig(300, 4, "user"), TableConfig(5, 4, "country")], "hash", ratio=2)
    assert len(tables.groups) == 2
    ids = torch.tensor([1, 2, 3])
    with pytest.raises(ValueError, match="user has 3 bags, country has 2"):
        tables([(ids, torch.tensor([0, 1, 2])), (ids, torch.tensor([0, 1]))])
