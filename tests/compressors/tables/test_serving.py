"""Folding step by step: each modifier of serving on top of those before, in collections and in anybody's model."""

import pytest
import shop
import torch

from embpress.compressors import Modifier, TableCollection, TableConfig, compress_model, create, fold_model
from embpress.compressors.modifiers.base import ModifierGroup
from embpress.compressors.modifiers.bf16 import BFloat16
from embpress.compressors.tables.serving import fold_steps, folded
from embpress.compressors.tables.whole_model import served_model


class Scaled(Modifier):
    """Scales rows wherever they are looked up: part of training."""

    modifier_name = "scaled"
    by = 3.0

    def forward(self, *bags):
        return self.by * self.table(*bags)

    def lookup(self, ids):
        return self.by * self.table.lookup(ids)

    def _lookup(self, ids):
        return self.by * self.table._lookup(ids)

    def fold(self):
        return Scaled(self.table.fold()).eval()


class DoubledGroup(ModifierGroup):
    def fold(self):
        inner = super().fold()  # a group, or tables where they come apart
        return [Doubled.serving(table) for table in (inner if isinstance(inner, list) else inner.tables)]


class Doubled(Modifier):
    """Served twice as large as trained, which nothing but folding does."""

    modifier_name = "doubled"
    at_fold = True
    group = DoubledGroup

    @staticmethod
    def serving(table):
        made = Scaled(table)
        made.by = 2.0
        return made.eval()

    def fold(self):
        return self.serving(self.table.fold())


CONFIGS = [TableConfig(50, 4, "a"), TableConfig(60, 4, "b"), TableConfig(9, 4, "plain")]
IDS = torch.arange(9).unsqueeze(1).expand(9, 3)


def collection(wrap, method="hash:k=20"):
    g = torch.Generator().manual_seed(0)
    tables = [wrap(create(method, n, 4, generator=g)) for n, _, _ in CONFIGS[:2]]
    return TableCollection(CONFIGS, [*tables, create("full", 9, 4, generator=g)], 4 * 4 * 119)


def by_steps(tables):
    """What comes out after each step, next to what was trained."""
    before = tables(IDS).detach()
    return {text: tables.fold(step)(IDS) for text, step in fold_steps(tables.tables)}, before


@pytest.mark.parametrize("method", ["hash:k=20", "full", "tt:rank=2"])
def test_one_modifier_after_another_from_the_inside_out(method):
    tables = collection(lambda table: Doubled(BFloat16(table)), method)
    found, trained = by_steps(tables)
    assert list(found) == ["bf16", "doubled"]
    first, last = found.values()
    assert not torch.equal(first[:, :2], trained[:, :2])
    torch.testing.assert_close(first, trained, rtol=0.05, atol=1e-3)
    torch.testing.assert_close(last[:, :2], 2 * first[:, :2])
    assert torch.equal(last[:, 2], trained[:, 2])  # the plain table
    assert torch.equal(last, tables.fold()(IDS))
    assert torch.equal(tables(IDS), trained)


def test_what_a_modifier_of_training_wraps_comes_first_and_together():
    tables = collection(lambda table: Doubled(Scaled(BFloat16(table))))
    found, trained = by_steps(tables)
    assert list(found) == ["bf16+scaled", "doubled"]
    first, last = found.values()
    torch.testing.assert_close(first, trained, rtol=0.05, atol=1e-3)
    torch.testing.assert_close(last[:, :2], 2 * first[:, :2])


def test_without_modifiers_of_serving_there_is_no_step():
    assert fold_steps(collection(lambda table: table).tables) == []
    assert fold_steps(collection(Scaled).tables) == []
    table = Doubled(create("full", 5, 2))
    table.at_fold = False  # as one whose knob brings it into training
    assert fold_steps([table]) == []


def test_tables_that_differ_take_their_steps_together():
    a, b = Doubled(BFloat16(create("full", 5, 2))), BFloat16(create("full", 5, 2))
    c = Doubled(create("full", 5, 2))
    assert fold_steps([a, b, c]) == [("bf16, doubled", 1), ("doubled", 2)]
    rows = [folded(table, 1).to_dense() for table in (a, b, c)]
    torch.testing.assert_close(rows[0], a.to_dense(), rtol=0.01, atol=0)
    assert torch.equal(rows[1], b.fold().to_dense())
    assert torch.equal(rows[2], 2 * c.to_dense())


def test_a_model_is_served_for_a_while_and_then_as_it_was():
    model = shop.TwoTower()
    compress_model(model, "hash:k=50+bf16", min_rows=10, generator=torch.Generator().manual_seed(0))
    users, words, _ = shop.samples(50)
    model.eval()
    trained, modules = model(users, words), list(model.modules())
    with served_model(model, 1) as served:
        assert served is model
        found = model(users, words)
    assert not torch.equal(found, trained)
    assert list(map(id, model.modules())) == list(map(id, modules))
    assert torch.equal(model(users, words), trained)
    with pytest.raises(ZeroDivisionError), served_model(model):
        raise ZeroDivisionError
    assert torch.equal(model(users, words), trained)
    assert torch.equal(fold_model(model)(users, words), found)
