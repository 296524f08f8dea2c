"""A method and a modifier that lie in a folder, or come from another package, are known without touching anything."""

import importlib
import sys

import pytest
import torch

import embpress.compressors as compressors
from embpress.compressors import TableCollection, TableConfig, available, create, parse
from embpress.compressors.registry import METHODS, MODIFIERS
from embpress.compressors.testing import CHECKS, subject_of

METHOD = '''
"""Rows that are all of one vector, scaled by id."""
import torch
from torch import nn
from embpress.compressors.base import Compressor
from embpress.compressors.init import uniform_
from embpress.compressors.registry import register

@register("scaled")
class Scaled(Compressor):
    """One vector."""
    def __init__(self, num_embeddings, embedding_dim, *, power: int = 1, **options):
        super().__init__(num_embeddings, embedding_dim, **options)
        self.power = power
        where = {"device": options.get("device"), "dtype": options.get("dtype")}
        self.vector = nn.Parameter(torch.empty(embedding_dim, **where))
        self.reset_parameters(options.get("generator"))
    def reset_parameters(self, generator=None):
        uniform_(self.vector, -1, 1, generator)
    def _lookup(self, ids):
        return ((ids + 1) / self.num_embeddings).pow(self.power).to(self.vector.dtype).unsqueeze(1) * self.vector
    def _activation_bytes(self, batch_size):
        return batch_size * (16 + 2 * self.embedding_dim * self.itemsize)
'''
MODIFIER = '''
"""Rows come out negated while they are trained and served."""
from embpress.compressors.modifiers.base import Modifier, ModifierGroup
from embpress.compressors.registry import register_modifier

class _NegatedGroup(ModifierGroup):
    def forward(self, ids, offsets=None, weights=None):
        return -self.inner(ids, offsets, weights)
    def fold(self):
        return [table.fold() for table in self.tables]

@register_modifier("negated")
class Negated(Modifier):
    """Negates."""
    group = _NegatedGroup
    def forward(self, *arguments):
        return -self.table(*arguments)
    def lookup(self, ids):
        return -self.table.lookup(ids)
    def _lookup(self, ids):
        return -self.table._lookup(ids)
    def fold(self):
        return Negated(self.table.fold()).eval()
'''


@pytest.fixture
def dropped(tmp_path, monkeypatch):
    """The two modules lie where methods and modifiers are found."""
    for registry, name, text in ((METHODS, "scaled", METHOD), (MODIFIERS, "negated", MODIFIER)):
        registry.names()  # what is there already registers once a process
        folder = tmp_path / registry.kind
        folder.mkdir()
        (folder / f"{name}.py").write_text(text)
        package = importlib.import_module(registry.package)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        monkeypatch.setattr(registry, "known", dict(registry.known))
    yield
    for registry, name in ((METHODS, "scaled"), (MODIFIERS, "negated")):
        sys.modules.pop(f"{registry.package}.{name}", None)


def test_a_method_in_the_folder_is_known_everywhere(dropped):
    assert "scaled" in available()
    assert compressors.Scaled is METHODS.get("scaled")
    table = create("scaled:power=2", 10, 4)
    torch.testing.assert_close(table.lookup(torch.tensor(4)), 0.25 * table.vector)
    for check in CHECKS:
        check(subject_of("scaled:power=2"))


def test_a_modifier_in_the_folder_goes_around_every_method(dropped):
    assert str(parse("robe:z=4+negated+bf16")) == "robe:z=4+negated+bf16"
    table = create("hash:k=50+negated", 100, 8)
    ids = torch.tensor([3, 99])
    torch.testing.assert_close(table.lookup(ids), -table.table.lookup(ids))
    configs = [TableConfig(300, 8, "a"), TableConfig(400, 8, "b")]
    tables = TableCollection.build(configs, "robe:size=500+negated", generator=torch.Generator().manual_seed(0))
    plain = TableCollection.build(configs, "robe:size=500", generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 2], [299, 399]])
    assert torch.equal(tables(ids), -plain(ids))
    assert torch.equal(tables.fold()(ids), -plain(ids))
    for check in CHECKS:
        check(subject_of("hash+negated"))


def test_a_plug_in_modifier_is_loaded_and_a_broken_one_is_named(dropped, monkeypatch):
    class Point:
        value = "somewhere:Thing"

        def __init__(self, name, load):
            self.name, self.load = name, load

    points = {
        "other": Point("other", lambda: type("Other", (compressors.Modifier,), {})),
        "odd": Point("odd", lambda: 42),
    }
    monkeypatch.setattr(MODIFIERS, "plug_ins", lambda: points)
    monkeypatch.setattr(MODIFIERS, "broken", {})
    assert str(parse("hash+other")) == "hash+other"
    assert "odd" in compressors.broken()
    with pytest.raises(compressors.InputError, match="did you mean 'negated'"):
        parse("hash+negatd")


def test_a_file_that_does_not_load_is_named_and_the_others_go_on(dropped, tmp_path):
    (tmp_path / "method" / "torn.py").write_text("x = (")
    try:
        assert "SyntaxError" in compressors.broken()["torn"]
        assert "scaled" in available()
        with pytest.raises(compressors.InputError, match="'torn' does not load: SyntaxError"):
            parse("torn")
    finally:
        METHODS.broken.pop("torn", None)
