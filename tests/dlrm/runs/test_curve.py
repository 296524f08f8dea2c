"""What a run's record says along its learning curve, and by id frequency."""

from dataclasses import replace

import pytest

from embpress.compressors import parse
from embpress.dlrm.data import load
from embpress.dlrm.runs.experiment import run
from embpress.dlrm.runs.record import Run
from embpress.dlrm.training.settings import resolve


@pytest.fixture(scope="module")
def made():
    settings = replace(resolve(3000, threads=1), latency_seconds=0.0, epochs=3, ratio=8.0)
    return run(load(rows=3000, scale=0.001, min_count=1), parse("hash+bf16"), settings, 0)[0]


def test_seconds_rise_to_those_of_training(made):
    seconds = [point.seconds for point in made.learning_curve]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    assert seconds[-1] == pytest.approx(made.metrics["train_seconds"])


def test_the_test_part_is_scored_at_ends_of_epochs_alone(made):
    tested = {point.epoch: point.test_auc for point in made.learning_curve if point.test_auc is not None}
    assert all(epoch == int(epoch) for epoch in tested)
    assert tested[made.metrics["best_epoch"]] == made.metrics["auc"]
    assert tested[3.0] == made.metrics["auc_last"]


def test_a_record_holds_it_all(made):
    assert Run.from_json(made.to_json()) == made
    assert [one.name for one in made.by_frequency] == ["all", "head", "torso", "tail", "unseen"]
    assert sum(one.lookups for one in made.by_frequency[1:]) == pytest.approx(1, abs=1e-5)
    shared = [table.sharing for table in made.tables if table.method == "hash"]
    assert shared
    assert all(0 <= one.whole_train == one.part_train <= 1 for one in shared)


def test_without_a_table_large_enough_there_are_no_bins():
    settings = replace(resolve(3000, threads=1), latency_seconds=0.0, min_rows=10**6)
    assert run(load(rows=3000, scale=0.001, min_count=1), parse("full"), settings, 0)[0].by_frequency == ()
