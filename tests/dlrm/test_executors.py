"""Executors: found by lying in their folder, what they take, and that each does a job."""

import importlib.util
import os
import sys
import time

import pytest

from embpress.compressors import InputError
from embpress.dlrm import executors
from embpress.dlrm.executors.base import Job
from embpress.dlrm.executors.local import cores, gpu


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


PLACES = [
    "local:2",
    pytest.param("ray", marks=needs("ray")),
    pytest.param("slurm:cluster=local:workers=2", marks=needs("submitit")),
]


def job(tmp_path, code):
    return Job(("-c", code), tmp_path, tmp_path / "logs", environment={"GREETING": "hello"})


def ended(worker):
    deadline = time.monotonic() + 120
    while (how := worker.ended()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return how


@pytest.mark.parametrize("place", PLACES)
def test_a_place_starts_workers_says_how_they_ended_and_stops_them(place, tmp_path):
    executor = executors.parse(place)
    one = job(tmp_path, "import os; print(os.environ['GREETING'], os.getcwd()); print()")
    assert executor.open(one) >= 1
    try:
        assert ended(executor.start(one, 0)) == (0, f"hello {tmp_path}")
        failing = job(tmp_path, "import sys; print('Error: no such file', file=sys.stderr); sys.exit(2)")
        assert ended(executor.start(failing, 1)) == (2, "Error: no such file")
        silent = job(tmp_path, "import sys; sys.exit(3)")
        assert ended(executor.start(silent, 2)) == (3, "exit status 3")
        endless = executor.start(job(tmp_path, "import time; print('on', flush=True); time.sleep(600)"), 3)
        deadline = time.monotonic() + 60
        while not (tmp_path / "logs" / "worker-3.log").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert endless.ended() is None
        endless.stop()
        assert ended(endless).status != 0
        endless.stop()  # once more does no harm
    finally:
        executor.close()


def test_one_more_is_found_by_lying_there(tmp_path, monkeypatch):
    (tmp_path / "cloud.py").write_text(
        '"""`cloud:NAME`: machines of somebody else."""\n'
        "from embpress.dlrm.executors.base import Executor\n"
        "class Cloud(Executor):\n"
        "    name, form = 'cloud', 'cloud:NAME'\n"
        "    @classmethod\n"
        "    def of(cls, argument):\n"
        "        made = cls()\n"
        "        made.where = argument\n"
        "        return made\n"
    )
    monkeypatch.setattr(executors, "__path__", [*executors.__path__, str(tmp_path)])
    assert executors.parse("cloud:nine").where == "nine"
    assert executors.forms()["cloud:NAME"] == "machines of somebody else"
    with pytest.raises(InputError, match=r"says nothing after its colon; it is written cloud:NAME"):
        executors.parse("cloud:")
    sys.modules.pop("embpress.dlrm.executors.cloud", None)


def test_help_names_each_as_it_is_written():
    assert {form.split("[")[0] for form in executors.forms()} == set(executors.executors())


@pytest.mark.parametrize(("place", "package"), [("ray", "ray"), ("slurm:cluster=local", "submitit")])
def test_a_package_that_is_missing_is_named(place, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"--executor {place.split(':')[0]} needs .*pip install {package}"):
        executors.parse(place)


@needs("submitit")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slurm", "needs the command sbatch"),
        ("slurm:fast", "is written slurm or"),
        ("slurm:workers=many:cluster=local", "workers"),
        ("slurm:cluster=local:timeout_min=soon", "timeout_min"),
        ("slurm:cluster=local:mem_gb=much", "mem_gb is a number of gigabytes"),
    ],
)
def test_what_slurm_does_not_take(text, said, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=said):
        executors.parse(text)


@needs("submitit")
def test_options_of_sbatch_come_to_it(tmp_path, monkeypatch):
    """Seen in the batch file that is submitted."""
    batch = tmp_path / "sbatch"
    batch.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/seen\necho Submitted batch job 7\n')
    batch.chmod(0o755)
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    executor = executors.parse("slurm:partition=long:timeout_min=90:mem_gb=8:workers=3")
    one = Job(("-c", ""), tmp_path, tmp_path / "logs", threads=5, gpus=1)
    assert executor.open(one) == 3
    executor.start(one, 0)
    text = (tmp_path / "seen").read_text()
    for option in ("partition=long", "time=90", "mem=8GB", "cpus-per-task=5", "gpus-per-node=1"):
        assert f"#SBATCH --{option}\n" in text


def test_workers_of_one_machine_share_its_cores_and_take_its_gpus_in_turn(monkeypatch):
    assert executors.parse("local").workers == cores()
    assert executors.parse(f"local:{cores()}").threads == 1
    assert executors.parse("local:1").threads == cores()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [gpu(number) for number in range(3)] == ["3", "5", "3"]


@needs("ray")
@pytest.mark.parametrize(
    ("text", "address", "workers"),
    [
        ("ray", None, None),
        ("ray:workers=3", None, 3),
        ("ray:ray://head:10001", "ray://head:10001", None),
        ("ray:10.0.0.1:6379:workers=8", "10.0.0.1:6379", 8),
    ],
)
def test_where_a_cluster_is(text, address, workers):
    found = executors.parse(text)
    assert (found.address, found.workers) == (address, workers)


@needs("ray")
def test_a_cluster_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"--executor ray: no cluster at 127\.0\.0\.1:1"):
        executors.parse("ray:127.0.0.1:1").open(job(tmp_path, ""))
