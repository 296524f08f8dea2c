"""Columns with more values than so many bits have rows by their hashes; the others are numbered as ever."""

import polars as pl
import pytest
import torch
from criteo_lines import lines, write

from embpress.compressors.errors import InputError
from embpress.dlrm.data import load
from embpress.dlrm.data.prepare.prepare import prepare
from embpress.dlrm.data.readers import chunks

BITS = 5


def ids_of(data):
    return torch.cat([part.ids for part in (data.train, data.valid, data.test)])


def values(rows):
    return [row.rstrip("\n").split("\t")[14:] for row in rows]


@pytest.fixture
def both(tmp_path, monkeypatch):
    """Rows, and the data with columns of many values hashed: read in many blocks and in one."""
    rows = []
    for row in lines(300):
        columns = row.rstrip("\n").split("\t")
        columns[14::2] = [text[-1:] for text in columns[14::2]]  # every second column has few values
        rows.append("\t".join(columns) + "\n")
    path, found = write(tmp_path / "a.txt", "".join(rows)), []
    for size in (3000, 10**9):
        monkeypatch.setattr(chunks, "CHUNK_BYTES", size)
        found.append(load(prepare([path], tmp_path / str(size), hash_ids=BITS, min_count=1)))
    return rows, load([path], min_count=1), *found


def test_a_value_has_one_row_whatever_the_blocks_and_missing_ones_row_0(both):
    rows, plain, data, other = both
    assert data.fingerprint == other.fingerprint
    ids = ids_of(data)
    columns = list(zip(*values(rows)))
    several = [f for f, column in enumerate(columns) if len({value for value in column if value}) > 2**BITS]
    assert data.about["hashed"] == [data.features[f] for f in several]
    assert several == list(range(1, 26, 2))
    for f in range(26):
        if f not in several:
            assert torch.equal(ids[:, f], ids_of(plain)[:, f])
            continue
        assert data.num_embeddings[f] == 2**BITS + 1
        rows_of = {}
        for value, row in zip(columns[f], ids[:, f].tolist()):
            assert rows_of.setdefault(value, row) == row
            assert (row == 0) == (value == "")
        assert len(set(rows_of.values())) > 2**BITS / 2  # they do not fall together
        trained = data.train.ids[:, f].long()
        assert torch.equal(data.counts[f], torch.bincount(trained, minlength=2**BITS + 1))


def test_csv_and_lists(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 500)
    table = pl.DataFrame(
        {
            "click": [i % 2 for i in range(200)],
            "id": [str(i * i % 97) for i in range(200)],
            "bag": [f"[{i % 61}, {i % 53}]" for i in range(200)],
            "few": [i % 5 for i in range(200)],
        }
    )
    table.write_csv(tmp_path / "a.csv")
    data = load(prepare([tmp_path / "a.csv"], tmp_path / "to", hash_ids=4, split="order", min_count=1))
    assert data.about["hashed"] == ["id", "bag"]
    assert data.num_embeddings == [17, 17, 6]
    assert len(data.train.bags[1].values) == 2 * len(data.train)
    assert data.test.bags[1].values.min() >= 1
    rows_of = {}
    for value, row in zip(table["id"], ids_of(data)[:, 0].tolist()):
        assert rows_of.setdefault(value, row) == row


def test_bits_that_cannot_be_are_refused(tmp_path):
    path = write(tmp_path / "a.txt", "".join(lines(60)))
    with pytest.raises(InputError, match="hash_ids is 31, but it must be"):
        prepare([path], tmp_path / "to", hash_ids=31)
    with pytest.raises(InputError, match="tables of 5 rows, but max_rows_per_table is 4; give fewer bits"):
        prepare([path], tmp_path / "to", hash_ids=2, max_rows_per_table=4)
    assert max(load(prepare([path], tmp_path / "to", hash_ids=2, max_rows_per_table=5)).num_embeddings) == 5
