"""Every number of a record is in the tables of metrics, and every metric is in a record."""

from dataclasses import fields, replace

import pytest

from embpress.compressors import parse
from embpress.dlrm.data import load
from embpress.dlrm.runs.experiment import run
from embpress.dlrm.runs.record import CurvePoint, FrequencyBin, ServedPoint, Sharing, TableRecord, Tuned
from embpress.dlrm.training.settings import resolve
from embpress.reports.metrics import (
    CURVE_METRICS,
    DATA_METRICS,
    FREQUENCY_METRICS,
    METRICS,
    SERVED_METRICS,
    SHARING_METRICS,
    TABLE_METRICS,
    TUNED_METRICS,
    show,
)

ON_CUDA = {"peak_device_bytes"}
IN_SEVERAL_PROCESSES = {"wire_bytes_per_step"}


@pytest.fixture(scope="module")
def made():
    settings = replace(resolve(3000, threads=1), latency_seconds=0.0)
    cached = "tt:rank=2:cache_rows=9:warmup=2+bf16"
    return run(load(rows=3000, scale=0.001, min_count=1), parse(cached), settings, 0)[0]


def test_metrics_of_a_run(made):
    assert made.ok, made.reason
    assert set(made.metrics) == set(METRICS) - ON_CUDA - IN_SEVERAL_PROCESSES
    assert {name for name, metric in METRICS.items() if metric.of_method} == set(made.latency)
    assert all(METRICS[name].format(value) == show(name, value) != "–" for name, value in made.metrics.items())


# what was asked for, not measured
ASKED = {"seed", "latency_of_seed", "min_count"}


def numbers(record):
    return {f.name for f in fields(record) if type(getattr(record, f.name)) in (int, float)}


def test_numbers_of_the_run_and_its_data(made):
    assert numbers(made) | numbers(made.data) == set(DATA_METRICS) | ASKED


def test_numbers_of_tables_and_of_the_learning_curve(made):
    assert numbers(made.tables[0]) == set(TABLE_METRICS) < {f.name for f in fields(TableRecord)}
    assert numbers(made.learning_curve[-1]) == set(CURVE_METRICS) == {f.name for f in fields(CurvePoint)}
    assert numbers(made.served[-1]) == set(SERVED_METRICS) == {f.name for f in fields(ServedPoint)} - {"modifiers"}


def test_numbers_of_tuning():
    made = Tuned("lr", 3, {}, {}, 1, 0.7, 0.6, 0.7, 0.6)
    assert (
        numbers(made) == set(TUNED_METRICS) == {f.name for f in fields(Tuned)} - {"how", "chosen", "default", "edges"}
    )


def test_numbers_by_frequency_and_of_sharing(made):
    named = {f.name for f in fields(FrequencyBin)} - {"name"}
    assert all(numbers(one) == set(FREQUENCY_METRICS) == named for one in made.by_frequency)
    assert [one.name for one in made.by_frequency][:2] == ["all", "head"]
    assert made.by_frequency[0].auc == pytest.approx(made.metrics["auc"], abs=1e-6)
    assert made.by_frequency[0].log_loss == pytest.approx(made.metrics["log_loss"], abs=1e-6)
    shared = next(table.sharing for table in made.tables if table.method == "tt")
    assert numbers(shared) == set(SHARING_METRICS) == {f.name for f in fields(Sharing)}
    assert all(table.sharing is None for table in made.tables if table.method == "full")


def test_each_says_unit_direction_and_meaning():
    tables = (METRICS, DATA_METRICS, TABLE_METRICS, CURVE_METRICS, TUNED_METRICS, FREQUENCY_METRICS, SHARING_METRICS)
    for name, metric in (item for table in tables for item in table.items()):
        assert metric.name == name
        assert metric.better in ("higher", "lower", None)
        assert metric.title
        assert metric.meaning.endswith(".")
