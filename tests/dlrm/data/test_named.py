"""Public data sets by name: their files are found, checked and read as their reference says."""

import gzip
import hashlib
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from criteo_lines import lines

from embpress.compressors.errors import InputError
from embpress.dlrm.data import load, named
from embpress.dlrm.data.formats import formats
from embpress.dlrm.data.named import Dataset, datasets, keywords


@pytest.mark.parametrize("name", sorted(datasets()))
def test_each_says_what_it_is_and_has_options_that_load_knows(name):
    dataset = datasets()[name]
    assert named.about(name)
    assert set(dataset.md5) <= {*dataset.train, *dataset.test}
    assert all(len(bytes.fromhex(digest)) == 16 for digest in dataset.md5.values())
    own = {option.name for option in formats()[dataset.options["format"]].options}
    assert set(dataset.options) <= own | {"format", "split", "min_count", "max_rows_per_table"}


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
    assert values["drop_negatives"] == 0.875
    assert (
        keywords("criteo-terabyte", days, {"min_count": 5, "drop_negatives": 0.5}).items()
        >= {
            "min_count": 5,
            "drop_negatives": 0.5,
        }.items()
    )
    assert keywords("criteo-terabyte", days, {"min_count": 2, "split_seed": 0})["min_count"] == 2  # asked for
    data = load(**(values | {"drop_negatives": 0.0}))
    assert [len(data.train) + len(data.valid), len(data.test)] == [184, 8]
    twice = tmp_path / "other" / "day_4"
    refused("day_4.gz and .*other/day_4 are both the day_4 of data set", "criteo-terabyte", [*days, twice], {})
    days[4].unlink()
    refused("has no day_4, which data set criteo-terabyte needs", "criteo-terabyte", [tmp_path], {})
    refused("also needs day_4", "criteo-terabyte", days[:4] + days[5:], {})
    refused("train.txt is no file of data set criteo-terabyte", "criteo-terabyte", [tmp_path / "train.txt"], {})
    refused("leave --test out", "criteo-terabyte", days, {"test": ["x"]})
    refused("did you mean 'criteo-kaggle'", "criteo-kagle", days, {})
    refused("needs its files", "avazu", [], {})


def test_a_file_that_is_not_the_published_one_is_named(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    columns = datasets()["frappe-x1"].options["sparse"]
    digests = {}
    for file in ("train.csv", "valid.csv", "test.csv"):
        table = pl.DataFrame({"label": rng.choice([-1, 1], 50), **{c: rng.integers(9, size=50) for c in columns}})
        text = table.write_csv().encode()
        digests[file] = hashlib.md5(text).hexdigest()
        (tmp_path / f"{file}.gz").write_bytes(gzip.compress(text))
    refused("train.csv.gz is not the train.csv of data set frappe-x1: its MD5 is", "frappe-x1", [tmp_path], {})
    made = replace(datasets()["frappe-x1"], md5=digests)
    monkeypatch.setattr(named, "datasets", lambda: {"frappe-x1": made})
    data = load(**keywords("frappe-x1", [tmp_path], {}))
    assert data.features == columns
    assert len(data.test) == 50
    assert isinstance(made, Dataset)
