"""Named sets of methods: those that are there, mixed with others, and one from a folder elsewhere."""

import sys

import pytest
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.compressors import InputError, available, parse
from embpress.dlrm import sets as folder
from embpress.dlrm.sets import DEFAULT, parse_methods, sets, specs_of


@pytest.mark.parametrize("name", sets())
def test_a_set_says_what_it_holds_and_holds_it_once(name):
    assert sets()[name].endswith(".")
    specs = specs_of(name)
    assert specs
    assert parse_methods(name) == [parse(spec) for spec in specs]


def test_baselines_are_baselines_and_papers_are_not():
    assert all(parse(spec).baseline for spec in specs_of("baselines"))
    assert not any(parse(spec).baseline for spec in specs_of("papers"))
    assert "full" in specs_of("baselines")


def test_what_is_compared_by_default_has_full_tables_baselines_and_methods():
    assert specs_of(DEFAULT)[0] == "full"
    assert {*specs_of(DEFAULT)} <= {*specs_of("baselines"), *specs_of("papers")}


def test_all_leaves_no_method_out():
    held = {parse(spec).name for spec in specs_of("all")}
    assert held == set(available())
    assert {spec for name in sets() for spec in specs_of(name)} == {*specs_of("all")}


def test_sets_and_methods_may_be_mixed_and_nothing_is_there_twice():
    specs = [str(spec) for spec in parse_methods("robe:z=8, papers,baselines,full")]
    assert specs[0] == "robe:z=8"
    assert len(specs) == len(set(specs)) == len({*specs_of("papers"), *specs_of("baselines")}) + 1
    for text in ("papers,papers", "robe:z=8,papers,robe:z=8"):
        with pytest.raises(InputError, match="twice"):
            parse_methods(text)
    with pytest.raises(InputError, match="no method is given"):
        parse_methods(" , ")


def test_a_set_from_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text('"""What I like."""\n\nMETHODS = ("full", "hash:k=9")\n')
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    try:
        assert [str(spec) for spec in parse_methods("mine,tt")] == ["full", "hash:k=9", "tt"]
        shown = CliRunner().invoke(main, ["list"]).output
        assert "What I like." in shown
        (tmp_path / "hash.py").write_text('"""No name for a set."""\n\nMETHODS = ("full",)\n')
        with pytest.raises(InputError, match="'hash' is the name of a method and of a set"):
            parse_methods("hash")
    finally:
        sys.modules.pop(f"{folder.__name__}.mine", None)
