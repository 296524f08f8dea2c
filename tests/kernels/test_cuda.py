"""On a GPU, where there is one: the conformance suite, and whole runs against those of the CPU."""

import json

import pytest
import torch
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.compressors import available, create, parse
from embpress.compressors.testing import parametrize_with_checks

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
METHODS = [name for name in available() if parse(name).cls.unavailable("cuda") is None]
VARIANTS = [
    "tt:rank=3:num_cores=2",
    "tt:rank=3x2x2:num_cores=4:init=gaussian",
    "tt:rank=4:cache_rows=8:warmup=1:refresh=2",
    "tt:rank=4:cache_fraction=0.1:warmup=1:refresh=1:evict=write-back",
    "tt:rank=4:store=true",
    "robe:z=5:sign=true",
    "hash:parts=4",
    "qr:op=concat",
    "qr:parts=3:c=3",
]


@pytest.fixture(autouse=True)
def checked(monkeypatch):
    monkeypatch.setenv("EMBPRESS_CHECK", "1")  # else an id out of range is not looked for


@parametrize_with_checks([*METHODS, *VARIANTS], devices=["cuda"])
def test_conformance(subject, check):
    check(subject)


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_means_the_same_table_as_on_the_cpu(method):
    if parse(method).cls.unavailable() is not None:
        pytest.skip("this FBGEMM has nothing for the CPU")
    here, there = (
        create(method, 1009, 16, device=d, generator=torch.Generator().manual_seed(5)) for d in ("cpu", "cuda")
    )
    torch.testing.assert_close(there.to_dense().cpu(), here.to_dense())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    small = ["--rows", "20000", "--scale", "0.001", "--min-count", "1", "--ratio", "4", "--methods", ",".join(METHODS)]
    found = {}
    for name, more in {"cpu": [], "cuda": ["--device", "cuda"], "amp": ["--device", "cuda", "--amp"]}.items():
        folder = tmp_path_factory.mktemp("runs") / name
        done = CliRunner().invoke(main, ["compare", *small, *more, "--out", str(folder)])
        assert done.exit_code == 0, done.output
        records = [json.loads(path.read_text()) for path in (folder / "records").glob("*.json")]
        found[name] = {record["method"]: record for record in records}
        found[name]["report"] = (folder / "report.md").read_text()
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["cuda", "amp"])
def test_a_run_learns_what_it_learns_on_the_cpu(runs, how, method):
    here, there = runs["cpu"][method], runs[how][method]
    assert there["status"] == "ok", there["reason"]
    assert there["device"] == "cuda"
    losses = [[point["train_loss"] for point in record["learning_curve"]] for record in (here, there)]
    assert losses[1] == pytest.approx(losses[0], rel=0.03 if how == "amp" else 0.01)
    assert there["metrics"]["auc"] == pytest.approx(here["metrics"]["auc"], abs=0.02)
    assert there["metrics"]["serving_bytes"] == here["metrics"]["serving_bytes"]


@pytest.mark.parametrize("method", METHODS)
def test_a_record_of_the_gpu_says_what_it_ran_on_and_took(runs, method):
    there = runs["cuda"][method]
    assert there["environment"]["gpu"] == torch.cuda.get_device_name()
    assert there["environment"]["cuda"] == torch.version.cuda
    metrics = there["metrics"]
    assert metrics["peak_device_bytes"] >= metrics["serving_bytes"]
    assert metrics["peak_memory_bytes"] >= metrics["serving_bytes"]
    assert 0 < metrics["lookup_p50_us_b1"] <= metrics["lookup_p99_us_b1"] < 1e6
    assert 0 < metrics["step_ms"] < 1e3 * metrics["train_seconds"]


def test_the_report_shows_the_gpu_and_its_memory(runs):
    assert "Peak on the GPU" in runs["cuda"]["report"]
    assert torch.cuda.get_device_name() in runs["cuda"]["report"]
    assert "Peak on the GPU" not in runs["cpu"]["report"]


def test_the_op_benchmark_runs(tmp_path):
    done = CliRunner().invoke(main, ["bench", "tt", "--quick", "--device", "cuda", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "bench-tt.json").read_text())
    assert {row["name"]: row["reason"] for row in record["rows"] if row["status"] == "failed"} == {}


def test_the_step_benchmark_runs(tmp_path):
    arguments = ["--device", "cuda", "--amp", "--scale", "0.001", "--repeats", "2", "--methods", ",".join(METHODS)]
    done = CliRunner().invoke(main, ["bench", "train", *arguments, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
