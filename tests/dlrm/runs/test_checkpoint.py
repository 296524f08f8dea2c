"""Checkpoints: what they hold, that it is the epoch that counts, and what is said of files that are none."""

import errno
from dataclasses import replace

import numpy as np
import pytest
import torch

from embpress.compressors import InputError, parse_all
from embpress.dlrm.data import load
from embpress.dlrm.measure.auc import auc
from embpress.dlrm.runs import checkpoint
from embpress.dlrm.runs.compare import compare
from embpress.dlrm.runs.store import read_all
from embpress.dlrm.training.evaluate import predict
from embpress.dlrm.training.settings import resolve

METHODS = parse_all("full,hash,robe:z=4,tt:rank=2:cache_rows=8:warmup=2:refresh=3,qr,mlet,tt:rank=2+bf16")


@pytest.fixture(scope="module")
def data():
    return load(rows=3000, scale=0.001, min_count=1)


@pytest.fixture(scope="module")
def settings():
    # so many epochs at such a rate that the best one is not the last
    settings = resolve(3000, threads=1, epochs=4, learning_rate=0.3, min_rows=30)
    return replace(settings, latency_seconds=0.0)


@pytest.fixture(scope="module")
def folder(data, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for step in compare(data, METHODS, settings, [0], folder, keep_weights=True):
        assert step.run.ok, step.run.reason
    return folder


def kept(folder, run):
    return checkpoint.read(checkpoint.checkpoint_path(folder, run))


def test_the_rebuilt_model_predicts_what_the_record_says(data, folder):
    """To the bit, at the best epoch, whatever the seed of the module that the weights are loaded into."""
    runs = read_all(folder)
    assert len(runs) == len(METHODS)
    assert min(run.metrics["best_epoch"] for run in runs) < 4
    for run in runs:
        found = kept(folder, run)
        assert found.run.id == run.id
        model = found.build()
        assert not model.training
        logits = predict(model, data.test, tables=model.tables.fold() if run.modifiers else None)
        saved = np.load(folder / "records" / run.predictions)
        np.testing.assert_array_equal(torch.sigmoid(logits).numpy(), saved)
        assert auc(logits, data.test.labels) == run.metrics["auc"]
        np.testing.assert_array_equal(found.predictions.numpy(), saved[: len(found.sample)])
        assert torch.equal(found.sample.ids, data.test.ids[: checkpoint.SAMPLE_ROWS])
        assert model.tables.serving_bytes == run.metrics["serving_bytes"]


def test_records_are_those_without_weights_and_by_default_there_are_none(data, settings, folder, tmp_path):
    (step,) = compare(data, METHODS[:1], settings, [0], tmp_path)
    (other,) = (run for run in read_all(folder) if run.name == "full")
    assert set(step.run.to_json()) == set(other.to_json())
    assert step.run.id == other.id
    assert step.run.metrics["auc"] == other.metrics["auc"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["records"]


def test_a_run_that_kept_none_is_trained_again_and_one_that_did_is_not(data, settings, tmp_path):
    def again(keep_weights):
        return [step.kept for step in compare(data, METHODS[:1], settings, [0], tmp_path, keep_weights=keep_weights)]

    assert again(False) == [False]
    assert again(True) == [False]
    assert again(True) == [True]
    assert again(False) == [True]


def test_a_checkpoint_is_written_whole_or_not_at_all(folder, tmp_path, monkeypatch):
    """Also where torch would end the process: a write that fails after some have not."""
    run = read_all(folder)[0]
    found, left = kept(folder, run), [3]

    def full(self, data):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)

    monkeypatch.setattr("tempfile._TemporaryFileWrapper.write", full, raising=False)
    with pytest.raises(InputError, match=r"cannot write .*one\.pt: No space left"):
        checkpoint.save(tmp_path / "one.pt", found)
    assert left[0] < 0
    assert list(tmp_path.iterdir()) == []


class Executed:
    def __reduce__(self):
        return print, ("executed",)


def test_what_is_no_checkpoint_is_said_and_nothing_is_executed(folder, tmp_path, capsys):
    path, run = tmp_path / "weights é.pt", read_all(folder)[0]
    whole = checkpoint.checkpoint_path(folder, run).read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"weights é\.pt is no checkpoint of embpress, or a damaged one"):
            checkpoint.read(path)
    torch.save({"schema": checkpoint.SCHEMA, "run": Executed()}, path)
    with pytest.raises(InputError, match="no checkpoint"):
        checkpoint.read(path)
    assert "executed" not in capsys.readouterr().out
    with pytest.raises(InputError, match=r"cannot read .*Is a directory"):
        checkpoint.read(tmp_path)
    value = torch.load(checkpoint.checkpoint_path(folder, run), weights_only=True)
    for change, message in (
        ({"schema": "embpress-checkpoint/9"}, "not a checkpoint of this version .*embpress-checkpoint/9"),
        ({"plan": "{}"}, "is no plan"),
        ({"run": "{}"}, "damaged checkpoint: it lacks method"),
        ({"sample": None}, "damaged checkpoint"),
    ):
        torch.save({**value, **change}, path)
        with pytest.raises(InputError, match=message):
            checkpoint.read(path)


def test_weights_of_another_version_are_refused_with_both_versions_named(folder):
    found = kept(folder, read_all(folder)[0])
    name = next(name for name in found.weights if name.startswith("tables."))
    weights = {key: value for key, value in found.weights.items() if key != name}
    old = replace(found, weights=weights, run=replace(found.run, environment={"embpress": "0.0.7"}))
    with pytest.raises(InputError, match=rf"saved by embpress 0\.0\.7, do not fit .*{name}"):
        old.build()
    wide = {**found.weights, name: torch.zeros(3, 3)}
    with pytest.raises(InputError, match="size mismatch"):
        replace(found, weights=wide).build()
