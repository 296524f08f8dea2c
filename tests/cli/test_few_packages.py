"""What works without the packages that only plots, files and other kernels need, and what is said of the rest."""

import json
import subprocess
import sys

import pytest

ABSENT = ["matplotlib", "polars", "safetensors", "hypothesis", "fbgemm_gpu", "setuptools", "tltorch", "optuna"]
WITHOUT = f"""
import importlib.metadata
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
version = importlib.metadata.version

def version_without(name):  # torchmetrics asks for versions before it imports
    if name in {ABSENT}:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)

importlib.metadata.version = version_without
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
