"""The example runs as a user runs it, and does what its text says."""

import re
import subprocess
import sys
from pathlib import Path


def test_plug_in():
    script = Path(__file__).parents[1] / "examples" / "plug_in.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "pooled rows: (2, 64)" in done.stdout
    ratio = float(re.search(r"([\d.]+) times smaller", done.stdout).group(1))
    assert 100 <= ratio < 101
    first, last = (float(x) for x in re.search(r"loss ([\d.]+) → ([\d.]+)", done.stdout).groups())
    assert last < 0.8 * first
    assert "under 200 rows" in done.stdout
