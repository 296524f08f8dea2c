"""Narrower plain tables: a full table in all but the name and the width of the model."""

import pytest
import torch

from embpress.compressors import BudgetError, TableCollection, TableConfig, create, parse
from embpress.compressors.spec import PLAIN

CONFIGS = [TableConfig(1000, 16, "large"), TableConfig(50, 16, "small")]


def test_a_narrow_model_is_the_full_model_of_that_width():
    draw = torch.Generator()
    narrow = TableCollection.build(CONFIGS, "narrow:ratio=4", generator=draw.manual_seed(1))
    full = TableCollection.build(
        [TableConfig(n, 4, name) for n, _, name in CONFIGS], "full", generator=draw.manual_seed(1)
    )
    assert narrow.ratio == 4
    assert narrow.embedding_dim == 4
    ids = torch.tensor([[999, 49], [0, 0]])
    assert torch.equal(narrow(ids), full(ids))
    assert len(narrow.groups) == len(narrow.fold().groups) == 1  # small tables, which are full ones, go along


def test_it_is_a_method_under_a_ratio_and_no_second_baseline():
    assert parse("narrow").sizable
    assert not parse("narrow").plain
    assert PLAIN.plain
    with pytest.raises(BudgetError, match="smallest reachable 16"):
        TableCollection.build(CONFIGS, "narrow:ratio=17")


def test_modifiers_leave_it_more_width():
    assert TableCollection.build(CONFIGS[:1], "narrow+bf16", ratio=4).embedding_dim == 8


def test_a_checkpoint_of_a_plain_table_fits():
    table = create("narrow", 30, 4)
    table.load_state_dict(torch.nn.EmbeddingBag(30, 4).state_dict())
