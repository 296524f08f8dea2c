"""The example runs as a user runs it, and does what its text says."""

import re
import subprocess
import sys
import textwrap
import types

from paths import ROOT


def test_plug_in():
    script = ROOT / "examples" / "plug_in.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "pooled rows: (2, 64)" in done.stdout
    ratio = float(re.search(r"([\d.]+) times smaller", done.stdout).group(1))
    assert 100 <= ratio < 101
    first, last = (float(x) for x in re.search(r"loss ([\d.]+) → ([\d.]+)", done.stdout).groups())
    assert last < 0.8 * first
    assert "under 200 rows" in done.stdout


def test_the_method_that_contributing_shows_passes_the_suite(monkeypatch):
    from embpress.compressors import registry
    from embpress.compressors.testing import PROMISES, subject_of

    text = (ROOT / "CONTRIBUTING.md").read_text()
    block = textwrap.dedent(re.search(r"\n( +)```python\n(.*?)\n +```", text, re.DOTALL).group(2))
    registry.available()
    monkeypatch.setattr(registry.METHODS, "known", dict(registry.METHODS.known))
    contributed = types.ModuleType("contributed")
    monkeypatch.setitem(sys.modules, "contributed", contributed)  # pickle looks the class up there
    exec(compile(block, "CONTRIBUTING.md", "exec"), contributed.__dict__)
    for spec in ("factors", "factors:k=8"):
        for check in PROMISES:
            check(subject_of(spec))
