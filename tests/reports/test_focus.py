"""Which rows of a long summary are looked at first."""

import pytest
from made_runs import made_run, made_runs

from embpress.reports.focus import focus
from embpress.reports.summary import summary


@pytest.fixture(scope="module")
def rows():
    return summary(made_runs(20, 2))


def test_few_rows_are_all_looked_at(rows):
    assert focus(rows, len(rows)) == list(rows)


def test_every_size_has_its_best_in_the_order_of_the_summary(rows):
    shown = focus(rows, 10)
    assert len(shown) == 10
    assert [row.label for row in rows if row in shown] == [row.label for row in shown]
    assert shown[0].is_full
    for ratio in (4.0, 16.0, 64.0):
        here = [row for row in rows if row.asked_ratio == ratio]
        best = sorted(here, key=lambda row: -row.mean("auc"))[:3]
        assert [row.label for row in shown if row.asked_ratio == ratio] == [row.label for row in best]


def test_rows_without_a_result_make_way(rows):
    lost = [made_run(f"m{i}", 0, 4.0, 0.9, status="failed", metrics={}) for i in range(30)]
    shown = focus(summary([*made_runs(5, 1), *lost]), 12)
    assert all("auc" in row.stats for row in shown)
