"""`embpress report` of several run folders, and against an earlier one."""

import io
import json
import shutil

import pandas as pd
import pytest
from click.testing import CliRunner

from embpress.cli.main import main

SMALL = ["--rows", "4000", "--scale", "0.001", "--min-count", "1", "--threads", "1", "--ratio", "4"]


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def refused(*arguments):
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    return done.stderr.strip().splitlines()[-1]


def one_line(done):
    return " ".join(done.stdout.split())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of one comparison, which share a run, and one of other training."""
    home = tmp_path_factory.mktemp("runs")
    for name, methods, more in (
        ("a", "full,hash", ["--seeds", "2"]),
        ("b", "hash,qr", []),
        ("other", "full", ["--lr", "0.05"]),
    ):
        done = call("compare", *SMALL, "--methods", methods, *more, "--out", home / name)
        assert done.exit_code == 0, done.output
    return home


@pytest.fixture
def changed(folders, tmp_path):
    """A copy of the first folder, with records changed."""

    def make(change):
        folder = tmp_path / "changed"
        shutil.copytree(folders / "a", folder)
        for path in (folder / "records").glob("*.json"):
            record = json.loads(path.read_text())
            change(record)
            path.write_text(json.dumps(record))
        return folder

    return make


def test_folders_are_pooled_into_one_report(folders, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in folders.rglob("*")}
    done = call("report", folders / "a", folders / "b", "--out", tmp_path / "both")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "both" / "report.md").read_text()
    results = text.partition("## Results")[2].partition("\n## ")[0]
    assert {method: f"| {method} |" in results for method in ("full", "hash", "qr")} == {
        "full": True, "hash": True, "qr": True
    }  # fmt: skip
    assert not (tmp_path / "both" / "records").exists()
    assert before == {path: path.stat().st_mtime_ns for path in folders.rglob("*")}
    csv = call("report", folders / "a", folders / "b", "--format", "csv")
    frame = pd.read_csv(io.StringIO(csv.stdout))
    assert sorted(zip(frame["method"], frame["seed"])) == [
        ("full", 0), ("full", 1), ("hash", 0), ("hash", 1), ("qr", 0)
    ]  # fmt: skip


def test_without_a_place_for_it_the_table_is_shown_and_nothing_written(folders):
    before = {path: path.stat().st_mtime_ns for path in folders.rglob("*")}
    done = call("report", folders / "a", folders / "b")
    assert done.exit_code == 0, done.output
    assert "qr" in done.stdout
    assert "not written: --out FOLDER" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in folders.rglob("*")}


def test_nothing_is_worse_than_itself(folders):
    done = call("report", folders / "a", "--against", folders / "a")
    assert done.exit_code == 0, done.output
    assert "Nothing is worse beyond noise." in done.stdout
    assert "## What changed\n\nNothing is worse beyond noise." in (folders / "a" / "report.md").read_text()
    assert call("report", folders / "a").exit_code == 0
    assert "What changed" not in (folders / "a" / "report.md").read_text()


def test_more_bytes_are_worse_and_the_exit_status_says_so(folders, changed):
    def fatter(record):
        if record["name"] == "hash":
            record["metrics"]["serving_bytes"] += 8

    done = call("report", changed(fatter), "--against", folders / "a")
    assert done.exit_code == 1, done.output
    assert "Worse beyond noise: hash @4×: 8 bytes more." in one_line(done)


def test_slower_steps_are_worse_beyond_the_tolerance(folders, changed):
    def slower(record):
        record["metrics"]["step_ms"] *= 3 if record["name"] == "hash" else 1

    folder = changed(slower)
    done = call("report", folder, "--against", folders / "a")
    assert done.exit_code == 1, done.output
    assert "hash @4×: step 3.00×" in one_line(done)
    assert call("report", folder, "--against", folders / "a", "--tolerance", "4").exit_code == 0


def test_auc_of_two_seeds_that_falls_alike_is_worse(folders, changed):
    def lower(record):
        record["metrics"]["auc"] -= 0.01

    done = call("report", changed(lower), folders / "b", "--against", folders / "a")
    assert done.exit_code == 1, done.output
    assert "full: AUC −0.0100" in one_line(done)
    assert "Not there before, and not compared: qr @4×." in one_line(done)


def test_what_does_not_go_together_is_refused(folders, tmp_path):
    a, b, other = (folders / name for name in ("a", "b", "other"))
    line = refused("report", a, other, "--out", tmp_path / "none")
    assert f"{other} holds runs with another learning rate (0.02 and 0.05), compared with {a}" in line
    assert "another learning rate" in refused("report", a, "--against", other)
    assert "no such run folder" in refused("report", a, "--against", folders / "nowhere")
    assert "--page ranks" in refused("report", a, b, "--page", "ranks")
    assert "--out does not go with --format csv" in refused("report", a, "--format", "csv", "--out", tmp_path / "x")
    assert "--against does not go" in refused("report", a, "--format", "json", "--against", b)
    assert "--against does not go with --across" in refused("report", a, "--across", "x.md", "--against", b)
    assert "--tolerance goes with --against" in refused("report", a, "--tolerance", "2")
    assert "ratio above 1" in refused("report", a, "--against", b, "--tolerance", "0.9")
    assert not (tmp_path / "none").exists()
