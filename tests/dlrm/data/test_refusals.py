"""Strange files and values: one sentence that names the file and the place, or they are read as they are."""

import os
import socket
import time
from datetime import timedelta

import polars as pl
import pytest

from embpress.compressors import InputError
from embpress.compressors.guard import path, shown, whole
from embpress.dlrm.data import load
from embpress.dlrm.data.readers.columns import choose_columns

LABELS = [i % 2 for i in range(60)]


def message(*paths, **options):
    with pytest.raises(InputError) as e:
        load(paths, **options)
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 600
    return str(e.value)


def csv_of(folder, header, values, end="\n"):
    file = folder / "a.csv"
    lines = [header, *(f"{label},{value}" for label, value in zip(LABELS, values))]
    file.write_bytes(end.join(lines).encode() + b"\n")
    return file


@pytest.mark.parametrize("make", ["fifo", "socket", "device"])
def test_only_regular_files_are_read(make, tmp_path):
    file = tmp_path / "in.csv"
    if make == "fifo":
        os.mkfifo(file)
    elif make == "device":
        file = "/dev/zero"
    else:
        socket.socket(socket.AF_UNIX).bind(str(file))
    assert "a file is needed" in message(file)


@pytest.mark.parametrize("name", ["a" * 300, "b/" * 3000, "a\0b", "a\udcff"])
def test_paths_that_can_be_none(name):
    assert "the data file" in message(name)
    with pytest.raises(InputError, match="--out"):
        path(name, "--out")


@pytest.mark.parametrize("end", ["\r", "\n"])
def test_a_lone_carriage_return_is_named(end, tmp_path):
    values = ["a\rb" if i == 7 and end == "\n" else "a" for i in range(60)]
    said = message(csv_of(tmp_path, "click,ad", values, end))
    assert f"line {1 if end == chr(13) else 9}" in said
    assert "carriage return" in said


def test_a_carriage_return_in_quotes_is_text(tmp_path):
    assert load(csv_of(tmp_path, "click,ad", ['"a\rb"', "c"] * 30, "\r\n"), min_count=1).num_embeddings == [3]


def test_fields_longer_than_the_parser_of_csv_takes(tmp_path):
    long = "x" * 140_000
    assert load(csv_of(tmp_path, "click,ad", [long, "b"] * 30), min_count=1).num_embeddings == [3]
    assert "line 1" in message(csv_of(tmp_path, f"click,{long}", ["a"] * 60))
    assert "a.csv" in message(csv_of(tmp_path, "click,ad", [long, "a,b"] * 30))


@pytest.mark.parametrize("value", ["[" * 100_000 + "]" * 100_000, '["\\ud800"]', '["a", ' + "9" * 5000 + "]"])
def test_lists_that_json_has_no_room_for(value, tmp_path):
    quoted = '"' + value.replace('"', '""') + '"'
    said = message(csv_of(tmp_path, "click,ad", ['"[""a""]"'] * 4 + [quoted] + ['"[""b""]"'] * 55))
    assert "must be a list" in said or "csv" in said


@pytest.mark.parametrize("name", ["*", "^a$", "^.*$", "$", ""])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_names_that_polars_takes_for_patterns(name, ending, tmp_path):
    frame = pl.DataFrame({"click": LABELS, "a": ["p", "q", "r"] * 20, "x": [0.5, 1.5] * 30, "z": ["[1, 2]"] * 60})
    plain, strange = tmp_path / f"p.{ending}", tmp_path / f"s.{ending}"
    getattr(frame, f"write_{ending}")(plain)
    frame.columns = ["click", name, "^x$", "^z|a$"]
    getattr(frame, f"write_{ending}")(strange)
    want = load(plain, min_count=1, dense="x")
    data = load(strange, min_count=1, dense="^x$")
    if name:
        assert data.features == [name, "^z|a$"]
        assert data.fingerprint == want.fingerprint
    assert len(load([strange], test=[strange], min_count=1).test) == 60


NESTED = [{"a": 1}, {"a": 2}] * 30
TYPES = {
    "duration": pl.Series([timedelta(days=i % 3) for i in range(60)]),
    "int128": pl.Series([i % 3 for i in range(60)], dtype=pl.Int128),
    "large": pl.Series([2**100 + i % 3 for i in range(60)], dtype=pl.Int128),
    "uint128": pl.Series([i % 3 for i in range(60)], dtype=pl.UInt128),
    "struct": pl.Series(NESTED),
    "structs": pl.Series([[v] for v in NESTED]),
    "durations": pl.Series([[timedelta(days=i % 3)] for i in range(60)]),
    "int128s": pl.Series([[i % 3] for i in range(60)], dtype=pl.List(pl.Int128)),
    "binary": pl.Series([b"a", b"b"] * 30),
    "decimal": pl.Series([i % 3 for i in range(60)]).cast(pl.Decimal(10, 2)),
}


@pytest.mark.parametrize("role", ["label", "dense", "sparse"])
@pytest.mark.parametrize("kind", TYPES)
def test_types_of_parquet(kind, role, tmp_path):
    file = tmp_path / "a.parquet"
    pl.DataFrame({"click": LABELS, "c": TYPES[kind], "d": ["p", "q"] * 30}).write_parquet(file)
    options = {"label": "c"} if role == "label" else {"label": "click", role: ["c"], "sparse": ["d"]}
    if role == "sparse":
        options["sparse"] = ["c", "d"]
    ids = ("int128", "uint128", "large", "int128s", "decimal")
    numbers = ("int128", "uint128", "large", "decimal")
    if kind in {"label": (), "dense": numbers, "sparse": ids}[role]:
        data = load(file, min_count=1, **options)
        assert role != "sparse" or data.num_embeddings[0] == 4
    else:
        assert "a.parquet" in message(file, min_count=1, **options)


@pytest.mark.parametrize("digits", [20, 5000])
def test_numbers_of_any_length(digits, tmp_path):
    number, fields, rows = "9" * digits, tmp_path / "fields", tmp_path / "a.libfm"
    rows.write_text("".join(f"{label} {label}:1\n" for label in LABELS))
    fields.write_text(f"0\n{number}\n")
    assert "fields, line 2" in message(rows, fields=fields)
    rows.write_text(f"{number} 1:1\n")
    assert "a.libfm, line 1" in message(rows)
    rows.write_text(f"1 {number}:1\n")
    assert "a.libfm, line 1" in message(rows)
    criteo = tmp_path / "c.txt"
    criteo.write_text("\t".join(["1", number, *["1"] * 38]) + "\n")
    assert "c.txt, line 1" in message(criteo, format="criteo")
    assert load(csv_of(tmp_path, "click,ad", [number, "1"] * 30), min_count=1).num_embeddings == [3]
    for option in ("split_seed", "min_count", "rows"):
        assert option in message(tmp_path / "a.csv", **{option: 10 ** (digits - 1) * 9})


def test_lines_of_labels_alone(tmp_path):
    (tmp_path / "a.libfm").write_text("1\n0\n" * 30)
    assert "no sparse column" in message(tmp_path / "a.libfm")


def test_a_whole_number_is_read_from_text_or_refused():
    assert [whole(v, "n") for v in (7, "7", " 7", "+7", "007")] == [7] * 5
    assert whole("-7", "n", -10) == -7
    for value in ("", "-", "7.5", "seven", "٧", True, 7.0, None, "-1", -1, 2**63, "9" * 5000, "-" + "9" * 5000):
        with pytest.raises(InputError, match=r"n is .* whole number"):
            whole(value, "n")
    with pytest.raises(InputError, match="between 1 and 1,000"):
        whole(1001, "n", 1, 1000)
    assert len(shown("x" * 10**6)) < 100


def test_a_header_of_many_names_takes_no_quadratic_time(tmp_path):
    """With a list in a loop, as it once was, 200,000 names take a quarter of an hour."""
    names = [f"column{i}" for i in range(200_000)]
    file = tmp_path / "a.csv"
    file.write_text(",".join([*names, names[-1]]) + "\n" + ",".join(["1"] * 200_001) + "\n")
    start = time.perf_counter()
    assert "twice" in message(file)
    columns = dict.fromkeys(names, pl.Series("", ["a", "b"]))
    roles = choose_columns(columns, "a", label=names[0], dense=names[1:100_000])
    assert len(roles.sparse) == 100_000
    assert time.perf_counter() - start < 60
    with pytest.raises(InputError, match="and 80 more"):
        choose_columns(dict.fromkeys(names[:100], pl.Series("", ["a", "b"])), "a")
