"""The tool that times the preparing of data: its files are of Criteo's form, and it says what it measures."""

import subprocess
import sys

from paths import TOOLS

from embpress.dlrm.data import load
from embpress.dlrm.data.readers.synthetic import CRITEO_SIZES


def test_it_makes_a_file_and_times_both(tmp_path):
    command = [sys.executable, TOOLS / "prepare_speed", "--rows", "3000", "--repeats", "1", "--folder", tmp_path]
    out = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    assert "peak memory of prepare: " in out
    data = load(tmp_path / "criteo-3000.txt", min_count=1)
    assert data.format == "criteo"
    assert 0.2 < data.about["label_mean"] < 0.3
    for size, rows in zip(CRITEO_SIZES, data.num_embeddings):
        assert rows <= size + 1  # row 0 is ours
    assert max(data.num_embeddings) > 500
