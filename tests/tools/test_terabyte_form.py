"""The tool that makes data of Criteo Terabyte's form: what it prepares has the published tables."""

import subprocess
import sys

from paths import TOOLS

from embpress.compressors import TableCollection, TableConfig
from embpress.dlrm.bench.terabyte import TERABYTE_ROWS
from embpress.dlrm.data import load


def test_it_makes_days_and_a_folder_with_the_published_tables(tmp_path):
    command = [
        sys.executable,
        TOOLS / "terabyte_form",
        "--rows-per-day",
        "40",
        "--days",
        "3",
        "--gz",
        "--folder",
        tmp_path,
    ]
    out = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    assert "prepared: " in out
    assert [path.name for path in sorted((tmp_path / "days").iterdir())] == ["day_0.gz", "day_1.gz", "day_2.gz"]
    data = load(tmp_path / "prepared")
    assert tuple(data.num_embeddings) == TERABYTE_ROWS
    assert [len(data.train), len(data.valid), len(data.test)] == [80, 20, 20]
    assert sum(path.stat().st_blocks for path in (tmp_path / "prepared").rglob("*")) * 512 < 10e6  # zeros are holes
    tables = [TableConfig(n, 128) for n in data.num_embeddings]
    assert TableCollection.build(tables, "robe", ratio=1000, device="meta").full_bytes == 512 * 204_184_588
