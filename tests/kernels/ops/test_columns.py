"""Columns taken apart and put together, against torch's own indexing."""

import pytest
import torch
from torch.library import opcheck

from embpress.kernels import ops
from embpress.kernels.errors import ArgumentError, DtypeError


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("rows", [0, 1, 300, 5000])
def test_columns_of_a_matrix(rows, dtype):
    x = torch.randint(0, 100, (rows, 9)).to(dtype)
    columns = torch.tensor([8, 0, 3, 3])
    assert torch.equal(ops.take_columns(x, columns), x[:, columns])
    assert torch.equal(ops.take_columns(x.t().contiguous().t(), columns), x[:, columns])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rows", [0, 1, 300, 3000])
def test_parts_come_to_their_places(rows, dtype):
    places = torch.tensor([4, 0, 2, 5, 1, 3])
    parts = [torch.randn(rows, n, 7).to(dtype) for n in (2, 1, 3)]
    want = torch.empty(rows, 6, 7, dtype=dtype)
    want[:, places] = torch.cat(parts, 1)
    assert torch.equal(ops.join_columns(parts, places), want)
    spread = [part.transpose(0, 1).contiguous().transpose(0, 1) for part in parts]
    assert torch.equal(ops.join_columns(spread, places), want)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dim", [1, 4, 5, 16, 64])
def test_columns_of_rows(dtype, dim):
    rows, columns = torch.randn(300, 7, dim).to(dtype), torch.tensor([6, 0, 0, 3])
    assert torch.equal(ops.take_columns(rows, columns), rows[:, columns])
    assert torch.equal(ops.take_columns(rows[:0], columns), rows[:0, columns])
    split = [ops.take_columns(rows, torch.tensor(own)) for own in ([1, 3], [0, 2, 4, 5, 6])]
    assert torch.equal(ops.join_columns(split, torch.tensor([1, 3, 0, 2, 4, 5, 6])), rows)


def test_what_does_not_fit_is_named():
    x, part = torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, 2, 5)
    with pytest.raises(ArgumentError, match="ids must be of shape"):
        ops.take_columns(part.long().unsqueeze(0), torch.tensor([0]))
    with pytest.raises(DtypeError, match="ids must be int32 or int64"):
        ops.take_columns(part[0], torch.tensor([0]))
    with pytest.raises(DtypeError, match="columns must be int64"):
        ops.take_columns(x, torch.tensor([0.0]))
    with pytest.raises((ArgumentError, IndexError, RuntimeError), match=r"no column 4|out of (range|DATA bounds)"):
        ops.take_columns(x, torch.tensor([4]))
    with pytest.raises(ArgumentError, match="no parts"):
        ops.join_columns([], torch.tensor([0]))
    with pytest.raises(ArgumentError, match="places must be of shape"):
        ops.join_columns([part], torch.tensor([0]))
    with pytest.raises(ArgumentError, match="one dtype"):
        ops.join_columns([part, part.double()], torch.tensor([0, 1, 2, 3]))


def test_opcheck():
    opcheck(torch.ops.embpress.take_columns.default, (torch.zeros(3, 4, dtype=torch.int64), torch.tensor([1, 0])))
    parts = [torch.zeros(3, 2, 5), torch.ones(3, 1, 5)]
    opcheck(torch.ops.embpress.join_columns.default, (parts, torch.tensor([2, 0, 1])))
