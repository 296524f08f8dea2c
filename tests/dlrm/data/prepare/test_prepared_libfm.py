"""Prepared data are what `load` gives on the same files, bit for bit: libfm."""

import gzip
import random

import pytest
from paths import REAL_DATA
from same_data import both

from embpress.compressors.errors import InputError
from embpress.dlrm.data import load
from embpress.dlrm.data.prepare.prepare import prepare
from embpress.dlrm.data.readers import chunks

REAL = REAL_DATA / "frappe_nfm"


@pytest.fixture(params=[200, 10**9], ids=["small blocks", "one block"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", request.param)


def lines(n, seed=0):
    rng = random.Random(seed)
    rows = ([rng.choice((-1, 1)), *(f"{10 * field + rng.randrange(9)}:1" for field in range(4))] for _ in range(n))
    return [" ".join(map(str, row)) + "\n" for row in rows]


def with_bags(n, seed=0):
    """Field 0 has one index a line, field 1 none to three, field 2 has two on the last line alone."""
    rng = random.Random(seed)
    rows = []
    for row in range(n):
        indices = [rng.randrange(9), *rng.choices(range(10, 19), k=rng.randrange(4)), 20, *[21] * (row == n - 1)]
        rng.shuffle(indices)
        rows.append(f"{row % 2} " + " ".join(f"{index}:1" for index in indices) + "\n")
    return rows


def put(path, rows):
    path.write_bytes(gzip.compress("".join(rows).encode()) if path.suffix == ".gz" else "".join(rows).encode())
    return path


@pytest.mark.parametrize(
    "options", [{}, {"split": "order", "min_count": 1}, {"rows": 33, "number_ids": "random"}], ids=str
)
def test_as_loaded(tmp_path, blocks, options):
    rows = lines(90)
    one, two = put(tmp_path / "a.libfm", rows[:50]), put(tmp_path / "b.libfm.gz", [*rows[50:], "\n"])
    both([one, two], tmp_path / "cut off", **options)
    both([one], tmp_path / "own test", test=[two], **options)


def test_fields_with_several_indices(tmp_path, blocks):
    fields = put(tmp_path / "fields", [f"{index} {index // 10}\n" for index in range(30)])
    data = both([put(tmp_path / "a.libfm", with_bags(80))], tmp_path / "to", fields=fields, min_count=1)
    assert list(data.train.bags) == [1, 2]
    assert load(tmp_path / "to", fields=str(fields)).fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (70, "2 1:1 10:1 20:1 30:1"),
        (70, "0 1:1 10:1 20:1 30:1"),
        (70, "1 1:1 10:1"),
        (70, "1 1:1 10:1 20:1 x"),
        (70, ""),
    ],
)
def test_refused_as_by_load(tmp_path, blocks, line, text):
    rows = lines(90)
    rows[line - 1] = text + "\n"
    path = put(tmp_path / "a.libfm", rows)
    sentences = []
    for call in (load, lambda paths: prepare(paths, tmp_path / "to")):
        with pytest.raises(InputError) as error:
            call([path])
        sentences.append(str(error.value))
    assert sentences[0] == sentences[1]
    assert f"line {line}:" in sentences[0]


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no {REAL}")
def test_real_data(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1_000_000)
    both([REAL / "frappe.validation.libfm"], tmp_path / "to", test=[REAL / "frappe.test.libfm"])
