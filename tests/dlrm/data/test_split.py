"""Parts, bags, split and vocabulary, against plain Python."""

import random
from collections import Counter

import numpy as np
import pytest
import torch

from embpress.compressors.errors import InputError
from embpress.dlrm.data import Bags, Part, describe, load
from embpress.dlrm.data.prepare.prepare import prepare
from embpress.dlrm.data.raw import RawField
from embpress.dlrm.data.split import split_rows
from embpress.dlrm.data.vocabulary import encode


def bags_of(lists):
    offsets = np.cumsum([0, *map(len, lists)])
    return Bags(torch.tensor([v for row in lists for v in row], dtype=torch.int32), torch.tensor(offsets))


def lists_of(bags):
    return [bags.values[a:b].tolist() for a, b in zip(bags.offsets[:-1], bags.offsets[1:])]


@pytest.fixture
def part():
    lists = [[1, 2], [], [3], [4, 5, 6], []]
    ids = torch.arange(10, dtype=torch.int32).view(5, 2)
    return Part(torch.tensor([0.0, 1, 0, 1, 1]), torch.arange(5.0)[:, None], ids, {1: bags_of(lists)})


def write_csv(path, rows, header="label,a,b"):
    path.write_text(header + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return path


def random_rows(n, seed=0):
    rng = random.Random(seed)
    return [(i % 2, f"x{int(rng.paretovariate(0.8))}", f"y{rng.randrange(4)}") for i in range(n)]


def test_slice_is_a_view_with_bags_from_zero(part):
    cut = part.slice(2, 4)
    assert len(cut) == 2
    assert lists_of(cut.bags[1]) == [[3], [4, 5, 6]]
    assert cut.bags[1].offsets.tolist() == [0, 1, 4]
    assert cut.ids.data_ptr() == part.ids[2:].data_ptr()
    assert cut.bags[1].values.data_ptr() == part.bags[1].values[2:].data_ptr()


@pytest.mark.parametrize(("start", "stop"), [(0, 99), (3, 3), (4, 2), (-2, 5)])
def test_slice_cuts_like_python(part, start, stop):
    cut = part.slice(start, stop)
    assert cut.labels.tolist() == part.labels.tolist()[start:stop]
    assert lists_of(cut.bags[1]) == lists_of(part.bags[1])[start:stop]


@pytest.mark.parametrize("index", [[3, 1, 0, 3], [], [1, 4], [4, 3, 2, 1, 0]])
def test_take_selects_and_repeats_rows(part, index):
    taken = part.take(torch.tensor(index, dtype=torch.int64))
    assert taken.labels.tolist() == [part.labels.tolist()[i] for i in index]
    assert taken.ids.tolist() == [part.ids.tolist()[i] for i in index]
    assert lists_of(taken.bags[1]) == [lists_of(part.bags[1])[i] for i in index]
    assert taken.bags[1].values.dtype == torch.int32


def test_split_by_order_takes_the_last():
    train, valid, test = split_rows(100, None, "order", 0)
    assert (train.tolist(), valid.tolist(), test.tolist()) == ([*range(72)], [*range(72, 80)], [*range(80, 100)])


def test_split_by_seed_is_a_partition_that_depends_on_the_seed():
    parts = split_rows(1000, None, "random", 3)
    assert [len(p) for p in parts] == [720, 80, 200]
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
    assert all((np.diff(p) > 0).all() for p in parts)
    assert all((a == b).all() for a, b in zip(parts, split_rows(1000, None, "random", 3)))
    assert not np.array_equal(parts[2], split_rows(1000, None, "random", 4)[2])


@pytest.mark.parametrize(("test_rows", "test", "valid"), [(4, [6, 7], [8, 9]), (5, [5, 6, 7], [8, 9]), (2, [8], [9])])
def test_halves_of_the_test_files(test_rows, test, valid):
    parts = [index.tolist() for index in split_rows(10, test_rows, "halves", seed=0)]
    assert parts == [list(range(10 - test_rows)), valid, test]


def test_halves_need_test_files(tmp_path):
    path = write_csv(tmp_path / "a.csv", random_rows(50))
    with pytest.raises(InputError, match=r"split halves cuts the test files .* none are given; add --test"):
        load(path, split="halves")
    with pytest.raises(InputError, match="none are given; add --test"):
        prepare(path, tmp_path / "to", split="halves")
    assert not (tmp_path / "to").exists()
    one = write_csv(tmp_path / "one.csv", random_rows(1))
    with pytest.raises(InputError, match="too few for a train, a validation and a test part"):
        load(path, test=one, split="halves")


def test_test_rows_stay_the_last_whatever_the_split():
    for how in ("order", "random"):
        train, valid, test = split_rows(50, 10, how, 0)
        assert test.tolist() == list(range(40, 50))
        assert sorted([*train, *valid]) == list(range(40))
    assert valid.tolist() != list(range(36, 40))


@pytest.mark.parametrize(("rows", "test_rows"), [(2, None), (0, None), (5, 4), (5, 0)])
def test_too_few_rows(rows, test_rows):
    with pytest.raises(InputError, match="too few"):
        split_rows(rows, test_rows, "order", 0)


@pytest.mark.parametrize("min_count", [1, 2, 3])
def test_encode_against_plain_python(min_count):
    rng = np.random.default_rng(0)
    codes = rng.zipf(1.3, 500).clip(max=60) - 2  # -1 is missing
    training = rng.random(500) < 0.7
    rows, n = encode(RawField(codes), training, min_count)
    seen = [c for c, t in zip(codes.tolist(), training) if t and c >= 0]
    # falling frequency, ties in order of first appearance
    known = [c for c, times in Counter(seen).most_common() if times >= min_count]
    table = {c: k for k, c in enumerate(known, 1)}
    assert n == len(known) + 1
    assert rows.tolist() == [table.get(c, 0) for c in codes.tolist()]


def test_ids_numbered_at_random_keep_their_rows_apart():
    codes = np.random.default_rng(0).zipf(1.3, 500).clip(max=60) - 2
    training = np.arange(500) < 400
    rows, n = encode(RawField(codes), training, 1)
    other, m = encode(RawField(codes), training, 1, np.random.default_rng(0))
    assert n == m
    pairs = {*zip(rows.tolist(), other.tolist())}
    assert len(pairs) == n  # one to one
    assert (0, 0) in pairs
    assert any(a != b for a, b in pairs)


def test_numbering_is_the_same_again_and_is_told():
    by_frequency, random, again = (
        load(rows=2000, scale=0.001, number_ids=how) for how in ("frequency", "random", "random")
    )
    assert torch.equal(random.train.ids, again.train.ids)
    assert random.fingerprint == again.fingerprint != by_frequency.fingerprint
    assert random.about["number_ids"] == "random"
    assert random.row0_share == by_frequency.row0_share
    for some, other in zip(random.counts, by_frequency.counts):
        assert torch.equal(some.sort().values, other.sort().values)
    with pytest.raises(InputError, match=r"'alphabet'.*frequency, random"):
        load(rows=2000, scale=0.001, number_ids="alphabet")


def test_encode_numbers_by_frequency_in_the_rows_trained_on_then_by_first_appearance():
    codes = np.array([5, 3, 1, 1, 3, 5, 4, 4, 4, 0, 2, 2, 2, 2, 0, 0, 0])
    training = np.arange(17) < 10  # 2 and most of 0 only later: neither counts
    rows, n = encode(RawField(codes), training, 1)
    assert (rows.tolist(), n) == ([2, 3, 4, 4, 3, 2, 1, 1, 1, 5, 0, 0, 0, 0, 5, 5, 5], 6)
    rows, n = encode(RawField(codes), training, 2)
    assert (rows.tolist(), n) == ([2, 3, 4, 4, 3, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0], 5)


def test_encode_of_bags_counts_values_of_training_rows():
    field = RawField(np.array([0, 0, 1, 2, 1, 2, 2]), np.array([0, 2, 2, 5, 7]))
    rows, n = encode(field, np.array([True, True, True, False]), 2)
    assert (rows.tolist(), n) == ([1, 1, 2, 0, 2, 0, 0], 3)
    field = RawField(np.array([0, 1, 1, 2, 1, 2, 2]), np.array([0, 2, 2, 5, 7]))
    rows, n = encode(field, np.array([True, True, True, False]), 1)
    assert (rows.tolist(), n) == ([2, 1, 1, 3, 1, 3, 3], 4)


def test_encode_where_everything_is_missing():
    rows, n = encode(RawField(np.full(4, -1)), np.ones(4, bool), 2)
    assert (rows.tolist(), n) == ([0] * 4, 1)


def test_whole_path_against_plain_python(tmp_path):
    rows = random_rows(400)
    data = load([write_csv(tmp_path / "a.csv", rows)], label="label", sparse=["a", "b"], split="order")
    assert [len(p) for p in (data.train, data.valid, data.test)] == [288, 32, 80]
    for f in (0, 1):
        column = [r[f + 1] for r in rows]
        known = [v for v, n in Counter(column[:288]).most_common() if n >= 2]
        expected = [known.index(v) + 1 if v in known else 0 for v in column]
        assert torch.cat([p.ids[:, f] for p in (data.train, data.valid, data.test)]).tolist() == expected
        assert data.num_embeddings[f] == len(known) + 1
        assert data.counts[f].tolist() == [expected[:288].count(k) for k in range(len(known) + 1)]
        assert data.row0_share[f] == pytest.approx(expected[320:].count(0) / 80)
    assert data.train.ids.dtype == torch.int32
    assert data.counts[0].dtype == torch.int64


def test_test_rows_never_reach_the_vocabulary(tmp_path):
    rows = random_rows(300)
    one = load([write_csv(tmp_path / "a.csv", rows)], split="order")
    changed = rows[:240] + [(label, f"new{k % 3}", "x1") for k, (label, _, _) in enumerate(rows[240:])]
    two = load([write_csv(tmp_path / "b.csv", changed)], split="order")
    assert one.num_embeddings == two.num_embeddings
    for p, q in ((one.train, two.train), (one.valid, two.valid)):
        assert torch.equal(p.ids, q.ids)
    assert all(torch.equal(a, b) for a, b in zip(one.counts, two.counts))
    assert two.row0_share[0] == 1.0
    assert one.fingerprint != two.fingerprint


@pytest.mark.parametrize("split", ["order", "random"])
def test_validation_rows_never_reach_the_vocabulary(tmp_path, split):
    rows = random_rows(300)
    one = load([write_csv(tmp_path / "a.csv", rows)], split=split, min_count=1)
    changed = list(rows)
    train, valid, _ = split_rows(300, None, split, 0)
    for k, row in enumerate(valid.tolist()):
        changed[row] = (rows[row][0], f"new{k % 3}", "y1")  # unseen ids, and one that is frequent already
    two = load([write_csv(tmp_path / "b.csv", changed)], split=split, min_count=1)
    assert one.num_embeddings == two.num_embeddings
    for p, q in ((one.train, two.train), (one.test, two.test)):
        assert torch.equal(p.ids, q.ids)
    assert all(torch.equal(a, b) for a, b in zip(one.counts, two.counts))
    assert [int(c.sum()) for c in two.counts] == [216, 216]
    assert one.row0_share == two.row0_share
    assert two.valid.ids[:, 0].tolist() == [0] * 24
    known = Counter(rows[row][2] for row in train.tolist()).most_common()
    assert two.valid.ids[:, 1].tolist() == [[v for v, _ in known].index("y1") + 1] * 24
    assert one.fingerprint != two.fingerprint


def test_fingerprint_follows_what_reaches_the_model(tmp_path):
    rows = random_rows(100)
    path = write_csv(tmp_path / "a.csv", rows)
    first = load([path])
    assert load([path]).fingerprint == first.fingerprint
    assert len(first.fingerprint) == 16
    assert load([path], split_seed=1).fingerprint != first.fingerprint
    assert load([path], min_count=5).fingerprint != first.fingerprint


def test_no_dense_column_becomes_a_constant(tmp_path):
    data = load([write_csv(tmp_path / "a.csv", random_rows(50))])
    assert data.dense_names == ["(constant)"]
    assert data.train.dense.tolist() == [[1.0]] * len(data.train)


def test_one_class_is_refused(tmp_path):
    path = write_csv(tmp_path / "a.csv", [(1, "p", "q")] * 40)
    with pytest.raises(InputError, match=r"all 29 rows of the training part of a have label 1"):
        load([path], label="label")
    path = write_csv(tmp_path / "b.csv", [(k % 2 if k < 40 else 0, "p", "q") for k in range(50)])
    with pytest.raises(InputError, match=r"all 10 rows of the test part of b have label 0"):
        load([path], label="label", split="order")


def test_describe_is_plain_lines(tmp_path):
    text = describe(load([write_csv(tmp_path / "a.csv", random_rows(100))]))
    assert "72 train, 8 valid, 20 test rows" in text
    assert "label mean 0.500" in text
    assert "label (guessed): label" in text
    assert "sparse (guessed): a, b" in text
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"split": "time"}, ["'time'", "order, random, halves"]),
        ({"min_count": 0}, ["min_count is 0", "at least 1"]),
        ({"split_seed": -1}, ["split_seed is -1"]),
        ({"rows": 0}, ["rows is 0"]),
        ({"format": "cvs"}, ["'cvs'", "did you mean 'csv'"]),
        ({"format": "synthetic"}, ["a.csv does not belong here"]),
        ({"scale": 0.1}, ["csv has no option 'scale'", "belongs to synthetic"]),
        ({"fields": "f.txt"}, ["csv has no option 'fields'", "belongs to libfm"]),
        ({"colour": 1}, ["csv has no option 'colour'"]),
        ({"dense": 13}, ["dense is 13", "list of column names"]),
    ],
)
def test_bad_options(tmp_path, options, parts):
    path = write_csv(tmp_path / "a.csv", random_rows(50))
    with pytest.raises(InputError) as e:
        load([path], **options)
    assert all(part in str(e.value) for part in parts), str(e.value)


def test_bad_files(tmp_path):
    def message(*paths, **options):
        with pytest.raises(InputError) as e:
            load(paths, **options)
        assert "\n" not in str(e.value)
        return str(e.value)

    assert "nowhere.csv does not exist" in message(tmp_path / "nowhere.csv")
    assert "holds no file that is click data" in message(tmp_path)
    (tmp_path / "empty.csv").touch()
    assert "empty.csv is empty" in message(tmp_path / "empty.csv")
    (tmp_path / "blank.csv").write_text("\n\n")
    assert "blank.csv is empty" in message(tmp_path / "blank.csv")
    (tmp_path / "header.csv").write_text("label,a\n")
    assert "header.csv has columns but no rows" in message(tmp_path / "header.csv")
    (tmp_path / "data.bin").write_text("1,2,3\n")
    assert "give --format" in message(tmp_path / "data.bin")
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)) * 4)
    assert "is a binary file" in message(tmp_path / "noise.csv")
    (tmp_path / "latin.csv").write_bytes("label,a\n1,é\n".encode("latin-1"))
    assert "latin.csv, line 2: the text is not UTF-8" in message(tmp_path / "latin.csv")
    (tmp_path / "not.csv.gz").write_text("label,a\n1,2\n")
    assert "not a gzip file" in message(tmp_path / "not.csv.gz")
    (tmp_path / "cut.csv.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01")
    assert "damaged or cut off" in message(tmp_path / "cut.csv.gz")
    good = write_csv(tmp_path / "a.csv", random_rows(20))
    (tmp_path / "b.libfm").write_text("1 1:1\n")
    assert "must have one format" in message(good, tmp_path / "b.libfm")
    assert "nowhere.csv does not exist" in message(good, test=[tmp_path / "nowhere.csv"])
    assert "needs at least one data file" in message(format="csv")
