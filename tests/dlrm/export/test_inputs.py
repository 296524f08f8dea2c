"""Models whose inputs or layers are of another kind: bags of ids, bfloat16 layers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from embpress.compressors import parse_all
from embpress.dlrm.data import load
from embpress.dlrm.data.assemble import assemble
from embpress.dlrm.data.raw import RawField, RawTable
from embpress.dlrm.export import loader
from embpress.dlrm.export.export import export
from embpress.dlrm.export.served import inputs_of
from embpress.dlrm.runs.checkpoint import checkpoint_path
from embpress.dlrm.runs.compare import compare
from embpress.dlrm.training.evaluate import predict
from embpress.dlrm.training.settings import resolve


def multi_hot(rows=1500):
    """Two plain features around one with bags of none to four ids."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(0, 5, rows)
    offsets = np.concatenate([[0], lengths.cumsum()])
    fields = [
        RawField(draw.integers(0, 300, rows)),
        RawField(draw.integers(0, 200, offsets[-1]), offsets),
        RawField(draw.integers(0, 50, rows)),
    ]
    labels = (draw.random(rows) < 0.4).astype(np.float32)
    raw = RawTable(labels, [], np.zeros((rows, 0), np.float32), ["user", "étiquettes", "shop"], fields)
    return assemble(raw, name="bags", format="csv", split="order", min_count=1)


@pytest.fixture(autouse=True)
def no_latency(monkeypatch):
    monkeypatch.setattr("embpress.dlrm.runs.experiment.measure_latency", lambda *_: {})


def trained(data, methods, folder, **options):
    settings = replace(resolve(1500, threads=1, min_rows=30, **options), latency_seconds=0.0)
    for step in compare(data, parse_all(methods), settings, [0], folder, keep_weights=True):
        assert step.run.ok, step.run.reason
        yield checkpoint_path(folder, step.run)


def test_bags_are_pooled_as_in_training(tmp_path):
    data = multi_hot()
    for i, path in enumerate(trained(data, "full,hash,tt:rank=4,robe+bf16", tmp_path / "runs")):
        made = export(path, tmp_path / str(i), onnx=False)
        bags = made.manifest["inputs"][2]
        assert bags["columns"] == ["étiquettes"]
        model = loader.model(tmp_path / str(i))
        kept = torch.from_numpy(np.load(tmp_path / "runs" / "records" / f"{path.stem}.npy"))
        limit = 0.003 if "bf16" in path.stem else 1e-5
        for size in (1, 2, len(data.test)):
            answer = model(*inputs_of(data.test.slice(0, size)))
            torch.testing.assert_close(answer, kept[:size], rtol=0, atol=limit)
        dense, ids, [(values, offsets)] = inputs_of(data.test.slice(0, 50))
        nothing = model(dense, ids, [(values[:0], torch.zeros_like(offsets))])
        assert nothing.isfinite().all()
        for bad in ((values.masked_fill(values == values[3], 10**6), offsets), (values - 7, offsets)):
            with pytest.raises(RuntimeError, match="an id is out of range"):
                model(dense, ids, [bad])
        for bad in (offsets + 1, offsets.flip(0), offsets * 1000):
            with pytest.raises(RuntimeError, match="offsets must"):
                model(dense, ids, [(values, bad)])


def test_onnx_takes_bags_too(tmp_path):
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    runtime = pytest.importorskip("onnxruntime")
    data = multi_hot()
    (path,) = trained(data, "hash", tmp_path / "runs")
    export(path, tmp_path / "served")
    session = runtime.InferenceSession(str(tmp_path / "served" / "model.onnx"))
    kept = np.load(tmp_path / "runs" / "records" / f"{path.stem}.npy")
    for size in (1, 100):
        dense, ids, [(values, offsets)] = inputs_of(data.test.slice(0, size))
        given = {"dense": dense, "ids": ids, "values_0": values, "offsets_0": offsets}
        (answer,) = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
        np.testing.assert_allclose(answer, kept[:size], rtol=0, atol=1e-5)
    wrong = values.clone()
    wrong[0] = 10**6  # of the first bag that holds anything; any id is some row of a hash table
    (answer,) = session.run(None, {name: tensor.numpy() for name, tensor in {**given, "values_0": wrong}.items()})
    assert np.isnan(answer).sum() == 1
    for bad in (offsets.clamp(min=1), offsets.flip(0)):
        (answer,) = session.run(None, {name: tensor.numpy() for name, tensor in {**given, "offsets_0": bad}.items()})
        assert np.isnan(answer).all()


def test_bfloat16_layers_stay_so(tmp_path):
    data = load(rows=2000, scale=0.001, min_count=1)
    (path,) = trained(data, "tt:rank=4", tmp_path / "runs", amp=True)
    made = export(path, tmp_path / "served", onnx=False)
    assert made.manifest["model"]["bfloat16_layers"] is True
    assert made.manifest["check"]["limit"] < 0.02
    model = loader.model(tmp_path / "served")
    kept = torch.from_numpy(np.load(tmp_path / "runs" / "records" / f"{path.stem}.npy"))
    answer = model(*inputs_of(data.test))
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, kept, rtol=0, atol=2**-6)
    # a model in float32 would not be as near to what bfloat16 makes of it
    from embpress.dlrm.runs.checkpoint import read

    exact = read(path).build()
    exact.amp = False
    there = (torch.sigmoid(predict(exact, data.test)) - kept).abs().mean()
    assert (answer - kept).abs().mean() < there / 4
