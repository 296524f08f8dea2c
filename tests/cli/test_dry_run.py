"""`compare --dry-run`: a line a method and size, totals, nothing written."""

import re

import pytest
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.cli.show import duration

SMALL = ["--rows", "4000", "--scale", "0.001", "--min-count", "1", "--threads", "1"]
METHODS = ["--methods", "full,hash,hash:k=9,narrow"]


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def test_what_would_be_run_is_shown_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("compare", *SMALL, *METHODS, "--ratio", "4,16", "--seeds", "3", "--dry-run")
    assert done.exit_code == 0, done.output
    assert not list(tmp_path.iterdir())
    rows = {line.split("  ")[0].strip(): line.split() for line in done.stdout.splitlines()}
    assert rows["full"][1:4] == ["357.2", "kB", "1.0×"]
    assert rows["hash @4×"][2:4] == ["89.3", "kB"]
    assert {"hash:k=9", "narrow @4×", "narrow @16×"} <= set(rows)
    text = " ".join(done.stdout.split())
    assert "hash @16×: cannot reach 16×, smallest reachable" in text
    assert re.search(r"18 runs: 0 there already in runs/synthetic-\w+, 15 to be run, 3 out of reach; about \d", text)


def test_runs_that_are_there_are_counted(tmp_path):
    assert call("compare", *SMALL, *METHODS, "--ratio", "4", "--out", tmp_path).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    done = call("compare", *SMALL, *METHODS, "--ratio", "4,8", "--out", tmp_path, "--dry-run")
    assert "6 runs: 4 there already" in " ".join(done.stdout.split())
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = call("compare", *SMALL, *METHODS, "--ratio", "4", "--out", tmp_path, "--dry-run")
    assert "4 runs: 4 there already" in " ".join(again.stdout.split())
    assert "about" not in again.stdout.split("Nothing was")[0].splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--methods", "full,hash,qr", "--ratio", "900"], "hash cannot reach 900×"),
        (["--methods", "robbe"], "'robe'"),
        (["--model", "nowhere:task"], "--dry-run does not go with --model nowhere:task"),
    ],
)
def test_what_compare_refuses_is_refused(options, words, tmp_path):
    done = call("compare", *SMALL, *options, "--dry-run", "--out", tmp_path / "none")
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (0.2, "1 s"), (89, "89 s"), (600, "10 min"), (7000, "1.9 h"), (9e5, "250.0 h")]
)
def test_times_are_said_in_words(seconds, text):
    assert duration(seconds) == text
