"""Test scores are those of what is served, and beside them stand those of what was trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from embpress.compressors import parse
from embpress.dlrm.data import load
from embpress.dlrm.measure.auc import auc
from embpress.dlrm.runs.checkpoint import Keeper
from embpress.dlrm.runs.experiment import run
from embpress.dlrm.training.evaluate import predict
from embpress.dlrm.training.settings import resolve


@pytest.fixture(scope="module")
def data():
    return load(rows=3000, scale=0.001, min_count=1)


@pytest.fixture(scope="module")
def settings():
    return replace(resolve(3000, threads=1), latency_seconds=0.0, epochs=2)


@pytest.fixture(scope="module", params=["hash:k=50", "tt:rank=2:cache_rows=9:warmup=2:refresh=3"])
def both(data, settings, request):
    """The plain method and the one served in bfloat16, and what the latter's served model predicts."""
    predicted = []

    class Predicting(Keeper):
        def take(self, model):
            predicted[:] = [predict(model, data.test, tables=model.tables.fold())]

    plain, _ = run(data, parse(request.param), settings, 0)
    served, probabilities = run(data, parse(f"{request.param}+bf16"), settings, 0, keeper=Predicting())
    return plain, served, probabilities, predicted[0]


def test_before_folding_it_is_the_method_itself(both):
    plain, served, *_ = both
    assert served.ok, served.reason
    assert served.metrics["auc_trained"] == plain.metrics["auc"]
    assert served.metrics["log_loss_trained"] == plain.metrics["log_loss"]
    assert served.metrics["valid_auc"] == plain.metrics["valid_auc"]
    trained = [[replace(point, seconds=None, test_auc=None) for point in one.learning_curve] for one in (served, plain)]
    assert trained[0] == trained[1]  # that it was scored in between has changed nothing
    assert "auc_trained" not in plain.metrics
    assert plain.served == ()


def test_the_scores_are_those_of_the_folded_model(both, data):
    _, served, probabilities, logits = both
    np.testing.assert_array_equal(probabilities, torch.sigmoid(logits).float().numpy())
    assert served.metrics["auc"] == auc(logits, data.test.labels)
    trained, last = served.served
    assert (trained.modifiers, last.modifiers) == ("", "bf16")
    assert (trained.auc, last.auc) == (served.metrics["auc_trained"], served.metrics["auc"])
    assert (trained.log_loss, last.log_loss) == (served.metrics["log_loss_trained"], served.metrics["log_loss"])
    assert trained.log_loss != last.log_loss


def test_what_people_have_already_is_marked(data, settings):
    plain = ("full", "full+bf16", "full+int4", "full-tbe", "narrow", "narrow+int4", "top+int2")
    assert all(parse(method).baseline for method in plain)
    assert not any(parse(method).baseline for method in ("hash", "hash+bf16", "full+pq", "full+hot", "mlet+int4"))
    made, _ = run(data, parse("full+bf16"), replace(settings, epochs=1), 0)
    assert made.is_baseline
    assert not made.is_full
