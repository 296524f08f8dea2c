"""What the commands say of run folders, and what they leave in them."""

import json

from click.testing import CliRunner

from embpress.cli.main import main
from embpress.reports import load

SMALL = ["--rows", "3000", "--scale", "0.001", "--min-count", "1", "--threads", "1"]


def compare(*options):
    return CliRunner().invoke(main, ["compare", *SMALL, *map(str, options)])


def test_what_is_refused_leaves_no_folder(tmp_path):
    done = compare("--methods", "tt,mlet", "--ratio", "1e6", "--out", tmp_path / "new" / "run")
    assert done.exit_code == 2
    assert "smallest reachable" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_joining_and_what_a_size_out_of_reach_is_called(tmp_path):
    first = compare("--methods", "full", "--out", tmp_path)
    assert first.exit_code == 0, first.output
    assert "joins" not in first.output
    second = compare("--methods", "robe:ratio=4,hash", "--ratio", "30", "--out", tmp_path)
    assert second.exit_code == 0, second.output
    assert f"joins 1 run in {tmp_path}\n" in second.stdout
    # one rounding: the line of the run, the table's note, the report, the record, the frame
    records = [json.loads(path.read_text()) for path in (tmp_path / "records").glob("hash-s0*.json")]
    assert [record["smallest"]["ratio"] for record in records] == [10.5]
    assert "smallest reachable 10.5× (28,064 bytes)" in records[0]["reason"]
    assert "hash: cannot reach 30×, smallest 10.5×" in second.stdout
    assert "cannot reach 30×, smallest 10.5×" in (tmp_path / "report.md").read_text()
    frame = load(tmp_path).set_index("method")
    assert list(frame.index) == ["full", "hash", "robe:ratio=4"]
    assert frame.loc["hash", "smallest_ratio"] == 10.5
    assert frame.loc["full", "auc"] > 0.4
    assert frame.loc["robe:ratio=4", "latency_of_seed"] == 0
