"""Comparisons that are killed, workers too, end bit-equal; the tool that does it for long, here for a few kills."""

import json
import os
import subprocess
import sys

import pytest
from kill_runs.equal import differences
from paths import TOOLS

SMALL = ("--rows", "6000", "--scale", "0.001", "--min-count", "1", "--width", "8", "--min-rows", "20", "--threads", "1")
WORDS = (*SMALL, "--methods", "prune", "--ratio", "4", "--batch-size", "64", "--epochs", "6", "--keep-weights")


KILLS = [("2× command writing", "--kills", "2"), ("1× worker writing", "--kills", "1", "--executor", "local:2")]


@pytest.mark.parametrize("more", KILLS, ids=["alone", "workers"])
def test_a_few_kills(tmp_path, more):
    said, *more = more
    tool = ["-m", "kill_runs", "--folder", str(tmp_path / "made"), "--kinds", "writing", "--minutes", "0.001"]
    path = os.pathsep.join([str(TOOLS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *tool, *more, "--", *WORDS],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"{more[1]} kills, ")
    assert last.endswith(", 0 differences")
    assert " 0 times" not in last


def test_what_differs_is_seen(tmp_path):
    """So that equal folders mean something."""
    record = {"metrics": {"auc": 0.7, "step_ms": 1.0}, "learning_curve": [{"step": 1, "seconds": 2.0}], "resumed": 0}
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        (folder / "records").mkdir(parents=True)
        (folder / "records" / "x.json").write_text(json.dumps(record))
    assert differences(*folders) == []
    path = folders[1] / "records" / "x.json"
    path.write_text(json.dumps({**record, "metrics": {"auc": 0.7, "step_ms": 9.0}, "resumed": 3}))
    assert differences(*folders) == []
    path.write_text(json.dumps({**record, "metrics": {"auc": 0.70000001, "step_ms": 1.0}}))
    assert differences(*folders) == ["records/x.json: metrics"]
    (folders[1] / "partial").mkdir()
    (folders[1] / "partial" / "x.pt").touch()
    assert "partial/x.pt is in one of them only" in differences(*folders)
