"""The tool that trains in one process and in several: what it says of runs that are given, and that it runs."""

import subprocess
import sys

import pytest
import two_ranks
from paths import TOOLS


@pytest.mark.skipif(not two_ranks.available(), reason="torch has no gloo here")
def test_it_trains_both_and_compares_them(tmp_path):
    words = [
        "--methods",
        "hash,full-tbe",
        "--folder",
        tmp_path,
        "--",
        "--rows",
        "3000",
        "--scale",
        "0.001",
        "--ratio",
        "2",
    ]
    command = [sys.executable, TOOLS / "processes", *words]
    out = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    head, *lines = out.splitlines()
    assert head.split()[0] == "method"
    rows = {line.split()[0]: line for line in lines}
    _, one, two, difference, *_, sent = rows["hash"].split()
    assert abs(float(one) - float(two)) < 1e-4
    assert float(difference) < 1e-4
    assert int(sent.replace(",", "")) > 0
    assert "full-tbe" in rows["full-tbe"]
    assert "failed: " in rows["full-tbe"]
