"""When runs first reach an AUC."""

import pytest
from click.testing import CliRunner
from scipy import stats

from embpress.cli.main import main
from embpress.compressors import InputError
from embpress.dlrm.runs.store import save
from embpress.reports import write_report
from embpress.reports.pages.targets.data import Target, lines_of
from embpress.reports.pages.targets.page import NOTHING, lacks, targets_of
from embpress.reports.summary import summary


def curve(*valid, seconds=2.0):
    return [
        {"step": 10 * (k + 1), "epoch": (k + 1) / 2, "valid_auc": auc, "seconds": seconds * (k + 1)}
        for k, auc in enumerate(valid)
    ]


def made(run):
    fulls = [curve(0.70, 0.76, 0.78, 0.77), curve(0.70, 0.74, 0.75, 0.76), curve(0.71, 0.75, 0.79, 0.78)]
    hashes = [curve(0.60, 0.70, 0.778, 0.779, seconds=1.0), curve(0.6, 0.7, 0.75, 0.76, seconds=1.0), curve(0.5, 0.6)]
    runs = [run("full", seed, learning_curve=one) for seed, one in enumerate(fulls)]
    return runs + [run("hash", seed, learning_curve=one) for seed, one in enumerate(hashes)]


def test_first_points_that_reach_it(run):
    rows = summary(made(run))
    full, hashed = lines_of(rows, Target())
    assert (full.reached, full.asked, hashed.reached, hashed.asked) == (3, 3, 1, 3)
    assert full.epochs.mean == pytest.approx((1.5 + 2 + 1.5) / 3)
    low, high = stats.t.interval(0.95, 2, full.epochs.mean, stats.sem([1.5, 2, 1.5]))
    assert (full.epochs.low, full.epochs.high) == pytest.approx((low, high))
    assert (hashed.epochs.mean, hashed.seconds.mean, hashed.epochs.low) == (2.0, 4.0, None)
    assert hashed.to_full.mean == pytest.approx(4.0 / 8.0)  # of the seed in which both got there


def test_a_little_below_and_a_number(run):
    rows = summary(made(run))
    near = lines_of(rows, Target(below=0.005))[1]
    assert near.reached == 2  # 0.775 at 1.5 epochs, 0.755 at 2
    assert near.epochs.mean == 1.75
    fixed = lines_of(rows, Target(0.70))
    assert [line.reached for line in fixed] == [3, 2]
    assert fixed[1].epochs.mean == 1.0
    assert [line.reached for line in lines_of(rows, Target(0.9))] == [0, 0]


def test_without_full_tables_only_a_number_will_do(run):
    runs = [one for one in made(run) if not one.is_full]
    assert lines_of(summary(runs), Target()) == []
    assert lacks(runs) == NOTHING
    assert lacks(runs, "0.7") == ""
    assert lines_of(summary(runs), Target(0.7))[0].to_full is None


@pytest.mark.parametrize("text", ["half", "1.2", "-0.5", "0", "nan"])
def test_other_targets_are_refused(text):
    with pytest.raises(InputError, match="--target"):
        targets_of(text)


def test_the_page(run, tmp_path):
    write_report(tmp_path, made(run), ["targets"])
    text = (tmp_path / "targets.md").read_text()
    assert text.count("## Validation AUC of") == 4
    assert "| hash | " in text
    assert "| 1 of 3 | 2 | 4 | 0.50 |" in text
    assert (tmp_path / "plots" / "seconds_to_target.png").exists()
    write_report(tmp_path, made(run), ["targets"], options={"target": "0.95"})
    assert "| 0 of 3 | – | – | – |" in (tmp_path / "targets.md").read_text()
    assert not (tmp_path / "plots" / "seconds_to_target.png").exists()


def test_the_command_writes_it(run, tmp_path):
    for one in made(run):
        save(tmp_path, one)
    done = CliRunner().invoke(main, ["report", str(tmp_path), "--target", "0.75"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "Validation AUC of 0.75" in (tmp_path / "targets.md").read_text()
    for wrong in (["--target", "much"], ["--target", "0.7", "--format", "csv"]):
        done = CliRunner().invoke(main, ["report", str(tmp_path), *wrong])
        assert done.exit_code == 2
        assert "--target" in done.output
