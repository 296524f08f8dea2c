"""What commands print while they work."""

import time

import pytest

from embpress.cli.show import RunProgress


@pytest.fixture
def clock(monkeypatch):
    """The time in a list, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_a_log_says_now_and_then_how_far_a_long_run_is(clock, capsys):
    with RunProgress() as progress:
        advance = progress.start(2, 9, "robe · seed 0")
        for second in range(2000):
            clock[0] = float(second)
            advance(10 * second, 40_000, "training")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "[2/9] robe · seed 0: 2% of training, 10 samples/s, about 66 min left"
    assert 10 < len(lines) < 25  # each minute for ten, then at longer and longer times


def test_a_run_that_was_taken_up_tells_the_speed_of_now(clock, capsys):
    with RunProgress() as progress:
        advance = progress.start(1, 1, "tt")
        for second in range(70):
            clock[0] = float(second)
            advance(30_000 + 10 * second, 40_000, "training")
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "[1/1] tt: 77% of training, 10 samples/s, about 16 min left"


def test_a_short_run_says_nothing_before_it_ends(clock, capsys):
    with RunProgress() as progress:
        advance = progress.start(1, 1, "tt")
        for second in range(50):
            clock[0] = float(second)
            advance(second, 100, "training")
    assert capsys.readouterr().err == ""
