"""`--executor`: each run is made once, whoever dies, and with the same result as in one process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from paths import ROOT

from embpress.cli.main import main

SMALL = ("--rows", "2000", "--scale", "0.001", "--min-count", "1", "--width", "8", "--min-rows", "20", "--threads", "1")
METHODS = ("--methods", "full,hash:ratio=4,tt:rank=2", "--seeds", "2")
COMMAND = ("compare", *SMALL, *METHODS)


def started(folder, *words, **variables):
    """A command in a process of its own, with spies in it and in its workers; `records` in `folder` is where."""
    path = os.pathsep.join([str(ROOT / "tests" / "support" / "spied"), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "embpress.cli.main", *words, "--out", str(folder)],
        env={**os.environ, "PYTHONPATH": path, "TALLY": f"{folder}.tally", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder.parent,
    )


def done(process):
    """What it said, once it has ended."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def tally(folder):
    """How often each record was written."""
    with open(f"{folder}.tally") as lines:
        return Counter(line.strip() for line in lines)


def results(folder):
    """What of records does not depend on time, by id."""
    found = {}
    for path in sorted((folder / "records").glob("*.json")):
        record = json.loads(path.read_text())
        kept = {key: record[key] for key in ("status", "tables", "tuned", "latency_of_seed", "served", "by_frequency")}
        scores = {key: value for key, value in record["metrics"].items() if "auc" in key or "bytes" in key}
        scores.pop("peak_memory_bytes", None)
        predictions = path.with_suffix(".npy")
        kept["predictions"] = np.load(predictions).tobytes() if predictions.exists() else None
        found[path.stem] = {**kept, **scores}
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The runs of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    made = CliRunner().invoke(main, [*COMMAND, "--out", str(folder)])
    assert made.exit_code == 0, made.output
    return results(folder)


def needs(package):
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


@pytest.mark.parametrize(
    "place",
    [
        "local:2",
        pytest.param("ray:workers=2", marks=needs("ray")),
        pytest.param("slurm:cluster=local:workers=2", marks=needs("submitit")),
    ],
)
def test_two_workers_make_each_run_once_though_one_is_killed(place, alone, tmp_path):
    folder = tmp_path / "run"
    once = {"DIES": "hash", "ONCE": str(tmp_path / "died")}
    out, err = done(started(folder, *COMMAND, "--executor", place, **once))
    assert (tmp_path / "died").exists()
    assert results(folder) == alone
    assert tally(folder) == Counter(f"run/{name}" for name in alone)
    lines = [line for line in err.splitlines() if line.startswith("[")]
    assert {line.split("]")[0] for line in lines} == {f"[{i}/6" for i in range(1, 7)}
    assert len(lines) == 6
    assert "kept" not in err
    assert "--worker" not in out  # the command that is shown to be repeated is the user's
    assert sorted(path.name for path in folder.iterdir()) == ["plots", "records", "report.md"]


def test_workers_end_with_their_command_and_the_next_goes_on(alone, tmp_path):
    folder = tmp_path / "run"
    killed = started(folder, *COMMAND, "--executor", "local:2")
    deadline = time.monotonic() + 200
    while not list((folder / "records").glob("*.json")):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = len(tally(folder))
    while workers_of(folder):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    done(started(folder, *COMMAND, "--executor", "local:2"))
    assert results(folder) == alone
    assert set(tally(folder).values()) == {1}
    assert 1 <= before <= 6


def workers_of(folder):
    """Numbers of the processes that make runs of a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            said = path.read_bytes().split(b"\0")
            if b"--worker" in said and str(folder).encode() in said:
                found.append(int(path.parent.name))
    return found


def test_a_model_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text((ROOT / "tests" / "support" / "shop.py").read_text())
    words = ("compare", "--model", "mine:task", "--methods", "full,hash:ratio=4", "--seeds", "2", "--threads", "1")
    both = [started(tmp_path / "one", *words), started(tmp_path / "several", *words, "--executor", "local:2")]
    for each in both:
        done(each)
    assert results(tmp_path / "several") == results(tmp_path / "one")
    assert len(results(tmp_path / "one")) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--executor", "locl:2"], "there is no executor 'locl'; did you mean 'local'?"),
        (["--executor", "local:0"], "--executor local: workers"),
        (["--executor", "local:"], "says nothing after its colon; it is written local or local:4"),
        (["--executor", "slurm:workers"], "--executor slurm"),
        (["--worker", "mine"], "a session of workers is"),
    ],
)
def test_what_is_refused(words, said, tmp_path):
    made = CliRunner().invoke(main, [*COMMAND, *words, "--out", str(tmp_path / "run")])
    assert made.exit_code == 2
    assert said in " ".join(made.output.split())
    assert not (tmp_path / "run").exists()


def test_a_worker_with_other_data_says_so(tmp_path):
    words = [*COMMAND, "--worker", "mine:0:beef", "--out", str(tmp_path / "run")]
    made = CliRunner().invoke(main, words)
    assert made.exit_code == 2
    assert "a worker has other data or settings than its command" in " ".join(made.output.split())
