"""A run whose parts are gone through in pieces, and whose predictions lie in files, says what it says anyway."""

import numpy as np
import polars as pl
import pytest

from embpress.compressors import parse
from embpress.dlrm.data import assemble, load
from embpress.dlrm.data.prepare.prepare import prepare
from embpress.dlrm.measure import frequency, spool, tally
from embpress.dlrm.runs.compare import compare
from embpress.dlrm.runs.store import labels_path
from embpress.dlrm.training import evaluate
from embpress.dlrm.training.settings import resolve

METHODS = ["full", "robe", "tt:rank=2+hot:fraction=0.1", "hash+int8"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Clicks with a feature of single ids, one of bags, and few values of a third."""
    place, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    rows = 3000
    ids = random.zipf(1.4, rows) % 300
    pl.DataFrame(
        {
            "click": (random.random(rows) < 0.2 + 0.3 * (ids % 2)).astype(int),
            "price": random.random(rows),
            "id": [f"v{i}" for i in ids],
            "bag": [random.integers(0, 50, random.integers(0, 4)).tolist() for _ in range(rows)],
            "few": random.integers(0, 3, rows),
        }
    ).write_parquet(place / "a.parquet")
    return load(prepare(place / "a.parquet", place / "to", label="click", sparse=["id", "bag", "few"], dense=["price"]))


def runs_of(data, folder):
    settings = resolve(3000, batch_size=100, epochs=2, ratio=2.0, min_rows=10, threads=1, latency_seconds=0.001)
    steps = list(compare(data, [parse(method) for method in METHODS], settings, [0], folder))
    assert all(step.run.ok for step in steps), [step.run.reason for step in steps]
    runs = [step.run for step in steps]
    return runs, [np.load(folder / "records" / f"{run.id}.npy") for run in runs]


def test_the_same_numbers(data, tmp_path, monkeypatch):
    runs, predictions = runs_of(data, tmp_path / "whole")
    monkeypatch.setattr(spool, "IN_MEMORY", 64)
    monkeypatch.setattr(assemble, "_COUNTED", 64)
    for module in (tally, frequency, evaluate):
        monkeypatch.setattr(module, "PIECE", 64)
    again, same = runs_of(data, tmp_path / "pieces")
    for one, other in zip(runs, again, strict=True):
        assert one.id == other.id
        for name in ("auc", "valid_auc", "auc_last", "log_loss", "accuracy", "auc_trained", "cache_hit_rate"):
            assert one.metrics.get(name) == pytest.approx(other.metrics.get(name), abs=1e-6), name
        assert [point.valid_auc for point in one.learning_curve] == pytest.approx(
            [point.valid_auc for point in other.learning_curve], abs=1e-6
        )
        assert [table.sharing for table in one.tables] == [table.sharing for table in other.tables]
        assert len(one.by_frequency) == len(other.by_frequency) > 1
        for ours, theirs in zip(one.by_frequency, other.by_frequency):
            for name, value in vars(ours).items():
                assert value == (value if isinstance(value, str) else pytest.approx(getattr(theirs, name), abs=2e-6))
    for one, other in zip(predictions, same, strict=True):
        assert np.array_equal(one, other)
    names = [labels_path(tmp_path / name, data.fingerprint) for name in ("whole", "pieces")]
    assert np.array_equal(np.load(names[0]), data.test.labels.numpy())
    assert names[0].read_bytes() == names[1].read_bytes()
    assert any("cache_hit_rate" in run.metrics for run in runs)
    assert any(table.sharing for run in runs for table in run.tables)
