"""Plans that are searched for: nothing of the test part, exact bytes, limits that are kept, probes that are kept."""

import json
import math
from dataclasses import replace
from unittest import mock

import pytest
import torch

from embpress.compressors import BudgetError, InputError, Plan, TableCollection
from embpress.dlrm.data import load
from embpress.dlrm.planning import search
from embpress.dlrm.planning.candidate import Goal
from embpress.dlrm.planning.made import make
from embpress.dlrm.planning.probe import Effort, Probe, Prober, auc_error
from embpress.dlrm.planning.proposals import bits_by_traffic, exchanges, expressions, frequent_rows, rarest_rows
from embpress.dlrm.runs.experiment import table_configs
from embpress.dlrm.training.settings import resolve


@pytest.fixture(scope="module", autouse=True)
def _few():
    """A few methods and folds are as good as many here."""
    few = ("full+int4", "mlet+int4", "top+int4", "robe+int4")
    with (
        mock.patch.object(expressions, "specs_of", return_value=few),
        mock.patch.object(rarest_rows, "_WHOLE", few[:2]),
        mock.patch.object(bits_by_traffic, "_TIMES", (4.0,)),
        mock.patch.object(bits_by_traffic, "_WIDER", (2.0,)),
        mock.patch.object(search, "ROUNDS", ((4, (1,)), (3, (2, 3)))),
        mock.patch.object(search, "_BUILT_ON", 2),
    ):
        yield


@pytest.fixture(scope="module")
def data():
    return load(rows=2000, scale=0.002, min_count=1)


@pytest.fixture(scope="module")
def goal(data):
    settings = replace(resolve(3000, threads=1, width=8, min_rows=100), latency_seconds=0.0)
    configs = table_configs(data, 8)
    return Goal(configs, sum(4 * n * d for n, d, _ in configs) // 12, settings)


@pytest.fixture(scope="module")
def made(data, goal, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probes")
    return make(goal, Prober(data, goal.settings, folder), 10, len(data.test), lambda text: None), folder


def test_the_plan_keeps_its_size_and_promises_its_bytes(made, goal, data):
    one, _ = made
    tables = TableCollection.build(goal.configs, one.plan, generator=torch.Generator().manual_seed(0))
    assert tables.serving_bytes == one.promise.serving_bytes <= goal.bytes
    settings = goal.settings
    prober = Prober(data, settings, made[1])
    real = prober.tables(one.chosen).ledger(settings.optimizer, settings.batch_size)
    assert real.training_bytes == one.promise.training_bytes
    assert one.promise.fresh
    assert one.promise.low < one.promise.auc < one.promise.high


def test_every_candidate_that_was_tried_fits(made, goal):
    assert len(made[0].study.candidates) > 10
    assert all(candidate.bytes <= goal.bytes for candidate in made[0].study.candidates.values())


def test_the_chosen_one_is_the_best_of_the_choosing_folds(made):
    study = made[0].study
    assert made[0].chosen is search.choose(study)
    most = study.folds(made[0].chosen.key)
    means = [study.mean(key, range(most)) for key in study.candidates]
    assert most > 3
    assert study.mean(made[0].chosen.key, range(most)) == max(means)


def test_the_test_part_decides_nothing(made, data, goal):
    """Another test part: the same folder of probes is right, and so is the plan."""
    scrambled = replace(data, test=data.test.take(torch.arange(len(data.test)).flip(0)))
    scrambled.test.labels.fill_(1)
    before = sorted(path.name for path in made[1].iterdir())
    prober = Prober(scrambled, goal.settings, made[1])
    again = make(goal, prober, 10, len(data.test), lambda text: None)
    assert again.plan == made[0].plan
    assert sorted(path.name for path in made[1].iterdir()) == before, "something was trained again"


def test_folds_hold_out_rows_that_are_not_trained_on(data, goal, tmp_path):
    prober = Prober(data, goal.settings, tmp_path)
    whole = len(data.train) + len(data.valid)
    for fold in (0, 1, 2):
        part = prober.fold(fold)
        assert part.test is part.valid
        assert len(part.train) + len(part.valid) == whole
        rows = torch.cat([torch.cat([each.ids.double(), each.dense.double()], 1) for each in (part.train, part.valid)])
        every = torch.cat([torch.cat([p.ids.double(), p.dense.double()], 1) for p in (data.train, data.valid)])
        assert torch.equal(rows.sort(0).values, every.sort(0).values)
    assert not torch.equal(prober.fold(1).valid.ids, prober.fold(2).valid.ids)


def test_a_damaged_probe_is_made_again(made, data, goal, tmp_path):
    candidate = made[0].chosen
    prober = Prober(data, goal.settings, tmp_path)
    first = prober.probe(candidate, 0, Effort(1))
    (path,) = tmp_path.iterdir()
    path.write_text("{")
    assert Prober(data, goal.settings, tmp_path).probe(candidate, 0, Effort(1)).auc == first.auc
    assert json.loads(path.read_text())["auc"] == first.auc


def test_rates_are_tried_only_where_none_is_asked_for(made, data, goal, tmp_path):
    assert all(one.rate is None for one in made[0].study.candidates.values())
    rated = make(replace(goal, rates=True), Prober(data, goal.settings, tmp_path), 3, len(data.test), lambda text: None)
    tried = {one.rate for one in rated.study.candidates.values()}
    assert len(tried) > 1
    assert rated.plan.about["learning_rate"] == rated.chosen.rate or rated.chosen.rate is None


@pytest.mark.parametrize(("best", "found"), [(0.02, None), (0.09, 0.08), (0.004, 0.005), (3.0, 2.56)])
def test_the_rate_goes_up_or_down_by_twos_to_where_it_is_best(made, goal, best, found):
    """The AUC falls with the distance from the best rate, in powers of two."""
    study = replace(made[0].study, scores={}, goal=replace(goal, settings=replace(goal.settings, learning_rate=0.02)))

    def probe(one):
        off = abs(math.log2((one.rate or 0.02) / best))
        study.scores[one.key] = {0: Probe(one.name, one.key, 0, 1, auc=0.8 - 0.01 * off)}

    probe(made[0].study.full)
    assert search._best_rate(study, made[0].study.full, probe).rate == (found and pytest.approx(found))


def test_the_rarest_rows_over_all_tables_make_room(data, goal, tmp_path):
    """Of the rows that stay exact none has less traffic than one of another table that does not."""
    prober = Prober(data, goal.settings, tmp_path)
    for one in rarest_rows.propose(goal, prober, (), lambda: True):
        assert one.bytes <= goal.bytes
        kept, left = [], []
        for table, counts in zip(one.plan.tables, prober.counts):
            rows = table.method.knobs.get("rows")
            if rows is not None:
                kept += [int(counts[rows - 1])] if rows > 1 else []
                left.append(int(counts[rows]))
        assert not left or not kept or min(kept) >= max(left)
        room = goal.bytes - one.bytes
        assert room < 2 * goal.width or not left, "more rows would have fitted"


def test_limits_are_kept_or_refused(data, goal, tmp_path):
    prober = Prober(data, goal.settings, tmp_path)
    with pytest.raises(InputError, match="in training"):
        make(replace(goal, max_training=10), prober, 1, 10, lambda text: None)
    with pytest.raises(InputError, match="µs a lookup"):
        make(replace(goal, max_lookup_us=0.001), prober, 1, 10, lambda text: None)
    with pytest.raises(BudgetError, match="smallest reachable"):
        make(replace(goal, bytes=50), prober, 1, 10, lambda text: None)


def test_proposals_say_why_and_mix_methods(made, goal, data):
    best = made[0].study.ranked()
    prober = Prober(data, goal.settings, made[1])
    for module in (frequent_rows, rarest_rows, exchanges):
        found = list(module.propose(goal, prober, best, lambda: True))
        assert found, module.__name__
        assert any(len({t.method.name for t in one.plan.tables}) > 1 for one in found)
        assert all(len(one.why) == len(goal.configs) and any(one.why) for one in found)
    assert all(one.expression for one in expressions.propose(goal, prober, (), lambda: True))


def test_the_saved_plan_is_read_again_with_what_it_says(made, goal, tmp_path):
    made[0].plan.save(tmp_path / "plan.json")
    read = Plan.read(tmp_path / "plan.json").on(goal.configs)
    assert read == made[0].plan
    assert read.about["promise"]["serving_bytes"] == made[0].promise.serving_bytes


def test_the_error_of_an_auc_is_that_of_samples():
    """Against many samples of two normal distributions."""
    g = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.ones(60), torch.zeros(140)])
    x = torch.randn(4000, 200, generator=g) + labels
    wins = (x[:, :60, None] > x[:, None, 60:]).double().mean((1, 2))
    assert auc_error(float(wins.mean()), labels) == pytest.approx(float(wins.std()), rel=0.1)


def test_an_effort_is_whole_epochs_or_a_share_of_one():
    assert Effort(4).times(0.6) == Effort(2)
    assert Effort(4).times(0.1) == Effort(1, 0.4)
    assert Effort(4).times(7) == Effort(4)
    assert Effort(1).times(1e-9).share == 0.01
    assert Effort(4).least(Effort(1, 0.5)) == Effort(1, 0.5)


def test_little_time_is_spread_over_all(data, goal, tmp_path):
    made = make(goal, Prober(data, goal.settings, tmp_path), 0.05, 10, lambda text: None)
    assert made.study.effort.amount <= 1
    assert made.promise.serving_bytes <= goal.bytes


def test_one_class_to_choose_by_is_refused(data, goal, tmp_path):
    blind = replace(data, valid=replace(data.valid, labels=torch.zeros(len(data.valid))))
    with pytest.raises(InputError, match="one class"):
        Prober(blind, goal.settings, tmp_path)
