"""Folders, patterns and many files: what they stand for, in which order, and what is refused."""

import polars as pl
import pytest
from criteo_lines import lines, write
from same_data import both

from embpress.compressors.errors import InputError
from embpress.dlrm.data import load
from embpress.dlrm.data.expand import expanded, name_of, natural
from embpress.dlrm.data.formats import formats
from embpress.dlrm.data.prepare.prepare import prepare
from embpress.dlrm.data.readers.partitions import partitions


@pytest.fixture
def days(tmp_path):
    """Twelve day files without ending, gzipped, whose lines in order are those of one file."""
    rows = lines(120)
    for day in range(12):
        write(mkdir(tmp_path / "days") / f"day_{day}.gz", "".join(rows[10 * day :][:10]))
    return tmp_path / "days", write(tmp_path / "all.txt", "".join(rows))


def mkdir(folder):
    folder.mkdir(exist_ok=True)
    return folder


def refused(match, call, *args, **options):
    with pytest.raises(InputError, match=match) as error:
        call(*args, **options)
    assert "\n" not in str(error.value)


def test_numbers_sort_by_value():
    names = ["day_10.gz", "day_2.gz", "day_1.gz", "b", "a10b2", "a10b10", "a9", "3", "²"]
    assert sorted(names, key=natural) == ["3", "a9", "a10b2", "a10b10", "b", "day_1.gz", "day_2.gz", "day_10.gz", "²"]


def test_a_pattern_and_a_folder_are_their_files_in_natural_order(days, tmp_path):
    folder, whole = days
    (folder / "README.md").write_text("about")
    (folder / "_SUCCESS").touch()
    (folder / ".hidden").touch()
    same = load(whole)
    for paths in (str(folder / "day_*.gz"), folder, [folder / "day_?.gz", folder / "day_1[01].gz"]):
        data = load(paths)
        assert data.fingerprint == same.fingerprint
    assert [name_of(folder), name_of(folder / "day_*.gz"), name_of(folder / "*.gz")] == ["days", "day", "days"]
    assert load(folder).name == "days"
    assert both(folder, tmp_path / "to").fingerprint == same.fingerprint
    one = load(whole, test=str(folder / "day_[0-3].gz"))
    assert len(one.test) == 40
    prepared = prepare(whole, tmp_path / "with_test", test=str(folder / "day_[0-3].gz"))
    assert load(prepared, test=str(folder / "day_[0-3].gz")).fingerprint == one.fingerprint
    refused("test is .*, but .* was prepared with", load, prepared, test=folder)


def test_a_name_with_brackets_is_a_file_where_it_is_there(days, tmp_path):
    folder, whole = days
    odd = tmp_path / "all[1].txt"
    whole.rename(odd)
    assert load(odd).fingerprint == load(folder).fingerprint
    assert name_of(odd) == "all[1]"


def test_folders_that_are_no_data_set_are_refused(tmp_path):
    known = formats()
    folder = mkdir(tmp_path / "x")
    refused("holds no file that is click data of a known format", expanded, [folder], known)
    (folder / "notes").write_text("these are notes\n")
    refused("holds notes, none of which is click data", load, folder)
    pl.DataFrame({"label": [0, 1], "a": [1, 2]}).write_csv(folder / "a.csv")
    refused("holds notes, whose format cannot be told, beside csv files", load, folder)
    (folder / "notes").unlink()
    pl.DataFrame({"label": [0, 1], "a": [1, 2]}).write_parquet(folder / "b.parquet")
    refused("several formats .a.csv is csv and b.parquet is parquet., but a folder is one data set", load, folder)
    refused("several formats", load, folder, format="csv")
    refused("no file matches .*day_\\*", load, str(folder / "day_*"))


def test_what_is_prepared_already_is_not_prepared_again(days, tmp_path):
    folder, _ = days
    to = prepare(folder, tmp_path / "to")
    refused(f"{to} is prepared already; give it as it is .* embpress compare {to}", prepare, to, tmp_path / "again")
    refused("is prepared already", prepare, [folder, to], tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_folders_of_hives_layout_are_columns(tmp_path):
    whole = pl.DataFrame(
        {
            "label": [0, 1] * 30,
            "id": [k % 7 for k in range(60)],
            "day": [str(k // 20) for k in range(60)],
            "a b": [None if k // 10 % 2 else "x/y" for k in range(60)],
        }
    )
    for (day, other), frame in whole.group_by(["day", "a b"], maintain_order=True):
        value = "__HIVE_DEFAULT_PARTITION__" if other is None else "x%2Fy"
        place = tmp_path / "hive" / f"day={day}" / f"a%20b={value}"
        place.mkdir(parents=True)
        frame.select("label", "id").write_parquet(place / "part-0.parquet")
    # polars' own reading of the same folder
    theirs = pl.scan_parquet(tmp_path / "hive", hive_partitioning=True, try_parse_hive_dates=False).collect()
    assert theirs.height == 60
    ordered = pl.concat([frame for _, frame in whole.group_by(["day", "a b"], maintain_order=True)])
    flat = tmp_path / "flat.parquet"
    ordered.sort(["day", pl.col("a b").is_not_null()], maintain_order=True).write_parquet(flat)
    columns = {"label": "label", "sparse": ["id", "day", "a b"]}
    data = both(tmp_path / "hive", tmp_path / "to", split="order", **columns)
    assert data.features == columns["sparse"]
    assert data.fingerprint == load(flat, split="order", **columns).fingerprint
    every = load(str(tmp_path / "hive" / "**"), split="order", **columns)  # each file once
    assert every.fingerprint == data.fingerprint
    assert partitions("hive/day=3/a%20b=x%2Fy/p.parquet") == {"day": "3", "a b": "x/y"}
    assert partitions("a=1/plain/p.parquet") == {}
