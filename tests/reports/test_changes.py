"""What changed beyond noise: against scipy, against many made comparisons in which nothing changed, and by hand."""

import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from embpress.compressors import InputError
from embpress.reports.changes import changes, holm
from embpress.reports.comparison.changes import headers_and_cells, section, sentences

NAMES = ("new", "old")


def runs_of(run, method, aucs, **more):
    return [run(method, seed, auc=auc, **more) for seed, auc in enumerate(aucs)]


def only(found):
    (row,) = found.rows
    return row


def test_auc_is_paired_by_seed_and_judged_as_scipy_judges(run):
    before, now = [0.741, 0.739, 0.744, 0.740], [0.7398, 0.7381, 0.7426, 0.7389]
    row = only(changes(runs_of(run, "hash", now), runs_of(run, "hash", before), NAMES))
    wanted = stats.ttest_rel(now, before).confidence_interval(0.95)
    assert (row.gap.low, row.gap.high) == pytest.approx((wanted.low, wanted.high))
    assert row.verdicts["auc"] == "worse"
    back = only(changes(runs_of(run, "hash", before), runs_of(run, "hash", now), NAMES))
    assert back.verdicts["auc"] == "better"
    noise = only(changes(runs_of(run, "hash", [0.742, 0.738, 0.745, 0.739]), runs_of(run, "hash", before), NAMES))
    assert noise.verdicts["auc"] == "same"
    shifted = runs_of(run, "hash", [0.7, *now])[1:]  # seeds 1 to 4 against 0 to 3
    assert only(changes(shifted, runs_of(run, "hash", before), NAMES)).gap.n == 3


def test_one_seed_tells_nothing_but_that_nothing_changed(run):
    found = changes([run("hash", 0, auc=0.70), run("qr", 0, auc=0.74)], [run("hash"), run("qr")], NAMES)
    assert {row.label: row.verdicts["auc"] for row in found.rows} == {"hash": "unknown", "qr": "same"}
    assert not found.worse
    assert "unknown for want of two shared seeds: hash" in " ".join(sentences(found))
    apart = only(changes([run("hash", 1)], [run("hash", 0)], NAMES))
    assert (apart.gap, apart.verdicts["auc"]) == (None, "unknown")
    moved = only(changes(runs_of(run, "hash", [0.73] * 3), runs_of(run, "hash", [0.74] * 3), NAMES))
    assert moved.verdicts["auc"] == "worse"  # the same by every seed


def test_p_values_are_holms():
    chances = [0.01, 0.04, 0.03, 0.005, 0.9]
    assert holm(chances) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.9])  # by hand: 5, 4, 3, 2 and 1 times
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_where_nothing_changed_one_check_in_twenty_says_so_whatever_the_number_of_methods(run):
    draw = np.random.default_rng(7)
    base = [run(f"m{k}", seed) for k in range(8) for seed in range(3)]
    false = 0
    checks = 300
    for _ in range(checks):
        now, before = (
            [replace(one, metrics={**one.metrics, "auc": 0.74 + draw.normal(0, 0.001)}) for one in base]
            for _ in range(2)
        )
        false += any(row.verdicts["auc"] != "same" for row in changes(now, before, NAMES).rows)
    low, high = stats.binom.interval(0.999, checks, 0.05)
    assert false <= high
    assert false >= low * 0.3  # Holm is careful, not blind


def test_bytes_are_exact(run):
    def sized(extra):
        one = run("hash")
        return [replace(one, metrics={**one.metrics, "serving_bytes": one.metrics["serving_bytes"] + extra})]

    assert only(changes(sized(1), sized(0), NAMES)).are("worse") == ["1 bytes more"]
    assert only(changes(sized(0), sized(1), NAMES)).are("better") == ["1 bytes fewer"]
    assert only(changes(sized(0), sized(0), NAMES)).verdicts["bytes"] == "same"


def test_times_count_beyond_the_tolerance_and_on_one_machine_alone(run):
    def timed(factor, **environment):
        one = run("hash")
        metrics = {**one.metrics, "step_ms": 10.0 * factor, "lookup_p50_us_b128": 40.0}
        return [replace(one, metrics=metrics, environment={**one.environment, **environment})]

    assert only(changes(timed(1.3), timed(1.0), NAMES)).are("worse") == ["step 1.30×"]
    assert only(changes(timed(1.3), timed(1.0), NAMES, 1.5)).verdicts["step"] == "same"
    assert only(changes(timed(1.0), timed(1.3), NAMES)).verdicts["step"] == "better"
    assert only(changes(timed(1.2), timed(1.0), NAMES)).verdicts["step"] == "same"
    for environment in ({"cpu": "another"}, {"threads": 9}):
        found = changes(timed(1.3), timed(1.0, **environment), NAMES)
        assert only(found).verdicts["step"] == only(found).verdicts["lookup"] == "unknown"
        assert not found.worse
        assert "not the same machine" in " ".join(sentences(found))
    upgraded = changes(timed(1.3), timed(1.0, embpress="0.0.9", torch="2.11"), NAMES)
    assert upgraded.worse  # an upgrade is what may have made it worse


def test_a_result_that_is_lost_is_worse_and_one_that_is_found_is_better(run, lost):
    asked = {"ratio": 16.0, "budget": None}
    gone = lost("hash", status="cannot reach", asked=asked, smallest={"bytes": 9, "ratio": 8.0})
    found = changes([run("full"), gone], [run("full"), run("hash", asked=asked)], NAMES)
    assert [row.label for row in found.worse] == ["hash @16×"]
    assert "no result any more (cannot reach 16×, smallest 8×)" in sentences(found)[0]
    back = changes([run("hash", asked=asked)], [gone], NAMES)
    assert not back.worse
    assert only(back).are("better")
    assert not only(changes([gone], [gone], NAMES)).are("worse")


def test_what_one_side_alone_has_does_not_count(run):
    found = changes([run("full"), run("tt")], [run("full"), run("hash")], NAMES)
    assert (found.only_before, found.only_now) == (("hash",), ("tt",))
    assert not found.worse
    assert "Not run any more, and not compared: hash." in sentences(found)


def test_full_tables_are_one_whatever_size_was_asked_for(run):
    found = changes([run("full", asked={"ratio": 4.0, "budget": None})], [run("full")], NAMES)
    assert only(found).label == "full"


def test_what_cannot_be_compared_is_refused(run):
    other = replace(run("hash"), training={**run("hash").training, "epochs": 9})
    with pytest.raises(InputError, match=r"old holds runs with another epochs \(3 and 9\), compared with new"):
        changes([run("hash")], [other], NAMES)
    with pytest.raises(InputError, match="new and old have no method in common"):
        changes([run("hash")], [run("qr")], NAMES)
    for wrong in (1.0, 0.5, float("nan"), float("inf")):
        with pytest.raises(InputError, match="ratio above 1"):
            changes([run("hash")], [run("hash")], NAMES, wrong)


def test_the_section_has_a_line_a_method(run):
    noise = random.Random(3)
    before = [run(m, s, auc=0.74 + noise.gauss(0, 0.001)) for m in ("full", "a|b", "qr") for s in range(3)]
    now = [replace(one, metrics={**one.metrics, "auc": one.metrics["auc"] - 0.01}) for one in before]
    found = changes(now, before, NAMES)
    text = section(found)
    assert text.startswith("Worse beyond noise: ")
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 3
    assert r"a\|b" in text
    assert "−0.0100" in rows[0]
    headers, cells = headers_and_cells(found)
    assert all(len(row) == len(headers) for row in cells)
    assert {row[-1] for row in cells} == {"worse"}
