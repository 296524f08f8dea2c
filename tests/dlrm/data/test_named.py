"""Public data sets by name: their files are found, checked and read as their reference says."""

import gzip
import hashlib
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from criteo_lines import lines
from paths import REAL_DATA
from same_data import assert_same

from embpress.compressors.errors import InputError
from embpress.dlrm.data import digests, load, named
from embpress.dlrm.data.formats import formats
from embpress.dlrm.data.named import Dataset, Named, datasets, keywords
from embpress.dlrm.data.prepare.prepare import prepare
from embpress.dlrm.runs.experiment import describe_data


@pytest.mark.parametrize("name", sorted(datasets()))
def test_each_says_what_it_is_and_has_options_that_load_knows(name):
    dataset = datasets()[name]
    assert named.about(name)
    assert set(dataset.md5) <= {*dataset.train, *dataset.test}
    assert all(len(bytes.fromhex(digest)) == 16 for digest in dataset.md5.values())
    own = {option.name for option in formats()[dataset.options["format"]].options}
    assert set(dataset.options) <= own | {"format", "split", "min_count", "max_rows_per_table"}


def test_the_data_sets_that_people_ask_for_are_there():
    expected = {"criteo-kaggle", "criteo-terabyte", "avazu", "kdd12"}
    assert set(datasets()) >= expected | {f"{name}-x1" for name in ("criteo", "avazu", "frappe")}
    assert set(datasets()) >= {"criteo-x4", "avazu-x4"}


@pytest.mark.skipif(not (REAL_DATA / "kdd12_click_small").is_dir(), reason="the sample of KDD Cup 2012 is not here")
def test_kdd12_is_read_as_its_file_is():
    data = load(**keywords("kdd12", [REAL_DATA / "kdd12_click_small"], {}))
    assert [len(data.train) + len(data.valid), len(data.test)] == [31_959, 7_989]
    assert sum(data.num_embeddings) == pytest.approx(19_700, rel=0.01)  # after ids that occur once are row 0
    assert data.features[0] == "url_hash"
    assert data.about["columns"]["guessed"] == []


def refused(match, *args):
    with pytest.raises(InputError, match=match) as error:
        keywords(*args)
    assert "\n" not in str(error.value)


def test_files_are_found_and_wrong_ones_named(tmp_path):
    rows = lines(200)
    for day in range(24):
        text = "".join(rows[8 * day : 8 * day + 8]).encode()
        (tmp_path / f"day_{day}.gz").write_bytes(gzip.compress(text))
    days = [tmp_path / f"day_{day}.gz" for day in range(24)]
    values = keywords("criteo-terabyte", [tmp_path], {"format": "auto", "min_count": None, "test": ()})
    assert (values["paths"], values["test"]) == (days[:23], days[23:])
    assert values == keywords("criteo-terabyte", days[::-1], {})
    assert values == keywords("criteo-terabyte", [str(tmp_path / "day_*.gz")], {})
    assert values["dataset"] == Named("criteo-terabyte", as_published=True)
    assert (
        keywords("criteo-terabyte", days, {"min_count": 5, "drop_negatives": 0.5}).items()
        >= {
            "min_count": 5,
            "drop_negatives": 0.5,
        }.items()
    )
    assert keywords("criteo-terabyte", days, {"min_count": 2, "split_seed": 0})["min_count"] == 2  # asked for
    data = load(**values)
    assert [len(data.train), len(data.valid), len(data.test)] == [184, 4, 4]
    labels = [float(row[0]) for row in rows]
    assert data.test.labels.tolist() == labels[184:188]  # MLPerf's: the first half of the last day
    assert data.valid.labels.tolist() == labels[188:192]
    assert_same(data, load(prepare(**values, to=tmp_path / "prepared")))
    twice = tmp_path / "other" / "day_4"
    refused("day_4.gz and .*other/day_4 are both the day_4 of data set", "criteo-terabyte", [*days, twice], {})
    days[4].unlink()
    refused("has no day_4, which data set criteo-terabyte needs", "criteo-terabyte", [tmp_path], {})
    refused("also needs day_4", "criteo-terabyte", days[:4] + days[5:], {})
    refused("train.txt is no file of data set criteo-terabyte", "criteo-terabyte", [tmp_path / "train.txt"], {})
    refused("leave --test out", "criteo-terabyte", days, {"test": ["x"]})
    refused("did you mean 'criteo-kaggle'", "criteo-kagle", days, {})
    refused("needs its files", "avazu", [], {})


@pytest.mark.parametrize(
    ("asked", "as_published"),
    [
        ({"split_seed": 3, "number_ids": "random", "min_count": None}, True),
        ({"min_count": 10, "dense": "Integer", "sparse": "A,B"}, True),
        ({"min_count": 2}, False),
        ({"rows": 100}, False),
        ({"sparse": ["A"]}, False),
        ({"max_rows_per_table": 5}, False),
    ],
)
def test_the_record_says_whether_the_test_part_is_the_published_one(tmp_path, monkeypatch, asked, as_published):
    options = {"format": "csv", "label": "y", "dense": ["Integer"], "sparse": ["A", "B"], "min_count": 10}
    made = Dataset(train=("train.csv",), test=("test.csv",), source="made", options=options)
    monkeypatch.setattr(named, "datasets", lambda: {"made": made})
    rng = np.random.default_rng(0)
    for file in ("train.csv", "test.csv"):
        columns = {"y": rng.integers(2, size=90), **{c: rng.integers(3, size=90) for c in ("Integer", "A", "B")}}
        pl.DataFrame(columns).write_csv(tmp_path / file)
    data = load(**keywords("made", [tmp_path], asked))
    assert data.about["dataset"] == "made"
    assert data.about["as_published"] is as_published
    assert describe_data(data).published == ("made" if as_published else None)
    prepared = prepare(**keywords("made", [tmp_path], asked), to=tmp_path / "to")
    again = load(**keywords("made", [prepared], {}))
    assert_same(again, data)
    hashed = prepare(**keywords("made", [tmp_path], {}), to=tmp_path / "hashed", hash_ids=1)
    assert load(hashed).about["as_published"] is False
    monkeypatch.setattr(named, "datasets", lambda: {"made": made, "other": made})
    refused("was prepared from data set made, not from data set other", "other", [prepared], {})
    refused("from files without --dataset", "made", [prepare(tmp_path / "train.csv", tmp_path / "plain")], {})


def test_where_the_test_part_is_cut_off_its_seed_makes_another():
    cut, given = (Dataset(("a",), "made", {"split_seed": 0}, test=test) for test in ((), ("b",)))
    assert named._differs(cut, "split_seed", 3)
    assert not named._differs(given, "split_seed", 3)


def test_a_file_that_is_not_the_published_one_is_named(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    columns = datasets()["frappe-x1"].options["sparse"]
    published = {}
    for file in ("train.csv", "valid.csv", "test.csv"):
        table = pl.DataFrame({"label": rng.choice([-1, 1], 50), **{c: rng.integers(9, size=50) for c in columns}})
        text = table.write_csv().encode()
        published[file] = hashlib.md5(text).hexdigest()
        (tmp_path / f"{file}.gz").write_bytes(gzip.compress(text))
    refused("train.csv.gz is not the train.csv of data set frappe-x1: its MD5 is", "frappe-x1", [tmp_path], {})
    made = replace(datasets()["frappe-x1"], md5=published)
    monkeypatch.setattr(named, "datasets", lambda: {"frappe-x1": made})
    data = load(**keywords("frappe-x1", [tmp_path], {}))
    assert data.features == columns
    assert len(data.test) == 50
    assert isinstance(made, Dataset)


def test_the_digests_of_its_files_are_kept_in_a_cache(tmp_path, monkeypatch):
    text = b"label,x\n1,2\n"
    (tmp_path / "a.csv").write_bytes(text)
    of = {"made": Dataset(("a.csv",), "made", {"format": "csv"}, md5={"a.csv": hashlib.md5(text).hexdigest()})}
    monkeypatch.setattr(named, "datasets", lambda: of)
    monkeypatch.setattr(digests, "_SETTLED", -1.0)
    keywords("made", [tmp_path / "a.csv"], {}, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob(".digests/*"))) == 1
    monkeypatch.setattr(digests.hashlib, "new", lambda *_, **__: pytest.fail("it was read again"))
    keywords("made", [tmp_path / "a.csv"], {}, tmp_path / "cache")
