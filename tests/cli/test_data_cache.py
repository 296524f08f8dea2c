"""`--cache` and `EMBPRESS_CACHE`, as a user meets them."""

import json

import pytest
from click.testing import CliRunner
from criteo_lines import lines, write

from embpress.cli import data_cache
from embpress.cli.main import main

SMALL = ("--methods", "full", "--min-rows", 5, "--dry-run")


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def text(tmp_path):
    return write(tmp_path / "a.txt", "".join(lines(200)))


def test_it_is_told_where_files_were_prepared(tmp_path, text):
    cache = tmp_path / "cache"
    first, second = (run("compare", text, *SMALL, "--cache", cache) for _ in range(2))
    assert first.exit_code == second.exit_code == 0, first.output
    (folder,) = (path for path in cache.iterdir() if not path.name.startswith("."))
    assert first.stdout.startswith(f"prepared into {folder} (found again by")
    assert second.stdout.startswith(f"prepared before, in {folder} (")
    assert first.stdout.splitlines()[1:3] == second.stdout.splitlines()[1:3]
    prepared = run("compare", folder, *SMALL, "--cache", tmp_path / "other")  # it is what a cache holds
    assert prepared.exit_code == 0, prepared.output
    assert not (tmp_path / "other").exists()


def test_train_and_plan_take_it_and_records_say_so(tmp_path, text):
    cache, out = tmp_path / "cache", tmp_path / "run"
    trained = run("train", text, "--cache", cache, "--min-rows", 5, "--out", out)
    assert trained.exit_code == 0, trained.output
    planned = run("plan", text, "--cache", cache, "--method", "hash", "--ratio", 2, "--min-rows", 5)
    assert planned.stdout.startswith("prepared before, in"), planned.output
    (record,) = (out / "records").glob("*.json")
    assert str(cache) in json.loads(record.read_text())["data"]["about"]["prepared"]


def test_the_variable_counts_for_large_files_alone(tmp_path, text, monkeypatch):
    monkeypatch.setenv("EMBPRESS_CACHE", str(tmp_path / "cache"))
    assert "prepared" not in run("compare", text, *SMALL).stdout
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(data_cache, "LARGE", text.stat().st_size)
    assert run("compare", text, *SMALL).stdout.startswith(f"prepared into {tmp_path / 'cache'}")
    assert "prepared" not in run("compare", "--rows", 300, "--scale", 0.0001, *SMALL).stdout  # there is no file
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "part-0").write_text("".join(["label,a\n", *(f"{k % 2},{k % 5}\n" for k in range(90))]))
    named = run("compare", tmp_path / "parts", "--format", "csv", "--label", "label", *SMALL)  # no ending tells
    assert named.exit_code == 0, named.output
    missing = run("compare", tmp_path / "b.txt", *SMALL)
    assert missing.exit_code == 2
    assert "does not exist" in missing.output


def test_what_is_wrong_is_one_sentence(tmp_path, text):
    for cache, said in ((text, "--cache"), ("", "--cache is empty")):
        refused = run("compare", text, *SMALL, "--cache", cache)
        assert refused.exit_code == 2
        assert said in refused.output
    made_up = run("train", "--model", "shop:task", "--cache", tmp_path / "cache")
    assert made_up.exit_code == 2
    assert "--cache does not go with --model" in made_up.output
