"""`--processes` and torchrun: one run in two processes, what its record says, what is refused, who dies."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import two_ranks
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.dlrm.runs.store import read_all

pytestmark = pytest.mark.skipif(not two_ranks.available(), reason="torch has no gloo here")
SMALL = ("--rows", "4000", "--scale", "0.001", "--min-count", "1", "--threads", "1")
EMBPRESS = (sys.executable, "-m", "embpress.cli.main")


def compare(*words, launcher=EMBPRESS, **environment):
    return subprocess.Popen(
        [*launcher, "compare", *SMALL, *words],
        env={**os.environ, "EMBPRESS_TIMEOUT": "60", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Run folders of one process and of two, and what the latter printed."""
    one, two = (tmp_path_factory.mktemp("runs") / name for name in ("one", "two"))
    methods = ("--methods", "full,qr:c=4,full-tbe")
    done = compare(*methods, "--processes", "2", "--out", str(two))
    assert CliRunner().invoke(main, ["compare", *SMALL, *methods, "--out", str(one)]).exit_code == 0
    said, wrong = done.communicate(timeout=300)
    assert done.returncode == 0, wrong
    return one, two, said


def test_two_processes_give_the_scores_of_one(folders):
    one, two, _ = folders
    alone, together = ({run.name: run for run in read_all(folder)} for folder in (one, two))
    assert alone.keys() == together.keys()
    for name in ("full", "qr"):
        ours, theirs = together[name], alone[name]
        assert ours.metrics["auc"] == pytest.approx(theirs.metrics["auc"], abs=1e-4)
        assert ours.metrics.keys() - theirs.metrics.keys() == {"wire_bytes_per_step"}
        assert ours.training == {**theirs.training, "processes": 2}
        assert "processes" not in theirs.training
        assert ours.id != theirs.id
        assert ours.command.endswith(f"--processes 2 --out {two}")


def test_bytes_on_the_wire_are_those_of_the_gradients(folders):
    """In two processes a sum sends what is summed: the MLPs' gradients and the loss, and at most the tables'."""
    _, two, _ = folders
    run = next(run for run in read_all(two) if run.name == "full")
    widths = [(1 + 13, 64), (1 + 64, 16), (1 + 16 + 27 * 26 // 2, 128), (1 + 128, 64), (1 + 64, 1)]
    dense = 4 * sum(a * b for a, b in widths)
    tables = run.metrics["full_bytes"]
    sent = run.metrics["wire_bytes_per_step"]
    assert dense + 4 < sent <= dense + 4 + 8 * len(run.tables) + tables * 17 / 16


def test_what_updates_itself_is_a_row_that_says_so(folders):
    _, two, said = folders
    run = next(run for run in read_all(two) if run.name == "full-tbe")
    assert run.status == "failed"
    assert "full-tbe" in run.reason
    assert "in 2 processes" in said
    assert said.count("full-tbe: failed") == 1  # one process speaks


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["--executor", "local:2"], "--executor does not go with several processes"),
        (["--dry-run"], "--dry-run does not go with several processes"),
        (["--model", "shop:task"], "--model shop:task does not go with several processes"),
        (["--methods", "ful"], "did you mean 'full'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_process_starts(words, wrong):
    done = CliRunner().invoke(main, ["compare", "--processes", "2", *words])
    assert done.exit_code == 2
    assert wrong in done.output


def test_more_processes_than_the_cores_can_serve_are_refused_before_any_starts(monkeypatch):
    monkeypatch.setattr("embpress.dlrm.distributed.launch.launch", lambda *_: pytest.fail("it starts them"))
    for asked in ("5000", str(4 * os.cpu_count() + 1)):
        done = CliRunner().invoke(main, ["compare", "--processes", asked])
        assert done.exit_code == 2
        assert f"--processes is {asked}, but it must be a whole number between 1 and " in done.output


def test_another_number_than_torchrun_started_is_refused(monkeypatch):
    given = {"MASTER_ADDR": "localhost", "RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "3"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(main, ["compare", "--processes", "2"])
    assert done.exit_code == 2
    assert "--processes 2, but torchrun has started 3" in done.output


def test_a_mistake_is_one_sentence_of_one_process(tmp_path):
    done = compare(str(tmp_path / "none.csv"), "--processes", "2")
    said, wrong = done.communicate(timeout=120)
    assert (done.returncode, said) == (2, "")
    assert [line for line in wrong.splitlines() if "none.csv" in line] == [wrong.splitlines()[-1]]
    assert "Traceback" not in wrong


def test_what_is_said_of_the_files_one_process_says(tmp_path):
    days = [str(tmp_path / f"day_{day}.csv") for day in (1, 10, 2)]
    _, wrong = compare(*days, "--processes", "2").communicate(timeout=120)
    assert wrong.count("files are read in the order given: day_1.csv, day_10.csv, day_2.csv") == 1
    assert "day_1.csv does not exist" in wrong.splitlines()[-1]


def ranks_of(command):
    """The processes of a launcher by rank, as Linux tells."""
    found = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/environ") as environ:
                parent = int(stat.read().rpartition(")")[2].split()[1])
                variables = dict(pair.split("=", 1) for pair in environ.read().split("\0") if "=" in pair)
        except OSError:
            continue
        if parent == command.pid and "RANK" in variables:
            found[int(variables["RANK"])] = int(pid)
    return found


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="processes are found by /proc, which is not here")
@pytest.mark.parametrize("dies", [0, 1])
def test_a_process_that_dies_is_named_in_the_record(tmp_path, dies):
    done = compare("--methods", "full", "--epochs", "10000", "--processes", "2", "--out", str(tmp_path))
    claims, end = tmp_path / "claims", time.monotonic() + 120
    while not (claims.is_dir() and any(claims.iterdir())) and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(2)  # it trains
    process = ranks_of(done)[dies]
    os.kill(process, signal.SIGKILL)
    _, wrong = done.communicate(timeout=90)
    assert done.returncode == 1
    (path,) = (tmp_path / "records").glob("full-*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "failed"
    assert record["reason"].startswith(f"the process of rank {dies} (process {process} on ")
    assert record["reason"].endswith(" died")
    assert f"rank {dies}" in wrong
    assert "Traceback" not in wrong
