"""Bits by traffic: which rows get how many, counted by hand, and that such plans fit and train."""

from dataclasses import replace

import pytest
import torch

from embpress.compressors import TableCollection
from embpress.dlrm.data import load
from embpress.dlrm.planning.candidate import Goal
from embpress.dlrm.planning.probe import Effort, Prober
from embpress.dlrm.planning.proposals import bits_by_traffic
from embpress.dlrm.planning.ranking import Ranking, most_that_fit
from embpress.dlrm.runs.experiment import table_configs
from embpress.dlrm.training.settings import resolve


@pytest.fixture(scope="module")
def data():
    return load(rows=4000, scale=0.002, min_count=1)


def goal_of(data, ratio):
    settings = resolve(4000, threads=1, width=8, min_rows=100)
    configs = table_configs(data, 8)
    return Goal(configs, int(sum(4 * n * d for n, d, _ in configs) / ratio), settings)


@pytest.fixture(scope="module")
def prober(data, tmp_path_factory):
    return Prober(data, goal_of(data, 12).settings, tmp_path_factory.mktemp("probes"))


@pytest.fixture(scope="module")
def proposed(data, prober):
    return list(bits_by_traffic.propose(goal_of(data, 12), prober, (), lambda: True))


def bits_of(entry, row):
    """How many bits a row has by the text of its table's expression; 0 where it shares one."""
    text = str(entry.method)
    rows = entry.method.knobs.get("rows", entry.config.num_embeddings)
    hot = [modifier.knobs["rows"] for modifier in entry.method.modifiers if modifier.name == "hot"]
    if row >= rows:
        return 0
    return 4 if "int2" not in text or (hot and row < hot[0]) else 2


def test_busier_rows_never_have_fewer_bits(data, prober, proposed):
    ranking = Ranking.of(goal_of(data, 12), prober)
    assert proposed
    for candidate in proposed:
        least, most = {}, {}
        for t, entry in enumerate(candidate.plan.tables):
            if ranking.keep[t]:
                continue
            for row, count in list(enumerate(data.counts[t].tolist()))[1:]:
                bits = bits_of(entry, row)
                least[bits] = min(least.get(bits, count), count)
                most[bits] = max(most.get(bits, 0), count)
        assert set(least) >= {2, 4}
        assert least[4] >= most[2]
        assert least[2] >= most.get(0, 0)


def test_they_fit_and_use_what_there_is(data, prober, proposed):
    goal = goal_of(data, 12)
    for candidate in proposed:
        real = TableCollection.build(goal.configs, candidate.plan, generator=torch.Generator().manual_seed(0))
        assert real.serving_bytes == candidate.bytes
        assert 0.98 * goal.bytes < candidate.bytes <= goal.bytes
        assert len(candidate.why) == len(goal.configs)
    assert len({candidate.key for candidate in proposed}) == len(proposed)


def test_they_train(prober, proposed):
    probe = prober.probe(proposed[0], 0, Effort(1))
    assert probe.reason is None
    assert 0.4 < probe.auc < 1


def test_what_is_near_the_best_follows(data, prober, proposed):
    best = replace(proposed[0], rate=0.5)
    near = list(bits_by_traffic.propose(goal_of(data, 12), prober, [best], lambda: True))
    assert near
    assert all(one.rate == 0.5 and one.bytes <= goal_of(data, 12).bytes for one in near)
    assert {one.mixed[0] for one in near} <= {best.mixed[0] + step for step in (-1, 0, 1)}
    other = replace(best, mixed=None)
    assert not list(bits_by_traffic.propose(goal_of(data, 12), prober, [other], lambda: True))


def test_nothing_where_all_rows_fit_in_four_bits_or_none_do(data, prober):
    for ratio in (2, 1e9):
        assert not list(bits_by_traffic.propose(goal_of(data, ratio), prober, (), lambda: True))


def test_busier_rows_are_counted(data, prober):
    ranking = Ranking.of(goal_of(data, 12), prober)
    counts = [c for t, c in enumerate(data.counts) if not ranking.keep[t]]
    every = torch.cat([c[1:] for c in counts]).sort(descending=True).values
    for rows in (1, 50, ranking.rows - len(counts), ranking.rows):
        last = max(1, int(every[rows - len(counts) - 1])) if rows > len(counts) else 1 << 62
        want = sum(int((c[1:] >= 3 * last).sum()) + 1 for c in counts) if last < 1 << 62 else None
        if want is not None:
            assert ranking.busier(rows, 3.0) == want


@pytest.mark.parametrize("limit", range(6))
def test_the_most_that_fits(limit):
    assert most_that_fit(5, lambda n: n <= limit) == min(5, limit)
