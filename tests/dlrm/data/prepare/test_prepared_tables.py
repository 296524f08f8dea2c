"""Prepared data are what `load` gives on the same files, bit for bit: csv and parquet."""

import gzip
import random

import polars as pl
import pytest
from paths import REAL_DATA
from same_data import both

from embpress.compressors.errors import InputError
from embpress.dlrm.data import load
from embpress.dlrm.data.prepare.prepare import prepare
from embpress.dlrm.data.prepare.sources import tables
from embpress.dlrm.data.readers import chunks

REAL = REAL_DATA / "kdd12_click_small/Click_prediction_small.csv"


@pytest.fixture(params=[1, 10**6], ids=["small blocks", "one block"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 700 * request.param)
    monkeypatch.setattr(tables, "PARQUET_ROWS", 7 * request.param)


def frame(n, seed=0):
    rng = random.Random(seed)
    sometimes = lambda value, other=None: other if rng.random() < 0.2 else value  # noqa: E731
    return pl.DataFrame(
        {
            "click": [rng.randrange(2) for _ in range(n)],
            "price": [sometimes(rng.random() * 10 - 1) for _ in range(n)],
            "zero": [rng.choice([0.0, -0.0, 1.5]) for _ in range(n)],
            "user": [sometimes(rng.randrange(9)) for _ in range(n)],
            "whole": [sometimes(float(rng.randrange(6))) for _ in range(n)],
            "big": [sometimes(2**62 + rng.randrange(4)) for _ in range(n)],
            "place": [sometimes(rng.choice(["Köln", "東京", "a,b", 'say "x"\nagain', "plain"])) for _ in range(n)],
            "short": [sometimes(rng.choice(["a", "b", "", "12345678"])) for _ in range(n)],
        }
    )


GIVEN = {"label": "click", "dense": ["price", "zero"], "sparse": ["user", "whole", "big", "place", "short"]}
OPTIONS = [{}, {"split": "order", "min_count": 1}, {"dense": ["price"], "number_ids": "random"}, GIVEN, {"rows": 31}]


@pytest.mark.parametrize("options", OPTIONS, ids=["guessed", "order", "dense alone", "given", "rows"])
@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_as_loaded(tmp_path, blocks, ending, options):
    paths = []
    for number, rows in enumerate((60, 43)):
        path = tmp_path / f"{number}[*].{ending}"
        made = frame(rows, seed=number)
        if number:
            made = made.select(reversed(made.columns))  # by name, not by place
        if ending == "parquet":
            made.write_parquet(path, row_group_size=16)
        else:
            text = made.write_csv().encode() + b"\n"
            path.write_bytes(gzip.compress(text) if ending == "csv.gz" else text)
        paths.append(path)
    both(paths, tmp_path / "cut off", **options)
    both(paths[:1], tmp_path / "own test", test=paths[1:], **options)


def test_text_that_is_ids_or_numbers_by_all_its_values(tmp_path, blocks):
    rows = 60
    # the last value decides what the column is, far from the first block
    columns = {
        "label": ["-1", "1"] * (rows // 2),
        "ids": [f"{i % 5}.0" if i % 2 else str(i % 5) for i in range(rows)],
        "text": [f"{i % 5}.0" if i % 2 else str(i % 5) for i in range(rows - 1)] + ["x"],
        "dense": [str(i % 5) for i in range(rows - 1)] + ["0.5"],
        "long": [str(i % 5) for i in range(rows - 2)] + ["0.5", "1234567890123456"],
    }
    pl.DataFrame(columns).write_csv(tmp_path / "a.csv")
    guessed = both([tmp_path / "a.csv"], tmp_path / "guessed")
    assert guessed.dense_names == ["ids", "dense"]
    data = both([tmp_path / "a.csv"], tmp_path / "to", dense=["dense"], min_count=1, split="order")
    assert data.features == ["ids", "text", "long"]
    assert data.num_embeddings == [6, 11, 6]


@pytest.mark.parametrize(
    "lists",
    [
        ["[1, 5, 7]", "[]", "[ 5 ]", None, "[7,1]"],
        ['["a", "b,c"]', "[null]", '["a"]', "[]", '["d", 5]'],
        ["[3]", "[3]", "[4]", "[4]", "[3]"],
    ],
    ids=["numbers", "json", "one each"],
)
def test_lists_as_text_and_as_lists(tmp_path, blocks, lists):
    rng = random.Random(1)
    table = pl.DataFrame(
        {
            "click": [i % 2 for i in range(80)],
            "bag": [rng.choice(lists) for _ in range(80)],
            "id": [i % 7 for i in range(80)],
        }
    )
    table.write_csv(tmp_path / "a.csv")
    data = both([tmp_path / "a.csv"], tmp_path / "text", min_count=1)
    assert list(data.train.bags) == [0]
    values = table["bag"].str.json_decode(pl.List(pl.String))
    table.with_columns(bag=values).write_parquet(tmp_path / "a.parquet")
    listed = both([tmp_path / "a.parquet"], tmp_path / "lists", min_count=1)
    assert listed.fingerprint == data.fingerprint


def test_other_types(tmp_path, blocks):
    n = 40
    table = pl.DataFrame(
        {
            "click": [bool(i % 2) for i in range(n)],
            "day": pl.Series(range(0, 3 * n, 3)) % 7,
            "kind": [["a", "b"][i % 3 == 0] for i in range(n)],
            "pair": [[i % 3, i % 4] for i in range(n)],
            "amount": [f"{i % 5}.25" for i in range(n)],
            "none": pl.Series([None] * n, dtype=pl.Int8),
        }
    ).with_columns(
        pl.col("day").cast(pl.Date), pl.col("kind").cast(pl.Categorical), pl.col("pair").cast(pl.Array(pl.Int64, 2)),
        pl.col("amount").cast(pl.Decimal(10, 2)), small=pl.col("day").cast(pl.Int128), yes=pl.col("day") > 3,
    )  # fmt: skip
    table.write_parquet(tmp_path / "a.parquet", row_group_size=9)
    data = both([tmp_path / "a.parquet"], tmp_path / "to", min_count=1)
    assert list(data.train.bags) == [data.features.index("pair")]
    # files of different but related types are one
    table.with_columns(pl.col("click").cast(pl.Int8)).write_parquet(tmp_path / "b.parquet")
    table.with_columns(pl.col("click").cast(pl.Int64)).write_parquet(tmp_path / "c.parquet")
    both([tmp_path / "b.parquet", tmp_path / "c.parquet"], tmp_path / "two", label="click")


BAD = [
    ({"click": "2"}, {}),
    ({"click": ""}, {"label": "click"}),
    ({"price": "cheap"}, {"dense": ["price"]}),
    ({"price": "inf"}, {"dense": ["price"]}),
    ({"bag": "[[1]]"}, {}),
    ({}, {"label": "clock"}),
    ({}, {"dense": ["price"], "sparse": ["price"]}),
    ({"id": "1,2"}, {}),
    ({"id": "1\r2"}, {}),
]


@pytest.mark.parametrize(("change", "options"), BAD, ids=str)
def test_refused_as_by_load(tmp_path, blocks, change, options):
    rows = [{"click": str(i % 2), "price": f"{i % 9}.5", "bag": f"[{i % 3}]", "id": str(i % 5)} for i in range(150)]
    rows[110] |= change
    path = tmp_path / "a.csv"
    quoted = lambda text: f'"{text}"' if text[:1] == "[" else text  # noqa: E731
    path.write_bytes("\n".join(["click,price,bag,id", *(",".join(map(quoted, row.values())) for row in rows)]).encode())
    sentences = []
    for call in (load, lambda paths, **options: prepare(paths, tmp_path / "to", **options)):
        with pytest.raises(InputError) as error:
            call([path], **options)
        sentences.append(str(error.value))
    assert sentences[0] == sentences[1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("rows", [29, 30, 31, 32, None])
def test_a_blank_line_is_refused_as_by_load_where_rows_follow_it(tmp_path, blocks, rows):
    path = tmp_path / "a.csv"
    lines = ["click,id", *(f"{i % 2},{i % 5}" for i in range(200))]
    path.write_text("\n".join([*lines[:31], "", *lines[31:], "", ""]))
    if rows is not None and rows <= 31:  # the blank line is the 31st after the header, and the last that is read
        assert len(both([path], tmp_path / "to", rows=rows, split="order").test) == min(rows, 30) // 5
        return
    for call in (load, lambda paths, **options: prepare(paths, tmp_path / "to", **options)):
        with pytest.raises(InputError, match="line 32: found a blank line, expected 2 fields"):
            call([path], rows=rows)


@pytest.mark.parametrize("value", [{"a": 1}, [[1]], b"x"], ids=["struct", "list of lists", "binary"])
def test_types_that_are_no_ids_are_refused_as_by_load(tmp_path, blocks, value):
    pl.DataFrame({"click": [0, 1] * 20, "id": range(40), "odd": [value] * 40}).write_parquet(tmp_path / "a.parquet")
    for options in ({}, {"dense": ["odd"]}, {"label": "odd"}):
        with pytest.raises(InputError) as loaded:
            load([tmp_path / "a.parquet"], **options)
        with pytest.raises(InputError) as prepared:
            prepare([tmp_path / "a.parquet"], tmp_path / "to", **options)
        assert str(prepared.value) == str(loaded.value)


@pytest.mark.skipif(not REAL.is_file(), reason=f"no {REAL}")
def test_real_data(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 400_000)
    both([REAL], tmp_path / "to", label="click")
