"""Several sizes in one comparison: what is run, what is run once, what is found, what cannot be reached."""

import json
from collections import Counter

import pytest
from click.testing import CliRunner

from embpress.cli.main import main

SMALL = ["--rows", "4000", "--scale", "0.001", "--min-count", "1", "--threads", "1"]


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def refused(*arguments):
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    return done.stderr.strip().splitlines()[-1]


def records(folder):
    return [json.loads(path.read_text()) for path in (folder / "records").glob("*.json")]


def asked(folder):
    """How many runs there are of each method and asked size."""
    return Counter((r["method"], r["asked"]["ratio"], r["asked"]["budget"]) for r in records(folder))


METHODS = "full,hash,tt:rank=2,robe:ratio=3,full+int8,qr"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    before = call("compare", *SMALL, "--methods", "hash", "--ratio", "4", "--out", folder)
    assert before.exit_code == 0, before.output
    done = call("compare", *SMALL, "--methods", METHODS, "--ratio", "4, 8,64", "--seeds", "2", "--out", folder)
    assert done.exit_code == 0, done.output
    return folder, done


def test_every_size_is_run_and_what_has_one_size_only_is_run_once(swept):
    folder, done = swept
    sized = {(method, ratio, None): 2 for method in ("hash", "qr") for ratio in (4.0, 8.0, 64.0)}
    own = {(method, None, None): 2 for method in ("full", "tt:rank=2", "full+int8")}
    assert asked(folder) == {**sized, **own, ("robe:ratio=3", 3.0, None): 2}
    assert "6 methods × 3 sizes × 2 seeds" in " ".join(done.stdout.split())
    assert done.stderr.count("kept from before") == 1
    for record in records(folder):
        if record["status"] == "ok" and record["asked"]["ratio"]:
            assert record["metrics"]["ratio"] >= record["asked"]["ratio"]


def test_what_cannot_be_reached_is_a_row(swept):
    folder, done = swept
    lost = {(r["method"], r["asked"]["ratio"]) for r in records(folder) if r["status"] != "ok"}
    assert lost == {("hash", 64.0), ("qr", 64.0), ("qr", 8.0)}
    assert all(r["status"] == "cannot reach" for r in records(folder) if r["status"] != "ok")
    assert "cannot reach 64×" in done.stdout


def test_nothing_is_run_twice_by_one_command_for_each_size_either(swept):
    folder, _ = swept
    before = {path: path.stat().st_mtime_ns for path in (folder / "records").glob("*.npy")}
    again = call("compare", *SMALL, "--methods", METHODS, "--ratio", "8", "--seeds", "2", "--out", folder)
    assert again.stderr.count("kept from before") == 10  # all but qr at 8×, which is tried again
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "records").glob("*.npy")}


def test_the_report_has_one_table_by_size(swept):
    folder, _ = swept
    text = (folder / "report.md").read_text()
    table = text.partition("## Results")[2].partition("\n\n##")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][2:]
    sizes = {"hash @4×": 4, "hash @8×": 8, "hash @64×": 64, "qr @4×": 4, "qr @8×": 8, "qr @64×": 64}
    assert rows[0] == "full"
    order = [sizes[row] for row in rows if row in sizes]
    assert len(order) == 6
    assert order == sorted(order)


def test_budgets_are_sizes_as_well(tmp_path):
    done = call("compare", *SMALL, "--methods", "full,hash", "--budget", "90k,0.06M", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert set(asked(tmp_path)) == {("full", None, None), ("hash", None, 90_000), ("hash", None, 60_000)}
    assert all(r["metrics"]["serving_bytes"] <= (r["asked"]["budget"] or 1e9) for r in records(tmp_path))


def test_only_what_no_method_reaches_at_any_size_is_refused(tmp_path):
    folder = tmp_path / "none"
    line = refused("compare", *SMALL, "--methods", "full,hash,qr", "--ratio", "500,900", "--out", folder)
    assert "hash cannot reach 500×" in line
    assert "900×" in line
    assert not folder.exists()
    done = call("compare", *SMALL, "--methods", "full,hash", "--ratio", "4,900", "--out", folder)
    assert done.exit_code == 0
    assert [r["asked"]["ratio"] for r in records(folder) if r["status"] == "cannot reach"] == [900.0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ratio", "4,x"], "'x'"),
        (["--ratio", "4,,8"], "''"),
        (["--ratio", "4,0.5"], "at least 1"),
        (["--ratio", "4,8,4.0"], "the same size twice"),
        (["--budget", "1M,1000k"], "the same size twice"),
        (["--budget", "20M,much"], "'much'"),
        (["--ratio", "4,8", "--budget", "2M"], "not both"),
        (["--ratio", "4", "--budget", "2M,1M"], "not both"),
    ],
)
def test_sizes_that_are_none_are_refused(options, words, tmp_path):
    assert words in refused("compare", *SMALL, "--methods", "hash", *options, "--out", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", ["train", "plan"])
def test_one_run_has_one_size(command, tmp_path):
    assert "'4,16'" in refused(command, *SMALL, "--method", "hash", "--ratio", "4,16")
