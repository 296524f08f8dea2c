"""What works where only torch, numpy, pandas, click and rich are installed, and what is said of the rest."""

import json
import subprocess
import sys

import pytest
import torch

from embpress.dlrm.training.auc import auc, auc_by_counts

ABSENT = ["torchmetrics", "matplotlib", "polars", "safetensors", "hypothesis", "fbgemm_gpu", "setuptools", "tltorch"]
WITHOUT = f"""
import sys
from importlib.machinery import ModuleSpec

class Absent:
    def find_spec(self, name, path=None, target=None):
        # a finder cannot say that there is none, only that the next one may look
        return ModuleSpec(name, self) if name.split(".")[0] in {ABSENT} else None

    def create_module(self, spec):
        raise ModuleNotFoundError(f"No module named {{spec.name!r}}", name=spec.name)

    def exec_module(self, module):
        raise AssertionError("there is no module")

sys.meta_path.insert(0, Absent())
import embpress.compressors, embpress.kernels, embpress.dlrm, embpress.reports
from embpress.cli.main import main
main(sys.argv[1:])
"""


def without(*arguments):
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


SMALL = ["--rows", "3000", "--scale", "0.001", "--min-count", "1", "--threads", "1", "--ratio", "4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = without("compare", *SMALL, "--methods", "full,tt,robe,qr,mlet,hash,full-tbe", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_comparison_runs_and_is_reported_without_plots(folder):
    runs = [json.loads(path.read_text()) for path in (folder / "records").glob("*.json")]
    failed = [run["reason"] for run in runs if run["status"] != "ok"]
    assert len(runs) == 7
    assert len(failed) == 1
    assert "fbgemm_gpu does not import here" in failed[0]
    report = (folder / "report.md").read_text()
    assert "matplotlib" in report
    assert "![" not in report


def refusal(*arguments):
    done = without(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_what_needs_an_absent_package_names_it_in_one_sentence(folder, tmp_path):
    clicks = tmp_path / "clicks.csv"
    clicks.write_text("click,shop\n1,a\n0,b\n")
    assert "reading" in (line := refusal("compare", clicks, "--label", "click"))
    assert "pip install polars" in line
    assert "pip install matplotlib" in refusal("report", folder, "--page", "hot-rows")


@pytest.mark.parametrize("kinds", [2, 50, 10**6])
def test_auc_by_counts_is_torchmetrics(kinds):
    """With many ties, with few, with none."""
    g = torch.Generator().manual_seed(kinds)
    labels = (torch.rand(20_000, generator=g) < 0.2).float()
    logits = torch.randint(kinds, (20_000,), generator=g) / kinds + labels / 10
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    ranks = torch.unique(logits, return_inverse=True)[1].double()
    want = torchmetrics.binary_auroc(ranks / ranks.max(), labels.long(), thresholds=None)
    assert auc_by_counts(logits, labels) == pytest.approx(float(want), abs=1e-6)
    assert auc(logits, labels) == pytest.approx(float(want), abs=1e-6)


def test_auc_by_counts_counts_pairs():
    logits, labels = torch.tensor([3.0, 1, 1, 0, 2]), torch.tensor([1.0, 1, 0, 0, 0])
    # of six pairs the 3 wins three; the 1 draws with a 1, wins over the 0, loses to the 2
    assert auc_by_counts(logits, labels) == pytest.approx(4.5 / 6)
