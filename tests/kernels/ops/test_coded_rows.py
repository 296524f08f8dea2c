"""Rows decoded from codes against plain Python: one code at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator
from torch.library import opcheck

from embpress.kernels import ops
from embpress.kernels.errors import ArgumentError, DtypeError

BITS = (1, 2, 4, 8)


def codes_of(values, bits, rows_of_bytes):
    """Packed codes `(rows, width)`, as rows of bytes or as bytes that rows share."""
    if not rows_of_bytes:
        values = values.reshape(1, -1)
    a_byte = 8 // bits
    packed = []
    for row in values.tolist():
        row += [0] * (-len(row) % a_byte)
        packed.append([sum(row[i + j] << j * bits for j in range(a_byte)) for i in range(0, len(row), a_byte)])
    made = torch.tensor(packed, dtype=torch.uint8)
    return made if rows_of_bytes else made.flatten()


def some_ranges(g, *shape):
    return torch.randn(*shape, generator=g).bfloat16()


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(BITS),
    st.integers(1, 37),
    st.integers(1, 3),
    st.integers(0, 200),
    st.integers(1, 4),
    st.sampled_from(["column", "row"]),
    st.integers(0, 999),
)
def test_rows_of_several_arrays(bits, width, arrays, count, each, kind, seed):
    g = Generator().manual_seed(seed)
    own_bytes = width * bits % 8 == 0
    made, tables = [], []
    for _ in range(arrays):
        rows = int(torch.randint(1, 9, (1,), generator=g))
        values = torch.randint(0, 2**bits, (rows, width), generator=g)
        tables.append((values, some_ranges(g, 2 if kind == "column" else rows, 2, *[width] * (kind == "column"))))
        made.append(codes_of(values, bits, own_bytes))
    begins = torch.tensor([0, *[len(part) for part in made]]).cumsum(0)[:-1]
    ranges_begin = torch.tensor([0, *[len(ranges) for _, ranges in tables]]).cumsum(0)[:-1]
    table = torch.randint(0, arrays, (count,), generator=g)
    index = torch.tensor(
        [[int(torch.randint(0, len(tables[t][0]), (1,), generator=g)) for _ in range(each)] for t in table]
    )
    index = index.long().view(count, each)
    segments = torch.randint(0, 2, (each,), generator=g)
    got = ops.coded_rows(
        torch.cat(made),
        torch.cat([ranges for _, ranges in tables]),
        index,
        bits=bits,
        width=width,
        kind=kind,
        segments=segments if kind == "column" else None,
        code_starts=begins[table],
        range_starts=ranges_begin[table],
    )
    assert got.shape == (count, each, width)
    for i, t in enumerate(table.tolist()):
        values, ranges = tables[t]
        for j, row in enumerate(index[i].tolist()):
            lo, step = (ranges[segments[j]] if kind == "column" else ranges[row].unsqueeze(1)).float()
            torch.testing.assert_close(got[i, j], lo + step * values[row])


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(BITS), st.integers(1, 400), st.integers(0, 3000), st.integers(0, 999))
def test_elements_of_blocks(bits, size, count, seed):
    g = Generator().manual_seed(seed)
    blocks = -(-size // 64)
    values = torch.randint(0, 2**bits, (blocks, 64), generator=g)
    ranges = some_ranges(g, blocks, 2)
    index = torch.randint(0, size, (count, 2), generator=g)
    got = ops.coded_rows(codes_of(values, bits, True), ranges, index, bits=bits, width=1, kind="block")
    lo, step = ranges[index // 64].float().unbind(-1)
    torch.testing.assert_close(got.squeeze(-1), lo + step * values.flatten()[index])


@pytest.mark.parametrize("bits", BITS)
def test_one_array_and_one_segment_need_no_more(bits):
    g = Generator().manual_seed(1)
    values, ranges = torch.randint(0, 2**bits, (5, 8), generator=g), some_ranges(g, 1, 2, 8)
    index = torch.tensor([[4], [0]])
    got = ops.coded_rows(codes_of(values, bits, True), ranges, index, bits=bits, width=8, kind="column")
    torch.testing.assert_close(got, ranges[0, 0].float() + ranges[0, 1].float() * values[index])


def test_what_does_not_fit_is_named():
    codes, ranges = torch.zeros(5, 4, dtype=torch.uint8), torch.zeros(1, 2, 8).bfloat16()
    index = torch.tensor([[4]])
    known = {"bits": 4, "width": 8, "kind": "column"}
    with pytest.raises(DtypeError, match="codes must be uint8"):
        ops.coded_rows(codes.float(), ranges, index, **known)
    with pytest.raises(DtypeError, match="ranges must be bfloat16"):
        ops.coded_rows(codes, ranges.float(), index, **known)
    with pytest.raises(ArgumentError, match="bits must be"):
        ops.coded_rows(codes, ranges, index, **{**known, "bits": 3})
    with pytest.raises(ArgumentError, match="kind must be at least 0"):
        ops.coded_rows(codes, ranges, index, **{**known, "kind": "table"})
    with pytest.raises(ArgumentError, match="go together"):
        ops.coded_rows(codes, ranges, index, code_starts=torch.tensor([0]), **known)


@pytest.mark.skipif(ops.backend("coded_rows") != "native", reason="plain PyTorch says it in its own words")
@pytest.mark.parametrize("wrong", [-1, 5, 2**40])
def test_an_index_outside_is_refused_and_reads_nothing(wrong):
    codes, ranges = torch.zeros(5, 4, dtype=torch.uint8), torch.zeros(1, 2, 8).bfloat16()
    with pytest.raises(ArgumentError, match="an index lies outside of the 20 bytes"):
        ops.coded_rows(codes, ranges, torch.tensor([[wrong]]), bits=4, width=8, kind="column")


def test_opcheck():
    codes, ranges = torch.zeros(5, 4, dtype=torch.uint8), torch.zeros(2, 2, 8).bfloat16()
    index, starts = torch.tensor([[0, 1], [2, 2]]), torch.tensor([1, 2])
    for extra in ((None, None, None), (torch.tensor([0, 1]), None, None), (None, starts, torch.tensor([0, 1]))):
        opcheck(torch.ops.embpress.coded_rows.default, (codes, ranges, index, *extra, 4, 8, 0))
