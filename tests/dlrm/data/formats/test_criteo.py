"""Raw Criteo files, against plain Python."""

import gzip
import math
import random
from collections import Counter

import pytest
import torch
from paths import REAL_DATA

from embpress.compressors.errors import InputError
from embpress.dlrm.data import load

REAL = REAL_DATA / "criteo_kaggle_10k"


def make_rows(n, seed=0):
    rng = random.Random(seed)
    integers = lambda: "" if rng.random() < 0.2 else str(rng.randrange(-2, 500))  # noqa: E731
    category = lambda: "" if rng.random() < 0.1 else f"{int(rng.paretovariate(0.7)):08x}"  # noqa: E731
    return [[str(i % 2), *(integers() for _ in range(13)), *(category() for _ in range(26))] for i in range(n)]


def write(path, rows, end="\n"):
    text = "".join("\t".join(row) + end for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def everything(data, name):
    return torch.cat([getattr(p, name) for p in (data.train, data.valid, data.test)])


def test_against_plain_python(tmp_path):
    rows = make_rows(200)
    data = load([write(tmp_path / "day.txt", rows)])
    assert data.format == "criteo"
    assert [len(p) for p in (data.train, data.valid, data.test)] == [144, 16, 40]
    assert data.dense_names == [f"I{k}" for k in range(1, 14)]
    assert data.features == [f"C{k}" for k in range(1, 27)]
    assert everything(data, "labels").tolist() == [float(r[0]) for r in rows]
    dense = [[math.log1p(max(0, int(v))) if v else 0.0 for v in r[1:14]] for r in rows]
    torch.testing.assert_close(everything(data, "dense"), torch.tensor(dense))
    ids = everything(data, "ids")
    for f in range(26):
        column = [r[14 + f] for r in rows]
        # falling frequency, ties in order of first appearance
        known = [v for v, n in Counter(v for v in column[:144] if v).most_common() if n >= 2]
        assert ids[:, f].tolist() == [known.index(v) + 1 if v in known else 0 for v in column]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_several_files_plain_and_gzip_are_one(tmp_path, end):
    rows = make_rows(90)
    whole = load([write(tmp_path / "all.txt", rows)])
    parts = [write(tmp_path / "ä b*.txt", rows[:30], end), write(tmp_path / "2.txt.gz", rows[30:], end)]
    data = load(parts)
    assert data.fingerprint == whole.fingerprint
    assert data.about["files"] == [str(p) for p in parts]
    assert load([parts[0], parts[1]], rows=50).fingerprint == load([tmp_path / "all.txt"], rows=50).fingerprint


def test_test_files_are_the_test_part(tmp_path):
    rows = make_rows(100)
    first, last = write(tmp_path / "a.txt", rows[:80]), write(tmp_path / "b.txt", rows[80:])
    data = load([first], test=[last])
    assert data.fingerprint == load([first, last]).fingerprint
    assert data.about["split"] == "test files"
    assert data.about["test_files"] == [str(last)]


def replaced(rows, line, column, value):
    rows = [list(r) for r in rows]
    rows[line - 1][column] = value
    return rows


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda r: [*r[:6], r[6][:-1], *r[7:]], ["line 7", "found 39", "expected 40"]),
        (lambda r: [*r[:6], [*r[6], "x"], *r[7:]], ["line 7", "found 41", "expected 40"]),
        (lambda r: [*r[:6], [], *r[6:]], ["line 7", "expected 40"]),
        (lambda r: replaced(r, 5, 0, "2"), ["line 5", "label is '2'", "0 or 1"]),
        (lambda r: replaced(r, 5, 0, "-1"), ["line 5", "label is '-1'"]),
        (lambda r: replaced(r, 5, 0, ""), ["line 5", "label is ''"]),
        (lambda r: replaced(r, 5, 0, "yes"), ["line 5", "label is 'yes'"]),
        (lambda r: replaced(r, 9, 3, "many"), ["line 9", "column I3", "'many'"]),
        (lambda r: replaced(r, 9, 13, "1.5"), ["line 9", "column I13", "'1.5'"]),
        (lambda r: replaced(r, 9, 1, "9" * 30), ["line 9", "column I1"]),
    ],
)
def test_bad_lines_are_named(tmp_path, change, parts):
    good = write(tmp_path / "good.txt", make_rows(30))
    bad = write(tmp_path / "bad.txt", change(make_rows(30)))
    with pytest.raises(InputError) as e:
        load([good, bad], format="criteo")
    assert all(part in str(e.value) for part in [*parts, "bad.txt"]), str(e.value)
    assert "\n" not in str(e.value)


def test_quotes_and_unicode_are_plain_values(tmp_path):
    rows = make_rows(60)
    for row in rows:
        row[14] = '"ключ'
    data = load([write(tmp_path / "a.txt", rows)])
    assert data.num_embeddings[0] == 2
    assert data.row0_share[0] == 0.0


def test_other_formats_options_are_refused(tmp_path):
    with pytest.raises(InputError, match="criteo has no option 'label'; it belongs to csv, parquet"):
        load([write(tmp_path / "a.txt", make_rows(60))], label="x")


def test_real_sample():
    if not REAL.exists():
        pytest.skip(f"{REAL} is absent: the public Criteo sample is not part of the project")
    import pandas as pd

    data = load([REAL / "train.txt"], test=[REAL / "test.txt"])
    assert [len(p) for p in (data.train, data.valid, data.test)] == [7200, 800, 2000]
    assert data.about["label_mean"] == pytest.approx(0.218, abs=5e-4)
    assert sum(data.num_embeddings) == pytest.approx(10_019, abs=20)
    train, test = (pd.read_csv(REAL / n, sep="\t", header=None, dtype=str) for n in ("train.txt", "test.txt"))
    for f in range(26):
        counts = train[14 + f][:7200].value_counts()  # the last tenth is validation
        known = counts[counts >= 2].index
        assert data.num_embeddings[f] == len(known) + 1
        assert data.row0_share[f] == pytest.approx(1 - test[14 + f].isin(known).mean())


def test_negatives_are_dropped_and_no_click_is(tmp_path):
    rows = make_rows(3000)
    whole = load([write(tmp_path / "a.txt", rows)], split="order")
    fewer = load([tmp_path / "a.txt"], drop_negatives=0.875)
    labels = everything(fewer, "labels")
    assert int(labels.sum()) == int(everything(whole, "labels").sum()) == 1500
    assert abs(int((labels == 0).sum()) - 1500 / 8) < 45  # 3.5 standard deviations
    # each by its number alone, in files cut elsewhere too
    parts = [write(tmp_path / "1.txt", rows[:700]), write(tmp_path / "2.txt", rows[700:])]
    assert load(parts, drop_negatives=0.875).fingerprint == fewer.fingerprint
    with pytest.raises(InputError, match="drop_negatives is 1, but"):
        load(parts, drop_negatives=1)


def test_the_most_frequent_ids_of_a_large_table_have_a_row(tmp_path):
    path = write(tmp_path / "a.txt", make_rows(400))
    free, capped = load([path]), load([path], max_rows_per_table=5)
    assert capped.num_embeddings == [min(5, n) for n in free.num_embeddings]
    before, after = everything(free, "ids"), everything(capped, "ids")
    assert torch.equal(after, torch.where(before < 5, before, 0))
    with pytest.raises(InputError, match="max_rows_per_table is 0"):
        load([path], max_rows_per_table=0)
