"""What is said of runs before they are made, against what they are."""

from dataclasses import replace

import pytest
import torch

from embpress.compressors import InputError, parse_all
from embpress.compressors.ledger import held_bytes
from embpress.dlrm.data import load
from embpress.dlrm.measure.memory import peak_bytes
from embpress.dlrm.runs import estimate as estimates
from embpress.dlrm.runs.compare import compare
from embpress.dlrm.runs.estimate import estimate
from embpress.dlrm.runs.experiment import build_tables
from embpress.dlrm.runs.record import Asked
from embpress.dlrm.runs.trials import TrialStep
from embpress.dlrm.sets import parse_methods
from embpress.dlrm.training.settings import resolve

METHODS = parse_all("full,full+int8,hash,qr,mlet,tt:cache_fraction=0.05,robe+bf16,narrow,hash+hot:fraction=0.01")
SIZES = [Asked(3.0), Asked(6.0), Asked(50.0)]


@pytest.fixture(scope="module")
def data():
    return load(rows=3000, scale=0.002, min_count=1)


@pytest.fixture(scope="module")
def settings():
    return replace(resolve(3000, threads=1), latency_seconds=0.0)


@pytest.fixture(scope="module")
def both(data, settings, tmp_path_factory):
    """Estimates of a comparison, and its runs."""
    folder = tmp_path_factory.mktemp("runs")
    said = list(estimate(data, METHODS, settings, [0, 1], folder, SIZES))
    assert not list(folder.iterdir())
    done = [step.run for step in compare(data, METHODS, settings, [0], folder, sizes=SIZES)]
    return folder, {(one.method, one.asked): one for one in said}, {(run.method, run.asked): run for run in done}


def test_bytes_are_those_that_the_runs_record(both):
    _, said, runs = both
    assert said.keys() == runs.keys()
    assert {run.status for run in runs.values()} == {"ok", "cannot reach"}
    for key, run in runs.items():
        sizes = said[key].sizes
        assert (sizes is None) == (run.status == "cannot reach"), key
        if sizes is None:
            assert said[key].reason == run.reason
            continue
        told = (sizes.full_bytes, sizes.serving_bytes, sizes.training_bytes, sizes.ratio)
        assert told == tuple(run.metrics[name] for name in ("full_bytes", "serving_bytes", "training_bytes", "ratio"))
        assert said[key].times.step_ms > 0 < said[key].times.run_seconds
        assert said[key].seconds >= 2 * said[key].times.run_seconds


def test_runs_that_are_there_are_counted_and_not_timed(both, data, settings):
    folder, said, runs = both
    files = sorted(folder.rglob("*"))
    after = list(estimate(data, METHODS, settings, [0, 1], folder, SIZES))
    for one in after:
        reached = runs[one.method, one.asked].ok
        assert (one.runs, one.present, one.missing) == ((2, 1, 1) if reached else (2, 0, 2))
        if reached:  # the seed that is there has measured the latency
            assert one.seconds == one.times.run_seconds
    (full,) = estimate(data, METHODS[:1], settings, [0], folder)
    assert (full.missing, full.times, full.seconds) == (0, None, 0.0)
    assert full.sizes == said["full", Asked()].sizes
    assert sorted(folder.rglob("*")) == files
    (full,) = estimate(data, METHODS[:1], settings, [0], folder, keep_weights=True)
    assert full.missing == 1  # its weights have not been kept


def test_trials_are_counted_until_they_have_chosen(data, settings, tmp_path):
    methods, tuned = parse_all("full,hash:k=30"), replace(settings, tune="lr:0.01,0.03")
    before = list(estimate(data, methods, tuned, [0, 1], tmp_path))
    steps = list(compare(data, methods, tuned, [0], tmp_path))
    made = [step for step in steps if isinstance(step, TrialStep)]
    assert sum(one.trials for one in before) == len(made) > len(methods)
    for one in before:  # two seeds, of which one is a trial
        assert one.seconds >= (one.trials + 1) * one.times.run_seconds
    assert not any(one.trials for one in estimate(data, methods, tuned, [0, 1], tmp_path))


def test_runs_of_another_kind_in_the_folder_are_refused(both, data, settings):
    with pytest.raises(InputError, match="another epochs"):
        next(estimate(data, METHODS, replace(settings, epochs=7), [0], both[0]))


def test_tables_that_are_too_large_are_not_built_and_their_bytes_are_exact(data, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(estimates, "BUILT_BYTES", 0)
    monkeypatch.setattr(estimates, "rehearse", None)
    of_size = replace(settings, ratio=2.0)
    specs = parse_methods("all")
    for spec, one in zip(specs, estimate(data, specs, of_size, [0], tmp_path)):
        if one.sizes is None:
            continue
        ledger = build_tables(data, spec, of_size, 0).ledger(settings.optimizer, settings.batch_size)
        assert (one.sizes.serving_bytes, one.sizes.training_bytes) == (ledger.serving_bytes, ledger.training_bytes)
        assert one.seconds is None
        assert "not timed" in one.reason


def test_more_than_memory_can_be_asked_about(data, settings, tmp_path):
    huge = replace(data, num_embeddings=tuple(10**10 for _ in data.num_embeddings))
    full, hashed = estimate(huge, parse_all("full,hash:k=1000"), settings, [0], tmp_path)
    assert full.sizes.serving_bytes == 26 * 10**10 * 64
    assert full.sizes.training_bytes >= 2 * full.sizes.serving_bytes
    assert full.times is None
    assert hashed.times.step_ms > 0


@pytest.mark.parametrize("spec", ["full", "full+int8", "tt+int4", "hash+bf16"])
def test_folding_takes_at_least_what_is_said_and_little_more(spec, data, settings, tmp_path):
    (one,) = estimate(data, parse_all(spec), settings, [0], tmp_path)
    tables = build_tables(data, parse_all(spec)[0], settings, 0)
    real = held_bytes(tables) + peak_bytes(tables.fold)
    assert 0.99 * one.sizes.folding_bytes <= real <= one.sizes.folding_bytes + 16e6


def test_operations_are_those_that_torch_counts_in_the_linear_layers(data, settings, tmp_path):
    from torch.utils.flop_counter import FlopCounterMode

    from embpress.dlrm.runs.experiment import build_model

    for spec in parse_all("full,narrow:ratio=4"):
        (one,) = estimate(data, [spec], settings, [0], tmp_path)
        tables = build_tables(data, spec, settings, 0)
        model, batch = build_model(data, tables, settings, 0), settings.batch_size
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.score(torch.zeros(batch, model.num_dense), torch.zeros(batch, 26, tables.embedding_dim))
        counts = counter.get_flop_counts()["Global"]
        assert one.sizes.step_flops == 3 * counts[torch.ops.aten.addmm]
