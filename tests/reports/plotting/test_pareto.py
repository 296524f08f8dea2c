"""The Pareto front where sizes that differ a little are one; the rest is in test_summary."""

from embpress.reports.plotting.pareto import pareto_front


def test_sizes_that_were_to_be_one_count_as_one():
    points = [(100.0, 0.5), (100.4, 0.9), (103.0, 0.91), (200.0, 0.9)]
    assert pareto_front(points) == [0, 1, 2]
    assert pareto_front(points, 0.01) == [1, 2]
    assert pareto_front(points, 0.05) == [2]
    assert pareto_front([], 0.1) == []
