"""Comparisons: what is measured once, what is kept, what may not be mixed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from embpress.compressors import InputError, parse_all
from embpress.dlrm.data import load
from embpress.dlrm.runs.comparable import check_comparable, difference, most_shared
from embpress.dlrm.runs.compare import compare
from embpress.dlrm.runs.experiment import run
from embpress.dlrm.runs.store import read_all
from embpress.dlrm.training.settings import resolve

METHODS = parse_all("full,hash:ratio=4,tt:rank=2")


@pytest.fixture(scope="module")
def data():
    return load(rows=3000, scale=0.001, min_count=1)


@pytest.fixture(scope="module")
def settings():
    return replace(resolve(3000, threads=1), latency_seconds=0.0)


@pytest.fixture(scope="module")
def folder(data, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for step in compare(data, METHODS, settings, [0, 1], folder):
        assert step.run.ok
        assert not step.kept
    return folder


def test_latency_is_measured_once_and_marked(folder):
    runs = {(run.name, run.seed): run for run in read_all(folder)}
    for name in ("full", "hash", "tt"):
        first, second = runs[name, 0], runs[name, 1]
        assert (first.latency_of_seed, second.latency_of_seed) == (0, 0)
        assert first.latency == second.latency
        assert len(first.latency) == 3 * 3 * 2 + 2
        assert first.metrics["step_ms"] != second.metrics["step_ms"]
        assert first.metrics["peak_memory_bytes"] > 0 < second.metrics["peak_memory_bytes"]
    assert runs["full", 0].latency != runs["tt", 0].latency


def test_a_seed_that_measures_nothing_is_trained_alike(data, settings, folder):
    """With and without the measurement: the same predictions, to the bit."""
    for spec in METHODS:
        alone, probabilities = run(data, spec, settings, 1)
        (kept,) = (one for one in read_all(folder) if one.id == alone.id)
        assert alone.latency_of_seed == 1
        assert kept.metrics["auc"] == alone.metrics["auc"]
        np.testing.assert_array_equal(np.load(folder / "records" / kept.predictions), probabilities)


def test_another_machine_measures_again(data, settings, folder, tmp_path):
    (tmp_path / "records").mkdir()
    for path in (folder / "records").glob("*-s0-*.json"):
        record = json.loads(path.read_text())
        record["environment"]["cpu"] = "another"
        (tmp_path / "records" / path.name).write_text(json.dumps(record))
    steps = list(compare(data, METHODS[:1], settings, [0, 1, 2], tmp_path))
    assert [step.kept for step in steps] == [True, False, False]
    assert [step.run.latency_of_seed for step in steps] == [0, 1, 1]


def as_schema_1(record):
    """A record as version 1 wrote it."""
    names = {"row_factors": "rows", "column_factors": "columns", "num_cores": "cores"}

    def old(part):
        return {**part, "knobs": {names.get(k, k): v for k, v in part["knobs"].items()}}

    model = {key: value for key, value in record["model"].items() if key != "preset"}
    return {
        **{key: value for key, value in old(record).items() if key not in ("latency_of_seed", "modifiers")},
        "schema": "embpress-run/1",
        "id": "by another rule",
        "tables": [{k: v for k, v in old(table).items() if k != "modifiers"} for table in record["tables"]],
        "model": {**model, "name": record["model"]["preset"], "bottom": [13, 64, 16], "top": [128, 64, 1]},
    }


def test_a_folder_of_version_1_goes_on_where_it_stopped(data, settings, folder, tmp_path):
    (tmp_path / "records").mkdir()
    old = []
    for i, path in enumerate(sorted((folder / "records").glob("*-s0-*.json"))):
        record = as_schema_1(json.loads(path.read_text()))
        if record["name"] == "tt":
            record |= {"status": "failed", "metrics": {}}
        old.append(tmp_path / "records" / f"old{i}.json")
        old[-1].write_text(json.dumps(record))
    steps = list(compare(data, METHODS, settings, [0], tmp_path))
    assert [step.kept for step in steps] == [True, True, False]
    assert [path.exists() for path in old] == [True, True, False]  # the failed one is replaced
    assert sorted(run.status for run in read_all(tmp_path)) == ["ok"] * 3


def test_what_may_not_be_compared_is_named(folder):
    one, *_ = read_all(folder)
    assert difference(one, replace(one, seed=7, method="x", environment={}, device="cuda")) == ""
    training, model = {**one.training, "batch_size": 7}, {**one.model, "name": "wide"}
    assert difference(one, replace(one, training=training)) == "with another batch size (256 and 7)"
    assert difference(one, replace(one, model=model)) == "with another model (dlrm and wide)"
    other = replace(one, data=replace(one.data, fingerprint="beef", name="elsewhere"))
    with pytest.raises(InputError, match="synthetic and elsewhere"):
        check_comparable([one, one, other], folder)
    assert most_shared([("a", 2), ("b", 1), ("b", 2)]) == "b"
    assert most_shared([]) == ""
