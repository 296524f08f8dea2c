"""`--device`: what is refused, and that a run keeps to its device, found out on a device that is only pretended."""

import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from paths import TOOLS

from embpress.cli.main import main
from embpress.compressors import InputError, available, parse
from embpress.dlrm.measure import memory
from embpress.dlrm.measure.device import make_current, resolve_device
from embpress.dlrm.measure.environment import driver, environment
from embpress.dlrm.training.settings import resolve

PRETEND = TOOLS / "pretend_device"
# TBE's kernels look where a tensor's memory is
PLAIN = [name for name in available() if not parse(name).tags.fused_update]
RUNS = [
    *(f"{name}/adagrad" for name in PLAIN),
    "full/sgd/sparse",
    "full/rowwise_adagrad/sparse",
    "qr:op=concat/adagrad/sparse",
    "mlet/sgd/sparse",
    "robe:z=5:sign=true/sgd",
    "hash:parts=4/rowwise_adagrad",
    "tt:rank=3:num_cores=2:store=true/sgd",
    "tt:rank=4:cache_rows=8:warmup=1:refresh=2/adagrad",
    "tt:rank=4:cache_fraction=0.1:warmup=1:refresh=1:evict=write-back/adagrad",
    *(f"{name}/adagrad/bags" for name in ("full", "tt:rank=4", "robe", "hash")),
]
# these look at the memory of a tensor, or save it, and a pretended one has none of its own
# from_dense solves for views of one vector, which such tensors have not
NEEDS_MEMORY = {"check_state_dict", "check_ledger", "check_activations", "check_collection_ledger", "check_from_dense"}


def gpus(monkeypatch, count, built="13.0"):
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_devices_that_are_there(monkeypatch):
    gpus(monkeypatch, 2)
    assert [resolve_device(name) for name in ("cpu", "cuda", "cuda:0", "cuda:1")] == ["cpu", "cuda", "cuda", "cuda:1"]
    assert resolve(100, device="cuda:0") == resolve(100, device="cuda")


@pytest.mark.parametrize(
    ("name", "count", "built", "words"),
    [
        ("gpu", 1, "13.0", ["'gpu'", "cpu, cuda"]),
        ("cuda:", 1, "13.0", ["'cuda:'", "cuda:INDEX"]),
        ("cuda:-1", 1, "13.0", ["'cuda:-1'"]),
        ("cuda", 0, None, [torch.__version__, "without CUDA"]),
        ("cuda", 0, "13.0", ["CUDA 13.0", "no GPU"]),
        ("cuda:1", 1, "13.0", ["cuda:1", "only cuda:0 is here"]),
        ("cuda:7", 4, "13.0", ["cuda:7", "only cuda:0 to cuda:3 are here"]),
    ],
)
def test_devices_that_are_not_there_are_refused_in_one_sentence(monkeypatch, name, count, built, words):
    gpus(monkeypatch, count, built)
    with pytest.raises(InputError) as refusal:
        resolve_device(name)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("command", [["compare"], ["train"], ["bench", "train"], ["bench", "tt"]])
def test_every_command_that_runs_something_refuses_a_device_that_is_not_there(monkeypatch, tmp_path, command):
    gpus(monkeypatch, 0)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [*command, "--device", "cuda"])
    assert done.exit_code == 2
    assert done.stderr.strip().splitlines()[-1].startswith("Error: device cuda: ")
    assert not list(tmp_path.iterdir())


def test_the_device_becomes_the_current_one(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name in ("cpu", "cuda", "cuda:1"):
        make_current(name)
    assert chosen == [0, 1]


# --- what a record says of a GPU --------------------------------------------------------------------------------------


class Properties:
    name, major, minor, total_memory = "NVIDIA H100", 9, 0, 85_000_000_000


def test_environment_names_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = environment("cuda")
    assert (found["gpu"], found["compute_capability"], found["cuda"]) == ("NVIDIA H100", "9.0", "13.0")
    assert found["gpu_memory_bytes"] == 85_000_000_000
    assert "gpu" not in environment("cpu")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\n", "535.129.03"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n", "580.65.06"),
        ("no version here\n", None),
    ],
)
def test_driver_version(tmp_path, text, version):
    (tmp_path / "version").write_text(text)
    assert driver(str(tmp_path / "version")) == version
    assert driver(str(tmp_path / "nothing")) is None


def test_peak_of_a_step_on_cuda_is_what_it_adds(monkeypatch):
    held = {"now": 1000, "peak": 9999}

    def step():
        held["peak"] = max(held["peak"], held["now"] + 250)

    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: held["now"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: held["peak"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: held.update(peak=held["now"]))
    assert memory.peak_bytes(step, "cuda") == 250
    assert memory.device_peak_bytes("cuda") == 1250
    assert memory.device_peak_bytes("cpu") is None


# --- one device and no other ------------------------------------------------------------------------------------------


def there(script, *arguments):
    """What a script prints that pretends to a device: each in a process of its own, as torch never forgets a device."""
    command = [sys.executable, str(PRETEND / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def runs():
    return there("train_both.py", *RUNS)


@pytest.mark.parametrize("case", RUNS)
def test_a_run_keeps_to_its_device_and_gives_what_the_cpu_gives(runs, case):
    """Training, evaluation, folding and serving; the same kernels compute all but the tables' optimizer, an op."""
    run = runs[case]
    assert "failed" not in run, run["failed"]
    assert run["devices"] == ["pretend"]
    assert run["start"] == 0
    assert run["end"] < 1e-4  # other kernels of the MLPs and of their optimizers round differently
    assert run["learned"] > 0.01
    here, pretended = run["loss"]
    assert pretended == pytest.approx(here, rel=1e-6)
    assert here[-1] < here[0]
    assert run["hit_rate"][0] == run["hit_rate"][1]
    assert (run["hit_rate"][0] is not None) == ("cache" in case or case.startswith("top"))


def test_every_method_passes_the_conformance_suite_there():
    failed = there("conformance_there.py", *PLAIN, "tt:rank=4:cache_rows=8:warmup=1:refresh=2", "qr:op=add")
    assert {name.split()[1] for name in failed} <= NEEDS_MEMORY, failed


def test_every_benchmark_keeps_to_its_device():
    found = there("bench_there.py")
    assert found["failed"] == {}
    assert found["cases"] > 20
    assert found["methods"] == 4


@pytest.mark.parametrize(
    "mistake",
    [
        "torch.rand(3, device='pretend') + torch.rand(3)",
        "torch.rand(3, device='pretend')[torch.tensor([1])]",
        "torch.rand(3)[torch.tensor([1], device='pretend')]",
        "torch.cat([torch.arange(3), torch.arange(3, device='pretend')])",
        "torch.empty(3, device='pretend').uniform_(generator=torch.Generator())",
        "one = torch.ones(1, dtype=int); memory = torch.rand(9, device='pretend'); "
        "ops.robe_lookup(memory, one.view(1, 1), one.expand(3), row_offsets=one, rows=one, z=2, dim=4)",
    ],
)
def test_the_pretended_device_catches_what_was_left_on_the_cpu(mistake):
    code = f"import torch; from embpress.kernels import ops; from pretend_device import install; install(); {mistake}"
    done = subprocess.run([sys.executable, "-c", code], cwd=PRETEND, capture_output=True, text=True, check=False)
    assert "WrongDevice" in done.stderr
