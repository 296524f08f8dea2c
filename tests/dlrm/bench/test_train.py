"""The benchmark of a training step: a row a method, held against the arithmetic of the MLPs."""

import json

import pytest
import torch
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.compressors import InputError
from embpress.dlrm.bench.suites.train import Size, cases


def test_a_step_is_held_against_the_arithmetic_of_its_mlps(tmp_path):
    done = CliRunner().invoke(
        main,
        ["bench", "train", "--scale", "0.0001", "--batch-size", "64", "--repeats", "2", "--threads", "1",
         "--methods", "full,tt:rank=2,robe:ratio=1e9", "--out", str(tmp_path)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "bench-train.json").read_text())
    full, tt, robe = record["rows"]
    assert [full["name"], tt["name"]] == ["full", "tt:rank=2"]
    # MLPs 13-512-256-64-16 and 367-512-256-1: 26 tables' and the bottom's rows of 16 have 27·26/2 products and 16 more
    layers = [(13, 512), (512, 256), (256, 64), (64, 16), (367, 512), (512, 256), (256, 1)]
    for row in (full, tt):
        assert row["needed_flops"] == 6 * 64 * sum(a * b for a, b in layers)
        assert row["baseline_s"] == pytest.approx(row["needed_flops"] / row["figures"]["gemm_gflops"] / 1e9)
        assert row["ratio"] == row["of_peak"]
        assert row["repeats"] == 2
    assert tt["figures"]["serving_bytes"] < full["figures"]["serving_bytes"]
    assert robe["status"] == "failed"
    assert robe["reason"].startswith("cannot reach")  # the others go on
    page = (tmp_path / "bench-train.md").read_text()
    assert "kaggle model, batch 64, 26 tables of Criteo-Kaggle's sizes × 0.0001" in page
    assert "bfloat16" not in page


@pytest.mark.parametrize("mistake", [{"scale": 2.0}, {"batch_size": 0}, {"preset": "no"}, {"methods": "no"}])
def test_mistakes_are_refused_before_anything_is_built(mistake):
    with pytest.raises(InputError):
        cases(Size(**mistake), torch.device("cpu"))
