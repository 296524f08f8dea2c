"""Members of a folder: what is found without an import, and what is said of those that do not load."""

import ast
import sys

import pytest

from embpress.kernels import found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "somewhere_else").mkdir()
    for name, text in (
        ("b", '"""About b."""\nX = 1'),
        ("a", "X = 2"),
        ("torn", "raise ValueError('odd')"),
        ("_no", ""),
    ):
        (tmp_path / "somewhere_else" / f"{name}.py").write_text(text)
    (tmp_path / "somewhere_else" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("somewhere_else")]:
        del sys.modules[name]


def test_names_and_sources_are_known_without_an_import(folder):
    assert found.names("somewhere_else") == ["a", "b", "torn"]
    assert ast.get_docstring(found.tree("somewhere_else", "b")) == "About b."
    assert not [name for name in sys.modules if name.startswith("somewhere_else.")]


def test_one_that_does_not_load_raises_or_is_named_while_the_others_go_on(folder):
    with pytest.raises(ValueError, match="odd"):
        found.modules("somewhere_else")
    broken = {"a": "known to be broken, and not tried again"}
    assert {name: module.X for name, module in found.modules("somewhere_else", broken).items()} == {"b": 1}
    assert broken["torn"] == "ValueError: odd"
