"""A run on prepared data is the run on the files, and takes no copy of the training part."""

import numpy as np
import torch
from criteo_lines import lines, write

from embpress.compressors import parse
from embpress.dlrm.data import Part, load
from embpress.dlrm.data.prepare.prepare import prepare
from embpress.dlrm.runs.compare import compare
from embpress.dlrm.runs.experiment import build_model, build_tables
from embpress.dlrm.training import click_model
from embpress.dlrm.training.settings import resolve


def test_the_same_run_bit_for_bit(tmp_path):
    path = write(tmp_path / "a.txt", "".join(lines(600)))
    settings = resolve(600, batch_size=64, epochs=2, ratio=2.0, min_rows=10, threads=1, latency_seconds=0.001)
    runs, predictions = [], []
    for name, source in (("files", path), ("folder", prepare([path], tmp_path / "to"))):
        folder = tmp_path / name
        steps = list(compare(load(source), [parse("full"), parse("robe")], settings, [0], folder, ""))
        assert all(step.run.ok for step in steps), [step.run.reason for step in steps]
        runs.append([step.run for step in steps])
        predictions.append([np.load(folder / "records" / f"{run.id}.npy") for run in runs[-1]])
    for one, other in zip(*runs, strict=True):
        assert one.id == other.id
        for key in ("auc", "auc_last", "valid_auc", "log_loss"):
            assert one.metrics[key] == other.metrics[key]
        assert one.by_frequency == other.by_frequency
    for one, other in zip(*predictions, strict=True):
        assert np.array_equal(one, other)


def test_samples_are_gathered_in_pieces_in_the_same_order(tmp_path, monkeypatch):
    data = load(write(tmp_path / "a.txt", "".join(lines(600))))
    settings = resolve(600, batch_size=50, threads=1)
    taken = []
    whole = Part.take

    def take(self, index):
        taken.append(len(index))
        return whole(self, index)

    monkeypatch.setattr(Part, "take", take)
    monkeypatch.setattr(click_model, "GATHERED", 120)
    model = build_model(data, build_tables(data, parse("full"), settings, 0), settings, 0)
    work = click_model.ClickWork(model, data, settings, seed=7)
    got = list(work.batches(0))
    assert max(taken) == 100
    assert [size for _, size in got] == [50] * 8 + [32]
    order = torch.randperm(432, generator=torch.Generator().manual_seed(7))
    assert torch.equal(torch.cat([part.ids for part, _ in got]), data.train.ids[order])
    assert torch.equal(torch.cat([part.dense for part, _ in got]), data.train.dense[order])
