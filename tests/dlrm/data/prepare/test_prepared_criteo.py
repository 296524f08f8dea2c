"""Prepared data are what `load` gives on the same files, bit for bit: raw Criteo."""

import polars as pl
import pytest
import torch
from criteo_lines import lines, write
from paths import REAL_DATA
from same_data import both

from embpress.compressors.errors import InputError
from embpress.dlrm.data import load
from embpress.dlrm.data.prepare.prepare import prepare
from embpress.dlrm.data.readers import chunks

REAL = REAL_DATA / "criteo_kaggle_10k"


@pytest.fixture(params=[900, 10**9], ids=["small blocks", "one block"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", request.param)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"split": "random", "split_seed": 3},
        {"min_count": 1, "number_ids": "random"},
        {"rows": 77, "min_count": 5},
        {"max_rows_per_table": 4},
        {"drop_negatives": 0.6, "rows": 60},
    ],
    ids=str,
)
def test_as_loaded(tmp_path, blocks, options):
    rows = lines(120)
    one, two = write(tmp_path / "a.txt", "".join(rows[:70])), write(tmp_path / "b.txt.gz", "".join(rows[70:]) + "\n\n")
    both([one, two], tmp_path / "cut off", **options)
    both([one], tmp_path / "own test", test=[two], **options)
    both([one], tmp_path / "halves", test=[two], **{**options, "split": "halves"})


def test_the_vocabulary_names_the_value_of_each_row(tmp_path, blocks):
    rows = lines(200)
    data = both([write(tmp_path / "a.txt", "".join(rows))], tmp_path / "to", min_count=1)
    ids = torch.cat([part.ids for part in (data.train, data.valid, data.test)]).tolist()
    for f in (0, 7):
        known = pl.read_parquet(tmp_path / "to" / "vocabulary" / f"{f}.parquet")["value"].to_list()
        assert len(known) == data.num_embeddings[f] - 1 == len(set(known))
        for row, text in zip(ids, rows):
            value = text.rstrip("\n").split("\t")[14 + f]
            assert row[f] == (known.index(value) + 1 if value in known else 0)


@pytest.mark.parametrize(("line", "text"), [(40, "2"), (1, "x"), (77, "1\t5")])
def test_a_bad_line_is_named_as_by_load_and_nothing_stays(tmp_path, blocks, line, text):
    rows = lines(80)
    rows[line - 1] = text + rows[line - 1][1:]
    path = write(tmp_path / "a.txt", "".join(rows))
    with pytest.raises(InputError) as loaded:
        load([path])
    with pytest.raises(InputError) as prepared:
        prepare([path], tmp_path / "to")
    assert str(prepared.value) == str(loaded.value)
    assert f"line {line}:" in str(loaded.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no {REAL}")
def test_real_data(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 300_000)
    both([REAL / "train.txt"], tmp_path / "to", test=[REAL / "test.txt"])


def test_bytes_that_are_no_text_are_named_by_their_line(tmp_path, blocks):
    rows = [row.encode() for row in lines(60)]
    rows[49] = rows[49][:-3] + b"\xff\n"
    (tmp_path / "a.txt").write_bytes(b"".join(rows))
    with pytest.raises(InputError, match="line 50: the text is not UTF-8"):
        prepare([tmp_path / "a.txt"], tmp_path / "to", format="criteo")
