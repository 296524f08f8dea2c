"""When it is said that threads wait for each other."""

import statistics

import pytest
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.dlrm.training import waiting
from embpress.dlrm.training.waiting import threads_wait


@pytest.mark.parametrize(
    ("steps", "wait"),
    [
        ([0.005] * 1000, False),
        ([0.005] * 900 + [0.5] * 100, True),  # a tenth of the steps a hundred times as long
        ([0.005] * 999 + [3.0], False),  # one pause, such as a first step that warms up
        ([0.001] * 90 + [0.1] * 10, False),  # long ones too, but a second in all
        ([0.1, 0.3] * 500, False),  # they differ, but not by much
        ([], False),
    ],
)
def test_a_few_steps_that_take_most_of_the_time(steps, wait):
    assert threads_wait(statistics.median(steps) if steps else 0.0, sum(steps), len(steps)) is wait


def test_train_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "threads_wait", lambda median, total, steps: median < total and steps == 12)
    options = ["--rows", "4000", "--scale", "0.001", "--threads", "2", "--out", str(tmp_path)]
    done = CliRunner().invoke(main, ["train", *options])
    assert done.exit_code == 0, done.output
    assert done.stderr.count("--threads 1 may be faster") == 1
    done = CliRunner().invoke(main, ["train", *options])  # that run is kept: nothing waited
    assert "may be faster" not in done.stderr
