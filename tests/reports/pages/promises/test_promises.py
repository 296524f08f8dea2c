"""What plans promised beside what they gave."""

import json

import pytest

from embpress.compressors import Plan, TableConfig, parse, plan
from embpress.reports import write_report
from embpress.reports.pages.promises.data import kept_of
from embpress.reports.pages.promises.page import NOTHING, lacks
from embpress.reports.summary import summary


@pytest.fixture
def saved(tmp_path):
    made = plan(parse("full+int4"), [TableConfig(100, 8, "a")])
    size = made.tables[0].bytes
    promise = {"serving_bytes": size, "auc": 0.75, "low": 0.74, "high": 0.76, "step_ms": 2.0, "lookup_us": 10.0}
    path = tmp_path / "small.json"
    Plan(made.tables, {"promise": promise}).save(path)
    return path, size


def runs_of(run, path, size, aucs):
    method, content = f"plan:{path}", parse(f"plan:{path}").content
    more = {"serving_bytes": float(size), "step_ms": 3.0, "lookup_p50_us_b128": 9.0}
    runs = [run("full", seed, auc=0.76) for seed in range(len(aucs))]
    return runs + [run(method, seed, auc=auc, plan=content, **more) for seed, auc in enumerate(aucs)]


def test_what_was_expected_stands_beside_what_was_measured(run, saved, tmp_path):
    path, size = saved
    runs = runs_of(run, path, size, (0.745, 0.755, 0.765))
    (kept,) = kept_of(summary(runs))
    assert (kept.inside, kept.mean_inside) == (2, True)
    write_report(tmp_path, runs, ["promises"])
    text = (tmp_path / "promises.md").read_text()
    assert f"| plan:small | {size:,} | {size:,} | 0.7500 (0.7400 – 0.7600) | 0.7550" in text
    assert "| 2 of 3 | 2.00 | 1.50 | 10 | 0.90 |" in text
    assert "for 1 of 1 plans" in text


def test_what_short_probes_expect_is_no_promise(run, saved):
    path, size = saved
    value = json.loads(path.read_text())
    value["about"]["promise"]["short"] = "1 of 4 epochs"
    path.write_text(json.dumps(value))
    assert lacks(runs_of(run, path, size, (0.745,))) == NOTHING


def test_a_plan_that_was_changed_since_promises_nothing(run, saved):
    path, size = saved
    runs = runs_of(run, path, size, (0.745,))
    value = json.loads(path.read_text())
    value["about"]["promise"]["auc"] = 0.9
    path.write_text(json.dumps(value))
    assert lacks(runs) == NOTHING
    path.unlink()
    assert lacks(runs) == NOTHING
    assert lacks([run("full", 0)]) == NOTHING
