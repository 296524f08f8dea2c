"""Trials: what they choose, how many there are, what is kept and what is not made again."""

import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributed import HashStore

from embpress.compressors import InputError, parse, parse_all
from embpress.dlrm.data import load
from embpress.dlrm.distributed.place import Place
from embpress.dlrm.distributed.team import Lost, Team
from embpress.dlrm.distributed.together import lead
from embpress.dlrm.runs import compare as comparing
from embpress.dlrm.runs.compare import Step, compare
from embpress.dlrm.runs.experiment import describe_run, run
from embpress.dlrm.runs.store import read, read_all
from embpress.dlrm.runs.trials import TrialStep
from embpress.dlrm.training.settings import resolve

METHODS = parse_all("full,qr:c=4")  # QR's factors of a product learn at once at a rate that is too large for others
RATES = (0.005, 0.02, 0.08)
GRID = "lr:0.005,0.08"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two features of 40 ids each, whose worths add up to the logit."""
    draw = random.Random(7)
    worth = {name: [draw.gauss(0, 1.5) for _ in range(40)] for name in "ab"}
    lines = ["label,a,b"]
    for _ in range(4000):
        ids = {name: draw.randrange(40) for name in "ab"}
        clicked = draw.random() < 1 / (1 + math.exp(-sum(worth[name][i] for name, i in ids.items())))
        lines.append(f"{int(clicked)},a{ids['a']},b{ids['b']}")
    path = tmp_path_factory.mktemp("data") / "clicks.csv"
    path.write_text("\n".join(lines) + "\n")
    return load(path, label="label")


def settings_of(**options):
    made = resolve(4000, **{"threads": 1, "epochs": 2, "width": 8, "min_rows": 0, "tune": GRID, **options})
    return replace(made, latency_seconds=0.0)


def steps_of(data, folder, methods=METHODS, seeds=(0, 1), keep_weights=False, **options):
    """Trials and runs."""
    steps = list(compare(data, methods, settings_of(**options), seeds, folder, keep_weights=keep_weights))
    trials = [step for step in steps if isinstance(step, TrialStep)]
    return trials, [step for step in steps if isinstance(step, Step)]


def trained(monkeypatch):
    """What `run` is asked for from now on: method, rate and seed."""
    asked, real = [], comparing.run

    def counting(data, spec, settings, seed, *arguments, **keywords):
        asked.append((str(spec), settings.learning_rate, seed))
        return real(data, spec, settings, seed, *arguments, **keywords)

    monkeypatch.setattr(comparing, "run", counting)
    return asked


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    steps_of(data, folder)
    return folder


@pytest.fixture(scope="module")
def alone(data):
    """Each method at each rate, without tuning."""
    return {
        (str(spec), rate): run(data, spec, settings_of(learning_rate=rate, tune=""), 0)
        for spec in METHODS
        for rate in RATES
    }


def test_each_method_gets_the_rate_that_is_best_for_it(folder, alone):
    """As runs without any tuning say; one method needs another rate than the settings'."""
    runs = {(one.method, one.seed): one for one in read_all(folder)}
    rates = {}
    for spec in map(str, METHODS):
        valid = {rate: alone[spec, rate][0].metrics["valid_auc"] for rate in RATES}
        test = {rate: alone[spec, rate][0].metrics["auc"] for rate in RATES}
        rates[spec] = max(valid, key=valid.get)
        for seed in (0, 1):
            tuned = runs[spec, seed].tuned
            assert (tuned.chosen, tuned.default) == ({"learning_rate": rates[spec]}, {"learning_rate": 0.02})
            assert (tuned.trials, tuned.failed) == (3, 0)
            assert (tuned.valid_auc, tuned.default_valid_auc) == (valid[rates[spec]], valid[0.02])
            assert (tuned.auc, tuned.default_auc) == (test[rates[spec]], test[0.02])
            assert tuned.edges == (() if rates[spec] == 0.02 else ("learning_rate",))
    assert rates["full"] == 0.02 < rates["qr:c=4"]


def test_runs_that_count_are_those_of_the_chosen_rate(data, folder, alone):
    runs = {(one.method, one.seed): one for one in read_all(folder)}
    for spec in METHODS:
        first, second = runs[str(spec), 0], runs[str(spec), 1]
        rate = first.learning_rate
        same, predictions = alone[str(spec), rate]
        assert first.metrics["auc"] == same.metrics["auc"]
        np.testing.assert_array_equal(np.load(folder / "records" / first.predictions), predictions)
        other = run(data, spec, settings_of(learning_rate=rate, tune=""), 1)[0]
        assert second.metrics["auc"] == other.metrics["auc"]
        assert first.metrics.keys() == second.metrics.keys() == same.metrics.keys()
        assert (first.latency_of_seed, second.latency_of_seed) == (0, 0)
        assert first.latency == second.latency
        assert first.training["learning_rate"] == "tuned by lr:0.005,0.02,0.08"
        assert first.data.hot_rows
    assert runs["full", 0].protocol == runs["qr:c=4", 1].protocol


def test_untuned_runs_keep_their_ids_and_tuned_ones_have_others(data, alone):
    ids = {alone["full", 0.02][0].id}
    for tune in ("", "lr", GRID, "all", "all:trials=9"):
        about = describe_run(data, parse("full"), settings_of(tune=tune), 0, "")
        assert (about.id in ids) == (tune == "")
        ids.add(about.id)
    assert len(ids) == 5


def test_a_trial_that_is_the_run_is_not_made_again(data, tmp_path, monkeypatch):
    asked = trained(monkeypatch)
    trials, runs = steps_of(data, tmp_path)
    assert len(asked) == 2 * 3 + 2  # every trial, and seed 1 of both methods
    assert len(set(asked)) == len(asked)
    assert [step.number for step in trials] == list(range(1, 7))
    assert {step.total for step in trials} == {6}
    assert not any(step.kept for step in [*trials, *runs])
    # all is there: the runs stand for the trials
    asked.clear()
    trials, runs = steps_of(data, tmp_path)
    assert (trials, asked) == ([], [])
    assert all(step.kept for step in runs)
    # another seed takes the values of those before, though the trials are gone
    for path in (tmp_path / "trials" / "records").iterdir():
        path.unlink()
    chosen = {step.run.method: step.run.tuned for step in runs}
    trials, runs = steps_of(data, tmp_path, seeds=(2,))
    assert trials == []
    assert {step.run.method: step.run.tuned for step in runs} == chosen
    assert asked == [(method, tuned.chosen["learning_rate"], 2) for method, tuned in chosen.items()]


@pytest.mark.parametrize("after", [1, 4, 6, 7])
def test_an_interruption_repeats_nothing(data, folder, tmp_path, monkeypatch, after):
    asked, real = trained(monkeypatch), comparing.run

    def interrupted(*arguments, **keywords):
        if len(asked) == after:
            raise KeyboardInterrupt
        return real(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(comparing, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            steps_of(data, tmp_path)
    assert len(asked) == after
    steps_of(data, tmp_path)
    assert len(asked) == len(set(asked)) == 8
    before = {one.id: (one.tuned, one.metrics["auc"]) for one in read_all(folder)}
    assert {one.id: (one.tuned, one.metrics["auc"]) for one in read_all(tmp_path)} == before


def test_a_trial_that_ends_because_a_process_died_is_tried_again(data, folder, tmp_path, monkeypatch):
    team, real = Team(Place(0, 2, 0, 2), HashStore()), comparing.run

    def dies(data, spec, settings, seed, *arguments, **keywords):
        if settings.learning_rate != 0.08:
            return real(data, spec, settings, seed, *arguments, **keywords)
        team.lost = "the process of rank 1 died"
        return replace(describe_run(data, spec, settings, seed, ""), reason=team.lost), None

    with monkeypatch.context() as patch, lead(team):
        patch.setattr(comparing, "run", dies)
        steps = compare(data, METHODS, settings_of(), (0, 1), tmp_path)
        shown = [next(steps) for _ in RATES]
        with pytest.raises(Lost, match="rank 1 died"):
            next(steps)
    assert [step.run.reason for step in shown] == [None, None, team.lost]
    assert [read(path).ok for path in (tmp_path / "trials" / "records").glob("*.json")] == [True, True]
    steps_of(data, tmp_path)
    assert {run.id: run.tuned for run in read_all(tmp_path)} == {run.id: run.tuned for run in read_all(folder)}


def test_the_test_part_chooses_nothing(data, folder, tmp_path):
    """Labels and rows of the test part drawn anew: other test scores, the same choices."""
    generator = torch.Generator().manual_seed(5)
    test = data.test.take(torch.randperm(len(data.test), generator=generator))
    labels = torch.randint(0, 2, test.labels.shape, generator=generator).to(test.labels)
    _, runs = steps_of(replace(data, test=replace(test, labels=labels)), tmp_path, seeds=(0,))
    before = {one.method: one.tuned for one in read_all(folder)}
    for step in runs:
        tuned, real = step.run.tuned, before[step.run.method]
        assert (tuned.chosen, tuned.valid_auc) == (real.chosen, real.valid_auc)
        assert tuned.auc != real.auc


def test_every_method_has_as_many_trials_and_knobs_are_among_them(data, tmp_path):
    methods = parse_all("full,hash:k=9,qr:c=4+int4,robe:ratio=4:init_scale=2")
    trials, runs = steps_of(data, tmp_path, methods, seeds=(0,), tune="all:trials=5")
    names = [step.method for step in trials]
    assert {name: names.count(name) for name in names} == dict.fromkeys(map(str, methods), 5)
    knobs = {step.method: {*step.values} - {"learning_rate"} for step in trials if len(step.values) > 1}
    assert knobs.items() <= {"qr:c=4+int4": {"init_std"}}.items()
    for step in runs:
        assert step.run.tuned.trials == 5
        own = {key: value for key, value in step.run.tuned.chosen.items() if key != "learning_rate"}
        assert step.run.knobs.items() >= own.items()
        assert step.run.method in names
    assert next(step.run.knobs for step in runs if step.run.name == "robe")["init_scale"] == 2


def test_a_trial_that_fails_counts_and_loses(data, tmp_path):
    trials, runs = steps_of(data, tmp_path, parse_all("full"), optimizer="sgd", tune="lr:1e30")
    assert [step.run.status for step in trials] == ["ok", "failed"]
    assert "failed: the loss is" in trials[1].line
    assert "rate 1e+30" in trials[1].line
    assert runs[0].run.tuned.failed == 1
    assert runs[0].run.learning_rate == 0.02
    assert runs[0].run.ok


def test_trials_that_all_failed_are_tried_again(data, tmp_path):
    for _ in range(2):
        trials, runs = steps_of(
            data, tmp_path, parse_all("full"), (0,), optimizer="sgd", learning_rate=1e30, tune="lr:1e31"
        )
        assert not any(step.run.ok for step in [*trials, *runs])
        assert not trials[-1].kept
        assert runs[0].run.tuned.failed == 2
        assert runs[0].run.learning_rate == 1e30


def test_what_cannot_reach_its_size_has_no_trials(data, tmp_path):
    trials, runs = steps_of(data, tmp_path, parse_all("hash:k=9,narrow:ratio=900"), (0,))
    assert {step.method for step in trials} == {"hash:k=9"}
    assert [step.run.status for step in runs] == ["ok", "cannot reach"]
    assert runs[1].run.tuned is None
    assert not list((tmp_path / "trials" / "records").glob("narrow*"))


def test_what_has_one_size_is_tuned_once_for_all_sizes(data, tmp_path):
    """In a folder of several ratios the full tables' choice stands."""
    first, _ = steps_of(data, tmp_path, parse_all("full,hash"), (0,), ratio=2)
    second, runs = steps_of(data, tmp_path, parse_all("full,hash"), (0,), ratio=4)
    assert [step.method for step in first] == ["full"] * 3 + ["hash"] * 3
    assert [step.method for step in second] == ["hash"] * 3
    assert [step.kept for step in runs] == [True, False]


def test_weights_are_those_of_the_chosen_rate(data, tmp_path):
    from embpress.dlrm.runs import checkpoint

    _, runs = steps_of(data, tmp_path, parse_all("full"), (0,), keep_weights=True, tune="lr:0.08")
    kept = checkpoint.read(checkpoint.checkpoint_path(tmp_path, runs[0].run))
    assert kept.run.tuned == runs[0].run.tuned
    kept.build()


def test_a_damaged_trial_is_named(data, folder, tmp_path):
    (tmp_path / "trials" / "records").mkdir(parents=True)
    for path in (folder / "trials" / "records").glob("*.json"):
        (tmp_path / "trials" / "records" / path.name).write_text(path.read_text())
    damaged = tmp_path / "trials" / "records" / path.name
    damaged.write_text(path.read_text()[:500])
    with pytest.raises(InputError, match=r"trials.records.*is damaged.*the same command runs it again") as error:
        steps_of(data, tmp_path)
    assert str(damaged) in str(error.value)
    assert not (tmp_path / "records").exists()
    damaged.unlink()
    trials, _ = steps_of(data, tmp_path)
    assert [step.kept for step in trials].count(False) == 1


def test_predictions_that_are_gone_are_made_again(data, folder, tmp_path, monkeypatch):
    (tmp_path / "trials" / "records").mkdir(parents=True)
    for path in (folder / "trials" / "records").glob("*.json"):
        (tmp_path / "trials" / "records" / path.name).write_text(path.read_text())
    asked = trained(monkeypatch)
    steps_of(data, tmp_path, seeds=(0,))
    assert len(asked) == 2
    before = {one.id: one.metrics["auc"] for one in read_all(folder) if one.seed == 0}
    assert {one.id: one.metrics["auc"] for one in read_all(tmp_path)} == before


@pytest.mark.parametrize("tune", ["", "lr", "all", "lr:0.005,0.07"])
def test_other_ways_are_never_mixed_and_nothing_is_trained_before_that_is_said(data, folder, tune, monkeypatch):
    asked = trained(monkeypatch)
    with pytest.raises(InputError, match=r"with another learning rate .*tuned by lr:0\.005,0\.02,0\.08"):
        steps_of(data, folder, tune=tune)
    assert asked == []


def test_a_record_with_other_values_than_those_chosen_is_made_again(data, folder, tmp_path):
    """As where two folders have been put together."""
    (tmp_path / "records").mkdir()
    for path in (folder / "records").glob("full*.json"):
        record = json.loads(path.read_text())
        if record["seed"] == 1:
            record["tuned"]["chosen"]["learning_rate"] = 0.08
        (tmp_path / "records" / path.name).write_text(json.dumps(record))
    _, runs = steps_of(data, tmp_path, METHODS[:1])
    assert [step.kept for step in runs] == [True, False]
    assert {read(path).learning_rate for path in (tmp_path / "records").glob("*.json")} == {0.02}
