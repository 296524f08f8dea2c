"""libfm files, against plain Python."""

import gzip
import random
from collections import Counter

import pytest
import torch
from paths import REAL_DATA

from embpress.compressors.errors import InputError
from embpress.dlrm.data import load

REAL = REAL_DATA / "frappe_nfm"


def make_lines(n, negative="-1", seed=0):
    rng = random.Random(seed)
    return [f"{'1' if i % 3 == 0 else negative} {rng.randrange(5)}:1 {5 + rng.randrange(9)}:1.0" for i in range(n)]


def write(path, lines):
    text = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def everything(data, name):
    return torch.cat([getattr(p, name) for p in (data.train, data.valid, data.test)])


def lists_of(data, f):
    out = []
    for part in (data.train, data.valid, data.test):
        bags = part.bags[f]
        out += [bags.values[a:b].tolist() for a, b in zip(bags.offsets[:-1], bags.offsets[1:])]
    return out


@pytest.mark.parametrize("negative", ["-1", "0", "0.0"])
def test_one_index_per_field(tmp_path, negative):
    lines = make_lines(100, negative)
    data = load([write(tmp_path / "a.libfm", lines)], min_count=1, split="order")
    assert data.features == ["field 0", "field 1"]
    assert everything(data, "labels").tolist() == [float(line.startswith("1")) for line in lines]
    for f in (0, 1):
        column = [line.split()[1 + f].split(":")[0] for line in lines]
        known = [v for v, _ in Counter(column[:72]).most_common()]  # ties in order of first appearance
        assert everything(data, "ids")[:, f].tolist() == [known.index(v) + 1 if v in known else 0 for v in column]
    assert data.dense_names == ["(constant)"]


def test_several_files_and_gzip(tmp_path):
    lines = make_lines(60)
    whole = load([write(tmp_path / "a.libfm", lines)])
    assert load([write(tmp_path / "1.svm", lines[:20]), write(tmp_path / "2.libsvm.gz", lines[20:])]).fingerprint == (
        whole.fingerprint
    )
    data = load([tmp_path / "1.svm"], test=[tmp_path / "2.libsvm.gz"])
    assert [len(p) for p in (data.train, data.valid, data.test)] == [18, 2, 40]
    assert len(load([tmp_path / "1.svm", tmp_path / "2.libsvm.gz"], rows=30).test) == 6


@pytest.mark.parametrize("pairs", [False, True])
def test_fields_file_makes_bags(tmp_path, pairs):
    lines = ["1 0:1 3:1 4:1", "0 1:1", "1 3:1 0:1", "0 1:1 4:1 3:1 4:1"] * 10
    field = [7, 7, 7, 2, 2]
    fields = [f"{k} {f}" for k, f in enumerate(field)] if pairs else map(str, field)
    map_file = write(tmp_path / "fields.txt", fields)
    data = load([write(tmp_path / "a.libfm", lines)], fields=map_file, split="order")
    assert data.features == ["field 2", "field 7"]
    assert list(data.train.bags) == [0]
    assert lists_of(data, 0) == [[1, 2], [], [1], [2, 1, 2]] * 10
    assert everything(data, "ids")[:, 1].tolist() == [1, 2, 1, 2] * 10
    assert everything(data, "ids")[:, 0].tolist() == [0] * 40
    assert data.num_embeddings == [3, 3]
    assert data.counts[0].tolist() == [0, 22, 22]  # of the 29 rows trained on
    assert data.about["multi_hot"] == ["field 2"]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("1 3:1", ["found 1 indices, expected 2", "--fields"]),
        ("1 3:1 5:1 6:1", ["found 3 indices, expected 2", "--fields"]),
        ("1 3:1 x:1", ["'x:1'"]),
        ("1 3:1 6", ["'6'"]),
        ("1 3:1 6:1:1", ["'6:1:1'"]),
        ("1 3:1 -6:1", ["'-6:1'"]),
        ("1 3:1 6:0.5", ["'6:0.5'", "weight"]),
        ("1 3:1 6:nan", ["'6:nan'"]),
        ("2 3:1 6:1", ["label is '2'", "0 or 1"]),
        ("3:1 6:1 7:1", ["label is '3:1'"]),
        ("", ["blank"]),
    ],
)
def test_bad_lines_are_named(tmp_path, line, parts):
    good = write(tmp_path / "good.libfm", make_lines(20))
    bad = write(tmp_path / "bad.libfm", [*make_lines(11), line, *make_lines(3)])
    with pytest.raises(InputError) as e:
        load([good, bad])
    assert all(part in str(e.value) for part in [*parts, "bad.libfm, line 12"]), str(e.value)


def test_minus_one_and_zero_do_not_mix(tmp_path):
    with pytest.raises(InputError, match=r"b.libfm, line 2: labels -1 and 0 both occur"):
        load([write(tmp_path / "a.libfm", make_lines(20)), write(tmp_path / "b.libfm", make_lines(20, "0"))])


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (["0", "0", "x"], ["fields.txt, line 3", "'x'"]),
        (["0 0", "1"], ["fields.txt, line 2"]),
        (["0 0", "1 0", "0 1"], ["fields.txt, line 3", "index 0"]),
        (["0 0", "1 0"], ["a.libfm, line", "has no field in", "fields.txt"]),
    ],
)
def test_bad_fields_file(tmp_path, lines, parts):
    with pytest.raises(InputError) as e:
        load([write(tmp_path / "a.libfm", make_lines(20))], fields=write(tmp_path / "fields.txt", lines))
    assert all(part in str(e.value) for part in parts), str(e.value)


def test_real_frappe():
    if not REAL.exists():
        pytest.skip(f"{REAL} is absent: the public Frappe sample is not part of the project")
    data = load([REAL / "frappe.validation.libfm", REAL / "frappe.test.libfm"])
    assert sum(len(p) for p in (data.train, data.valid, data.test)) == 86_582
    assert data.about["label_mean"] == pytest.approx(0.330, abs=5e-4)
    assert len(data.features) == 10
    assert max(data.row0_share) < 0.005
    assert sum(data.row0_share) / 10 == pytest.approx(0, abs=0.001)
    assert max(data.num_embeddings) == pytest.approx(4082, abs=30)
