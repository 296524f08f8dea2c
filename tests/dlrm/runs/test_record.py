"""Runs to JSON and back, and what is said of JSON that is no run."""

import json
import math
from dataclasses import replace

import pytest

from embpress.dlrm.runs.record import Asked, CurvePoint, DataRecord, Run, Smallest, TableRecord, Tuned

DATA = DataRecord(
    "clicks", "csv", "f00d", {"train": 8, "valid": 1, "test": 1}, ("ad",), (30,), ("age",), about={"a": [1]}
)
RUN = Run(
    "tt:rank=4+bf16",
    "tt",
    3,
    DATA,
    {"name": "dlrm", "preset": "default", "width": 16, "bottom": [1, 64, 16]},
    {"optimizer": "adagrad", "learning_rate": 0.02},
    asked=Asked(ratio=4.0),
    modifiers=("bf16",),
    status="ok",
    smallest=Smallest(100, 2.0),
    metrics={"auc": 0.75, "serving_bytes": 480},
    latency_of_seed=0,
    tables=(TableRecord("ad", 30, 16, "tt", 480, 1920, {"rank": 4}, ("bf16",), 0.1),),
    learning_curve=(CurvePoint(10, 0.5, 0.6, 0.7, None),),
)


def test_a_run_is_itself_after_json():
    found = json.loads(json.dumps(RUN.to_json(), allow_nan=False))
    assert found["schema"] == "embpress-run/3"
    assert found["id"] == RUN.id
    assert Run.from_json(found) == RUN
    assert Run.from_json({**found, "id": "another", "of a later version": 1}) == RUN  # the id is never taken on trust


def test_how_it_was_tuned_is_itself_after_json_and_no_part_of_the_id():
    tuned = Tuned("lr:0.1,0.2", 2, {"learning_rate": 0.2, "init": "gaussian"}, {"learning_rate": 0.1}, 0, 0.7, math.nan)
    made = replace(RUN, training={"optimizer": "adagrad", "learning_rate": "tuned by lr:0.1,0.2"}, tuned=tuned)
    found = Run.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False)))
    assert found == replace(made, tuned=replace(tuned, default_valid_auc=None))
    assert found.learning_rate == 0.2
    assert found.id == replace(made, tuned=None).id != RUN.id
    assert RUN.learning_rate == 0.02
    with pytest.raises(ValueError, match=r"it lacks tuned\.chosen, tuned\.default"):
        Run.from_json({**RUN.to_json(), "tuned": {"how": "lr", "trials": 2}})


@pytest.mark.parametrize(("lookup_us", "waited"), [(200.0, False), (17_206.0, True)])
def test_a_lookup_that_takes_longer_than_a_training_step_has_waited(lookup_us, waited):
    times = {"step_ms": 3.4, "train_seconds": 0.04, "lookup_p50_us_b1": lookup_us}
    assert replace(RUN, metrics=times, environment={"threads": 2}).threads_waited is waited
    assert not replace(RUN, metrics=times, environment={"threads": 1}).threads_waited


def test_what_is_no_number_is_left_out():
    made = replace(RUN, metrics={"auc": math.nan, "ratio": 4.0, "step_ms": math.inf})
    assert Run.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False))).metrics == {"ratio": 4.0}
    assert Run.from_json(replace(made, learning_curve=(CurvePoint(1, 0.1, math.nan),)).to_json()).learning_curve == (
        CurvePoint(1, 0.1, None),
    )


def test_the_id_follows_what_could_change_the_result_and_nothing_else():
    same = [
        replace(RUN, metrics={}, status="failed", command="x", created="y", backend="z", environment={"threads": 4}),
        replace(RUN, data=replace(DATA, name="renamed"), knobs={"rank": 4}),
    ]
    assert {run.id for run in same} == {RUN.id}
    others = [
        replace(RUN, seed=4),
        replace(RUN, method="tt:rank=5"),
        replace(RUN, asked=Asked(budget=4)),
        replace(RUN, device="cuda:0"),
        replace(RUN, data=replace(DATA, fingerprint="beef")),
        replace(RUN, model={**RUN.model, "width": 8}),
        replace(RUN, training={**RUN.training, "amp": "bfloat16"}),
    ]
    assert len({run.id for run in [RUN, *others]}) == len(others) + 1
    assert RUN.without_seed == others[0].without_seed != others[1].without_seed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": "3"}, "seed is not a whole number"),
        ({"seed": True}, "seed is not a whole number"),
        ({"method": None}, "method is not text"),
        ({"is_full": 1}, "is_full is not true or false"),
        ({"metrics": [1]}, "metrics is not an object"),
        ({"metrics": {"auc": "high"}}, "metrics.auc is not a number"),
        ({"tables": {}}, "tables is not a list"),
        ({"tables": [{"feature": "ad"}]}, r"it lacks tables\[0\].num_embeddings, tables\[0\].embedding_dim"),
        ({"data": {**RUN.to_json()["data"], "num_embeddings": [3, "x"]}}, r"data.num_embeddings\[1\] is not a whole"),
        ({"asked": 3}, "asked is not an object"),
    ],
)
def test_what_is_wrong_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        Run.from_json({**RUN.to_json(), **change})
    with pytest.raises(ValueError, match="it lacks method, name, seed, data, model, training"):
        Run.from_json({})


@pytest.mark.parametrize(("full", "size", "ratio"), [(1000, 125, 8.0), (1000, 130, 7.6), (999, 125, 7.9)])
def test_the_smallest_ratio_is_itself_reachable(full, size, ratio):
    assert Smallest.of(size, full) == Smallest(size, ratio)
    assert full / ratio >= size
