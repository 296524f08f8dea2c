"""`--amp`: MLPs and interaction in bfloat16, all else in float32, and said so wherever the setting is."""

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.nn import functional as F

from embpress.cli.main import main
from embpress.compressors import TableCollection, TableConfig, parse
from embpress.dlrm.data import load
from embpress.dlrm.models.dlrm import DLRM
from embpress.dlrm.runs.experiment import build_model, build_tables, describe_run, run
from embpress.dlrm.training.settings import resolve

SMALL = ["--rows", "4000", "--scale", "0.001", "--min-count", "1", "--threads", "1"]


@pytest.fixture(scope="module")
def data():
    return load(rows=4000, scale=0.001, min_count=1)


def small_model(amp):
    g = torch.Generator().manual_seed(0)
    tables = TableCollection.build([TableConfig(n, 4, f"t{n}") for n in (50, 3, 20)], "full", generator=g)
    return DLRM(5, tables, [7], [6], g, amp)


def test_what_is_computed_in_which_dtype():
    model = small_model(amp=True)
    seen = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(
                lambda layer, given, out, name=name: seen.update({name: (given[0].dtype, out.dtype)})
            )
    rows = model.tables(torch.tensor([[0, 1, 2], [49, 2, 19]]))
    rows.retain_grad()
    logits = model.score(torch.rand(2, 5), rows)
    assert {out for _, out in seen.values()} == {torch.bfloat16}
    assert seen["top.0"][0] == torch.bfloat16  # what the interaction gives
    assert logits.dtype == rows.dtype == torch.float32
    F.binary_cross_entropy_with_logits(logits, torch.tensor([0.0, 1])).backward()
    assert rows.grad.dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {p.grad.dtype for p in model.parameters()} == {torch.float32}


def test_logits_and_gradients_are_near_those_of_float32():
    """bfloat16 has eight bits: a relative error of 2^-8 an operation."""
    g = torch.Generator().manual_seed(0)
    dense, ids = torch.rand(64, 5, generator=g), torch.randint(3, (64, 3), generator=g)
    labels = torch.rand(64, generator=g).round()
    logits, grads = [], []
    for amp in (False, True):
        model = small_model(amp)
        found = model(dense, ids)
        F.binary_cross_entropy_with_logits(found, labels).backward()
        logits.append(found.detach())
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert 0 < float((logits[0] - logits[1]).abs().max()) < 0.02 * float(logits[0].abs().max())
    assert float((grads[0] - grads[1]).norm()) < 0.02 * float(grads[0].norm())


def test_without_it_nothing_is_cast():
    model = small_model(amp=False).double()
    assert model(torch.rand(8, 5).double(), torch.randint(3, (8, 3))).dtype == torch.float64


@pytest.mark.parametrize("method", ["full", "tt:rank=4", "robe", "mlet"])
def test_a_run_ends_near_that_in_float32(data, method):
    settings = replace(resolve(4000, threads=1), latency_seconds=0.0)
    plain, _ = run(data, parse(method), settings, 0)
    made, probabilities = run(data, parse(method), replace(settings, amp=True), 0)
    assert made.ok
    assert made.training["amp"] == "bfloat16"
    assert probabilities.dtype == "float32"
    losses = [[point.train_loss for point in found.learning_curve] for found in (plain, made)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    assert made.metrics["log_loss"] == pytest.approx(plain.metrics["log_loss"], rel=0.01)
    assert made.metrics["model_p50_us_b1"] > 0
    assert made.metrics["peak_memory_bytes"] <= plain.metrics["peak_memory_bytes"]


def test_seeds_are_paired_with_it(data):
    settings = resolve(4000)
    models = [
        build_model(data, build_tables(data, parse("tt"), own, 1), own, 1)
        for own in (settings, replace(settings, amp=True))
    ]
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_runs_without_it_are_those_of_before(data):
    own = resolve(4000)
    plain, cast = (describe_run(data, parse("tt"), one, 0, "") for one in (own, replace(own, amp=True)))
    assert "amp" not in plain.training
    assert plain.id != cast.id


def test_the_command_says_so_and_keeps_such_runs_apart(tmp_path):
    def call(*more):
        return CliRunner().invoke(main, ["train", *SMALL, "--method", "full", "--out", str(tmp_path / "run"), *more])

    done = call("--amp")
    assert done.exit_code == 0, done.output
    assert "bfloat16" in done.output
    (path,) = (tmp_path / "run" / "records").glob("*.json")
    assert json.loads(path.read_text())["training"]["amp"] == "bfloat16"
    assert "amp bfloat16" in (tmp_path / "run" / "report.md").read_text()
    other = call()
    assert other.exit_code == 2
    assert "another amp (bfloat16 and None)" in other.stderr
