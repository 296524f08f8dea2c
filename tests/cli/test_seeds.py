"""`--seeds auto:WIDTH` from the command line: rounds, resuming, refusals; what a run folder keeps for the intervals."""

import numpy as np
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.dlrm.data import load
from embpress.dlrm.runs.store import labels_path, read_all

SMALL = ["--rows", "3000", "--scale", "0.001", "--min-count", "1", "--threads", "1"]


def compare(*options):
    return CliRunner().invoke(main, ["compare", *SMALL, *map(str, options)])


def one_line(text):
    return " ".join(text.split())


def test_seeds_are_added_round_by_round_and_the_same_command_goes_on(tmp_path):
    tight = ("--methods", "full,hash:ratio=4", "--seeds", "auto:0.000001:max=4", "--out", tmp_path)
    done = compare(*tight)
    assert done.exit_code == 0, done.output
    assert "2 methods × at most 4 seeds" in one_line(done.stdout)
    assert "3 seeds: 1 of 1 differences wider than ±1e-06: hash:ratio=4 ±0." in one_line(done.stderr)
    assert "4 seeds are the limit" in one_line(done.stderr)
    assert sorted((run.name, run.seed) for run in read_all(tmp_path)) == [
        (m, s) for m in ("full", "hash") for s in range(4)
    ]
    # killed after three rounds: what is there is kept, and the end is the same
    for path in (tmp_path / "records").glob("*-s3-*.json"):
        path.unlink()
    again = compare(*tight)
    assert again.stderr.count("(kept from before)") == 6
    assert again.stderr.splitlines()[-1] == done.stderr.splitlines()[-1]
    # what is known already needs no run
    loose = compare("--methods", "full,hash:ratio=4", "--seeds", "auto:0.5", "--out", tmp_path)
    assert loose.stderr.count("(kept from before)") == 6
    assert "3 seeds: every difference to the full tables is known to ±" in one_line(loose.stderr)
    data = load(rows=3000, scale=0.001, min_count=1)
    kept = np.load(labels_path(tmp_path, data.fingerprint))
    assert kept.dtype == np.int8
    np.testing.assert_array_equal(kept, data.test.labels.numpy())
    text = (tmp_path / "report.md").read_text()
    assert "95 % over seeds and rows" in text
    assert f"other rows than these {len(data.test):,}" in text


def test_one_seed_has_an_interval_over_the_test_rows(tmp_path):
    done = compare("--methods", "full,hash:ratio=4,qr:ratio=4", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "what another would change is unknown" in one_line(done.stdout)
    assert "95 % over test rows" in (tmp_path / "report.md").read_text()


def test_refusals(tmp_path):
    for seeds, said in (
        ("auto:0.002", "the methods have no full"),
        ("auto:big", "auto:HALF_WIDTH[:max=SEEDS]"),
        ("0", "--seeds"),
        ("many", "--seeds"),
    ):
        done = compare("--methods", "hash", "--ratio", "4", "--seeds", seeds, "--out", tmp_path / "new")
        assert done.exit_code == 2
        assert said in done.stderr
        assert list(tmp_path.iterdir()) == []
