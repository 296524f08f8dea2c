"""Where things lie: the checkout, and data that are no part of it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tests" / "tools"
# real click data beside the checkout; what needs them skips where they are absent
REAL_DATA = ROOT.parent / "shared" / "data"
