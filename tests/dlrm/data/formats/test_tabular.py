"""Csv and parquet files: columns, values, bags, messages."""

import gzip
import math
import random
from collections import Counter

import pandas as pd
import polars as pl
import pytest
import torch
from paths import REAL_DATA

from embpress.compressors.errors import InputError
from embpress.dlrm.data import load

REAL = REAL_DATA / "kdd12_click_small/Click_prediction_small.csv"


def frame(n=60, seed=0):
    rng = random.Random(seed)
    return pl.DataFrame(
        {
            "click": [i % 2 for i in range(n)],
            "price": [rng.random() * 10 - 1 for _ in range(n)],
            "user": [rng.randrange(9) for _ in range(n)],
            "stadt": [rng.choice(["Köln", "東京", "a,b", 'say "x"', None]) for _ in range(n)],
        }
    )


def everything(data, name):
    return torch.cat([getattr(p, name) for p in (data.train, data.valid, data.test)])


def lists_of(data, f):
    out = []
    for part in (data.train, data.valid, data.test):
        bags = part.bags[f]
        out += [bags.values[a:b].tolist() for a, b in zip(bags.offsets[:-1], bags.offsets[1:])]
    return out


def put(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def message(*paths, **options):
    with pytest.raises(InputError) as e:
        load(paths, **options)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_values_and_guessed_columns(tmp_path):
    df = frame()
    df.write_csv(tmp_path / "ä.csv")
    data = load([tmp_path / "ä.csv"], split="order", min_count=1)
    assert data.about["columns"] == {
        "label": "click",
        "dense": ["price"],
        "sparse": ["user", "stadt"],
        "guessed": ["label", "dense", "sparse"],
    }
    assert everything(data, "labels").tolist() == df["click"].to_list()
    dense = [math.log1p(max(0.0, v)) for v in df["price"]]
    torch.testing.assert_close(everything(data, "dense")[:, 0], torch.tensor(dense))
    for f, name in enumerate(("user", "stadt")):
        column = df[name].to_list()
        # falling frequency, ties in order of first appearance
        known = [v for v, _ in Counter(v for v in column[:44] if v is not None).most_common()]
        assert everything(data, "ids")[:, f].tolist() == [known.index(v) + 1 if v in known else 0 for v in column]


def test_the_index_of_a_data_frame_is_no_feature(tmp_path):
    pd.DataFrame(frame().to_dict(as_series=False)).to_csv(tmp_path / "index.csv")
    for given in ({}, {"label": "click", "dense": ["price"]}):
        data = load([tmp_path / "index.csv"], split="order", min_count=1, **given)
        assert data.about["columns"]["sparse"] == ["user", "stadt"]
    named = load([tmp_path / "index.csv"], split="order", min_count=1, label="click", sparse=[""])
    assert named.about["columns"]["sparse"] == [""]


def test_csv_gzip_parquet_and_several_files_agree(tmp_path):
    df = frame(80)
    df.write_csv(tmp_path / "a.csv")
    df.write_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    df[:30].write_csv(tmp_path / "1.csv")
    df[30:].select("user", "click", "stadt", "price").write_csv(tmp_path / "2.csv")  # another order of columns
    (tmp_path / "crlf.csv").write_bytes((tmp_path / "a.csv").read_bytes().replace(b"\n", b"\r\n"))
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.csv").read_bytes() + b"\n")
    expected = load([tmp_path / "a.csv"]).fingerprint
    for names in (["a.parquet"], ["a.csv.gz"], ["1.csv", "2.csv"], ["crlf.csv"], ["bom.csv"]):
        assert load([tmp_path / name for name in names]).fingerprint == expected, names
    part = load([tmp_path / "1.csv"], test=[tmp_path / "2.csv"])
    assert [len(p) for p in (part.train, part.valid, part.test)] == [27, 3, 50]
    assert part.about["split"] == "test files"
    assert load([tmp_path / "a.csv"], rows=40).fingerprint == load([tmp_path / "a.parquet"], rows=40).fingerprint
    assert load([tmp_path / "1.csv", tmp_path / "2.csv"], rows=40).fingerprint == (
        load([tmp_path / "a.csv"], rows=40).fingerprint
    )


def test_roles_given(tmp_path):
    frame().write_csv(tmp_path / "a.csv")
    path = tmp_path / "a.csv"
    columns = load([path], dense=["user"]).about["columns"]
    assert (columns["dense"], columns["sparse"], columns["guessed"]) == (["user"], ["price", "stadt"], ["label"])
    columns = load([path], label="click", sparse=["user"]).about["columns"]
    assert (columns["dense"], columns["sparse"], columns["guessed"]) == ([], ["user"], [])
    assert load([path], dense=["user"], sparse=["stadt"]).about["columns"]["sparse"] == ["stadt"]


def test_quoted_and_huge_ids(tmp_path):
    ids = [17363854844105064448 + k % 3 for k in range(40)]
    path = put(tmp_path / "a.csv", '"Target","h"\n' + "".join(f'"{k % 2}",{v}\n' for k, v in enumerate(ids)))
    data = load([path], split="order")
    assert data.about["columns"]["label"] == "Target"
    assert data.num_embeddings == [4]
    assert everything(data, "ids")[:, 0].tolist() == [k % 3 + 1 for k in range(40)]
    mixed = put(tmp_path / "b.csv", "y,h\n" + "".join(f"{k % 2},{v if k % 9 else 1.7e19}\n" for k, v in enumerate(ids)))
    assert load([mixed]).about["columns"]["sparse"] == ["h"]  # not a float column, though some ids were written as one
    pl.DataFrame({"y": [k % 2 for k in range(40)], "h": ids}, schema={"y": pl.Int8, "h": pl.UInt64}).write_parquet(
        tmp_path / "a.parquet"
    )
    assert load([tmp_path / "a.parquet"], split="order").fingerprint == data.fingerprint


@pytest.mark.parametrize(
    "values", [[0, 1], [-1, 1], ["0", "1"], [False, True], [0.0, 1.0], ["-1", "+1"], ["false", "True"], [-1.0, 1.0]]
)
def test_label_spellings(tmp_path, values):
    df = pl.DataFrame({"label": values * 20, "a": [1, 1, 2, 2] * 10})
    df.write_parquet(tmp_path / "a.parquet")
    df.write_csv(tmp_path / "a.csv")
    for name in ("a.parquet", "a.csv"):
        assert everything(load([tmp_path / name], split="order"), "labels").tolist() == [0.0, 1.0] * 20


def test_whole_floats_are_the_ids_they_stand_for(tmp_path):
    csv = put(tmp_path / "a.csv", "y,a\n" + "0,3.0\n1,3\n0,7.0\n1,\n" * 10)
    data = load([csv], sparse=["a"], split="order")
    assert everything(data, "ids")[:, 0].tolist() == [1, 1, 2, 0] * 10
    pl.DataFrame({"y": [0, 1] * 20, "a": [3.0, 3.0, 7.0, float("nan")] * 10}).write_parquet(tmp_path / "a.parquet")
    assert load([tmp_path / "a.parquet"], sparse=["a"], split="order").fingerprint == data.fingerprint


LISTS = [["1", "2"], [], None, ["2", "9", "2"]]
ROWS = [[2, 1], [], [], [1, 3, 1]]  # the most frequent value is row 1, then by first appearance


@pytest.mark.parametrize("kind", [pl.List(pl.String), pl.List(pl.Int64), pl.List(pl.Categorical)])
def test_parquet_lists_are_bags(tmp_path, kind):
    tags = pl.Series("tags", LISTS * 10).cast(pl.List(pl.String)).cast(kind)
    pl.DataFrame({"y": [0, 1] * 20, "u": [1, 2] * 20, "tags": tags}).write_parquet(tmp_path / "a.parquet")
    data = load([tmp_path / "a.parquet"], split="order")
    assert data.features == ["u", "tags"]
    assert lists_of(data, 1) == ROWS * 10
    assert everything(data, "ids")[:, 1].tolist() == [0] * 40
    assert data.num_embeddings[1] == 4
    assert data.counts[1].tolist() == [0, 22, 8, 7]  # of the 29 rows trained on
    assert data.about["multi_hot"] == ["tags"]


def test_parquet_arrays_are_bags(tmp_path):
    pairs = pl.Series("t", [[1, 2], [2, 3]] * 20, dtype=pl.Array(pl.Int32, 2))
    pl.DataFrame({"y": [0, 1] * 20, "t": pairs}).write_parquet(tmp_path / "a.parquet")
    assert lists_of(load([tmp_path / "a.parquet"], split="order"), 0) == [[2, 1], [1, 3]] * 20


@pytest.mark.parametrize(
    "spelled", [['"[1, 2]"', "[]", "", '"[2,9, 2]"'], ['"[""a,"",""b""]"', "[]", "", '"[""b"",""c"",""b""]"']]
)
def test_csv_lists_are_bags(tmp_path, spelled):
    text = "".join(f"{k % 2},{v}\n" for k, v in enumerate(spelled * 10))
    assert lists_of(load([put(tmp_path / "a.csv", "y,tags\n" + text)], split="order"), 0) == ROWS * 10


def test_csv_with_bars_is_no_list(tmp_path):
    data = load([put(tmp_path / "a.csv", "y,t\n" + "0,1|5\n1,7\n" * 20)])
    assert data.train.bags == {}
    assert data.num_embeddings == [3]


BODY = "0,1.5,a\n1,2.5,b\n" * 10


@pytest.mark.parametrize(
    ("header", "line", "options", "parts"),
    [
        ("y,p,u", "1,two,a", {"dense": ["p"]}, ["line 22", "column 'p'", "'two'"]),
        ("y,p,u", "1,inf,a", {"dense": ["p"]}, ["line 22", "column 'p'", "'inf'"]),
        ("y,p,u", "2,1.0,a", {}, ["line 22", "label is '2'", "0 or 1"]),
        ("y,p,u", ",1.0,a", {}, ["line 22", "label is missing"]),
        ("y,p,u", "1,1.0", {}, ["line 22", "found 2 fields, expected 3"]),
        ("y,p,u", "1,1.0,a,b", {}, ["line 22", "found 4 fields, expected 3"]),
        ("y,p,u", "\n1,1.0,a", {}, ["line 22", "blank line"]),
        ("y,p,p", "1,1.0,a", {}, ["line 1", "'p' twice"]),
        ("y,p,user_id", "1,1.0,a", {"sparse": ["userid"]}, ["'userid'", "sparse", "did you mean 'user_id'"]),
        ("y,p,u", "1,1.0,a", {"label": "z"}, ["'z'", "label"]),
        ("y,p,u", "1,1.0,a", {"label": "y", "dense": ["y"]}, ["'y'", "label and as dense"]),
        ("y,p,u", "1,1.0,a", {"dense": ["p"], "sparse": []}, ["bad has no sparse column"]),
        ("y,p,click", "1,1.0,a", {}, ["several columns", "y, click", "--label"]),
        ("q,p,u", "2,1.0,a", {}, ["--label", "q, p, u"]),
    ],
)
def test_bad_csv(tmp_path, header, line, options, parts):
    path = put(tmp_path / "bad.csv", f"{header}\n{BODY}{line}\n{BODY}")
    text = message(path, **options)
    assert all(part in text for part in [*parts, "bad"]), text


def test_line_numbers_are_physical_and_of_the_right_file(tmp_path):
    good = put(tmp_path / "good.csv", "y,p,u\n" + BODY)
    bad = put(tmp_path / "bad.csv", 'y,p,u\n0,1,"two\nlines"\n1,oops,x\n')
    assert "bad.csv, line 4: dense column 'p' holds 'oops'" in message(good, bad, dense=["p"])
    short = put(tmp_path / "short.csv", 'y,p,u\n0,1,"two\nlines, here"\n1,2\n')
    assert "short.csv, line 4: found 2 fields" in message(good, short)
    fine = put(tmp_path / "fine.csv", "y,p,u\n" + '0,1,"two\nlines, here"\n1,2,b\n' * 10)
    assert load([fine], dense=["p"], rows=10, split="order").num_embeddings == [3]


def test_files_with_other_columns(tmp_path):
    one, two = put(tmp_path / "1.csv", "y,p,u\n" + BODY), put(tmp_path / "2.csv", "y,p,v\n" + BODY)
    assert "2.csv has no column 'u'" in message(one, two)
    pl.DataFrame({"y": [0, 1], "u": [1, 2]}).write_parquet(tmp_path / "1.parquet")
    pl.DataFrame({"y": [0, 1], "u": [[1], [2]]}).write_parquet(tmp_path / "2.parquet")
    assert "different types" in message(tmp_path / "1.parquet", tmp_path / "2.parquet")


def test_the_only_01_column_is_the_label(tmp_path):
    text = "a,b\n" + "0,x\n1,y\n" * 20
    assert load([put(tmp_path / "a.csv", text)]).about["columns"]["label"] == "a"
    two = put(tmp_path / "b.csv", "a,b\n" + "0,1\n1,0\n" * 20)
    assert "(a, b); name one with --label" in message(two)


def test_bad_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 this is none")
    assert "a.parquet cannot be read as parquet" in message(path)
    df = pl.DataFrame({"y": [0, 1] * 20, "t": ["x"] * 40, "s": [{"k": 1}] * 40, "l": [[1]] * 40, "n": [[[1]]] * 40})
    df.write_parquet(path)
    assert "row 1: dense column 't' holds 'x'" in message(path, dense=["t"], sparse=["l"])
    assert "dense column 'l' has type List" in message(path, dense=["l"], sparse=["t"])
    assert "sparse column 's' has type Struct" in message(path, sparse=["s"])
    assert "sparse column 'n' has type List" in message(path, sparse=["n"])


def test_bad_list_in_csv(tmp_path):
    path = put(tmp_path / "a.csv", "y,t\n" + '0,[1]\n1,"[""a"", ]"\n' * 20)
    assert "a.csv, line 3: column 't'" in message(path)


def test_real_kdd12():
    if not REAL.exists():
        pytest.skip(f"{REAL} is absent: the public KDD Cup 2012 sample is not part of the project")
    import pandas as pd

    dense = ["impression", "depth", "position"]
    data = load([REAL], label="click", dense=dense)
    assert sum(len(p) for p in (data.train, data.valid, data.test)) == 39_948
    assert data.about["label_mean"] == pytest.approx(0.168, abs=5e-4)
    assert sum(data.num_embeddings) == pytest.approx(19_700, abs=100)
    assert sum(data.row0_share) / 8 == pytest.approx(0.53, abs=0.01)
    assert load([REAL]).about["columns"]["dense"] == []
    table = pd.read_csv(REAL, dtype=str)
    ordered = load([REAL], label="click", dense=dense, split="order")
    training = 39_948 - 39_948 // 5
    trained = table.iloc[: training - training // 10]
    for f, name in enumerate(ordered.features):
        assert ordered.num_embeddings[f] == (trained[name].value_counts() >= 2).sum() + 1
