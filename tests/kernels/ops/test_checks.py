"""Ids and offsets inside an op: what comes out, and that no compiler leaves the check out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.library import opcheck

from embpress.kernels import ops, reference
from embpress.kernels.errors import IdOutOfRange, OffsetsError

BOTH = pytest.mark.parametrize("module", [ops, reference])
INTEGERS = st.sampled_from([torch.int32, torch.int64])


@pytest.fixture(autouse=True)
def checked(monkeypatch):
    monkeypatch.setenv("EMBPRESS_CHECK", "1")  # else nobody looks on CUDA


@st.composite
def calls(draw):
    """Tables, ids of which one may be wrong, and whether they come in columns or with their tables."""
    rows = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    tables = draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    if draw(st.booleans()):
        tables = [t for _ in tables for t in range(len(rows))]
    ids = [draw(st.integers(0, rows[t] - 1)) for t in tables]
    if ids and draw(st.booleans()):
        ids[draw(st.integers(0, len(ids) - 1))] = draw(st.sampled_from([-1, 9, 2**31 - 1, -(2**31)]))
    return rows, tables, ids, draw(st.booleans()), draw(INTEGERS)


@settings(deadline=None, max_examples=200)
@given(calls())
def test_ids_are_rows_of_all_tables_or_the_first_wrong_one_is_named(call):
    rows, tables, ids, added, dtype = call
    offsets = [sum(rows[:t]) for t in range(len(rows))]
    wrong = next((i for i, (id, t) in enumerate(zip(ids, tables)) if not 0 <= id < rows[t]), None)
    given_ids = torch.tensor(ids, dtype=dtype)
    known = {
        "row_offsets": torch.tensor(offsets) if added else None,
        "tables": torch.tensor(tables, dtype=torch.int64),
    }
    forms = [(given_ids, known)]
    if tables == [i % len(rows) for i in range(len(tables))] and len(tables) % len(rows) == 0:
        forms.append((given_ids.view(-1, len(rows)), {**known, "tables": None}))
    for check in (ops.check_ids, reference.check_ids):
        for own, others in forms:
            if wrong is not None:
                with pytest.raises(IdOutOfRange) as caught:
                    check(own, torch.tensor(rows), **others)
                error = caught.value
                assert (error.id, error.table, error.rows) == (ids[wrong], tables[wrong], rows[tables[wrong]])
                continue
            made = check(own, torch.tensor(rows), **others)
            assert made.dtype == torch.int64
            assert made.shape == own.shape
            assert made.flatten().tolist() == [id + added * offsets[t] for id, t in zip(ids, tables)]


@BOTH
def test_what_comes_out_is_nobody_elses(module):
    rows = torch.tensor([9])
    for ids in (torch.tensor([3, 8]), torch.tensor([[3, 8], [1, 2]]).t(), torch.tensor(3)):
        made = module.check_ids(ids, rows)
        assert torch.equal(made, ids)
        made += 1
        assert int(ids.max()) <= 8
    offsets = torch.tensor([0, 2])
    made = module.check_offsets(offsets, 2)
    made += 1
    assert offsets.tolist() == [0, 2]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(-1, 5), min_size=1, max_size=6), st.integers(0, 5), st.booleans(), INTEGERS)
def test_offsets_make_bags_or_are_refused(values, size, last, dtype):
    whole = values if last else [*values, size]
    right = whole[0] == 0 and whole[-1] == size and whole == sorted(whole)
    for check in (ops.check_offsets, reference.check_offsets):
        offsets = torch.tensor(values, dtype=dtype)
        if right:
            made = check(offsets, size, include_last_offset=last)
            assert made.dtype == torch.int64
            assert made.tolist() == whole
        else:
            with pytest.raises(OffsetsError):
                check(offsets, size, include_last_offset=last)


@BOTH
def test_nothing_makes_no_bags(module):
    nothing = torch.zeros(0, dtype=torch.int64)
    assert module.check_offsets(nothing, 0, include_last_offset=False).tolist() == [0]
    assert module.check_ids(nothing.view(0, 2), torch.tensor([3, 4])).shape == (0, 2)


def test_a_table_that_is_not_there_is_refused():
    for tables in ([0, 2], [-1, 0], [0, 2**40]):
        with pytest.raises(ValueError, match="tables"):
            ops.check_ids(torch.tensor([0, 0]), torch.tensor([3, 4]), tables=torch.tensor(tables))


def test_opcheck():
    rows, ids = torch.tensor([9, 4]), torch.tensor([[3, 1], [8, 0]])
    opcheck(torch.ops.embpress.check_ids.default, (ids, rows, None, None))
    opcheck(torch.ops.embpress.check_ids.default, (ids.int(), rows, rows, None))
    opcheck(torch.ops.embpress.check_ids.default, (ids.flatten(), rows, None, torch.tensor([0, 1, 0, 1])))
    opcheck(torch.ops.embpress.check_offsets.default, (torch.tensor([0, 2, 5]), 5, True))
    opcheck(torch.ops.embpress.check_offsets.default, (torch.tensor([0, 2, 5]).int(), 6, False))
