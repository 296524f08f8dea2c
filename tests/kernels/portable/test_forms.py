"""The portable form of each op that answers lookups, against the op, and traced for batches of any size."""

from unittest import mock

import pytest
import torch
from op_calls import METHODS, table_calls
from torch import nn
from torch.export import Dim, export
from torch.overrides import TorchFunctionMode

from embpress.compressors import group
from embpress.compressors.tables import collection
from embpress.kernels import found, ops, portable
from embpress.kernels.reference.coded_rows import RANGES

SPECS = (
    *(spec for spec in METHODS if spec != "full"),
    "tt:rank=3:num_cores=2:cache_rows=5:warmup=1000000",
    "robe:z=5:sign=true",
)


class Recorded(TorchFunctionMode):
    """Calls of ops that answer lookups, with what they returned."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func._schema.name if isinstance(func, torch._ops.OpOverload) else ""
        if name.startswith("embpress::") and name.endswith(("_lookup", "_bag")):
            self.calls.append((name.partition("::")[2], args, out))
        return out


def recorded(spec, seed):
    """Calls by which tables answer one id a bag, alone and together, where they are traced."""
    traced = {"serving": mock.Mock(return_value=False)}
    with (
        Recorded() as mode,
        torch.no_grad(),
        mock.patch.multiple(group, **traced),
        mock.patch.multiple(collection, **traced),
    ):
        for call in table_calls(seed, (spec,)):
            if call.fixed:
                call.forward()
    return mode.calls[-2:]  # a cache that is filled looks rows up, too


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_form_answers_as_its_op_does(spec, seed):
    calls = recorded(spec, seed)
    assert len(calls) == 2
    for op, arguments, expected in calls:
        answer = getattr(portable, op)(*arguments)
        # rows and elements are products of few factors: only their order may differ
        torch.testing.assert_close(answer, expected, rtol=1e-5, atol=1e-7)


class Call(nn.Module):
    def __init__(self, form, arguments, at):
        super().__init__()
        self.form, self.arguments, self.at = form, list(arguments), at

    def forward(self, ids):
        return self.form(*self.arguments[: self.at], ids, *self.arguments[self.at + 1 :])


@pytest.mark.parametrize("spec", ["hash:parts=4", "qr", "robe:z=3:sign=true", "tt:rank=4:cache_rows=8:warmup=1000000"])
def test_a_form_traces_for_any_batch(spec):
    op, arguments, _ = recorded(spec, 0)[-1]  # of three tables
    at = 2 if op == "tt_embedding_bag" else 1
    ids = arguments[at]
    call = Call(getattr(portable, op), arguments, at)
    program = export(call, (ids[:5],), dynamic_shapes=({0: Dim("batch")},))
    assert not [node for node in program.graph.nodes if "embpress" in str(node.target)]
    for size in (1, 2, 33, 0):
        some = ids.repeat(33, 1)[:size]
        want = getattr(torch.ops.embpress, op)(*arguments[:at], some, *arguments[at + 1 :])
        torch.testing.assert_close(program.module()(some), want, rtol=1e-5, atol=1e-7)


def test_bags_have_no_portable_tensor_train():
    cores = [torch.rand(4, 1, 2, 3), torch.rand(4, 3, 2, 1)]
    arguments = (cores, [], torch.tensor([[1, 2]]), None, None, [16], [], 2, False, True)
    assert ops.tt_embedding_bag(cores, arguments[2], num_embeddings=[16], num_cores=2).shape == (1, 1, 4)
    with pytest.raises(NotImplementedError, match="one id"):
        portable.tt_embedding_bag(*arguments)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("spec", ["hash:parts=4", "qr", "robe:z=3:sign=true", "tt:rank=4", "mlet:k=80"])
def test_a_form_computes_in_the_dtypes_of_its_op(spec, dtype):
    """Sums and products of bfloat16 are float32's, and rounded once."""
    with Recorded() as mode, torch.no_grad():
        for call in table_calls(0, (spec,)):
            if call.fixed:
                call.on("cpu", dtype).forward()
    for op, arguments, expected in mode.calls:
        answer = getattr(portable, op)(*arguments)
        assert answer.dtype == expected.dtype
        step = 2**-8 if dtype == torch.bfloat16 else 1e-12
        torch.testing.assert_close(answer, expected, rtol=step, atol=step / 1000)


def test_checked_ids_and_offsets_are_those_of_the_op():
    ids, rows, starts = torch.tensor([[3, 1], [0, 4]], dtype=torch.int32), torch.tensor([4, 5]), torch.tensor([0, 4])
    tables = torch.tensor([[1, 0], [0, 1]])
    for more in ((None, None), (starts, None), (starts, tables)):
        want = torch.ops.embpress.check_ids(ids, rows, *more)
        assert torch.equal(portable.check_ids(ids, rows, *more), want)
    for offsets, last in ((torch.tensor([0, 2, 7]), True), (torch.tensor([0, 2], dtype=torch.int32), False)):
        want = torch.ops.embpress.check_offsets(offsets, 7, last)
        answer = portable.check_offsets(offsets, 7, last)
        assert torch.equal(answer, want)
        assert answer.dtype == want.dtype


def test_an_op_without_form_says_so():
    with pytest.raises(AttributeError, match="no portable form of count_ids"):
        _ = portable.count_ids


def test_forms_are_functions_and_rows_of_codes_answer_as_their_op_does():
    """A form that is imported into its module under its own name would leave the module in its place."""
    named = [name for name in found.names(portable.__name__) if hasattr(torch.ops.embpress, name)]
    assert "coded_rows" in named
    assert all(callable(getattr(portable, name)) for name in named)
    codes = torch.randint(256, (9, 8), dtype=torch.uint8, generator=torch.manual_seed(0))
    ranges, index = torch.rand(9, 2).bfloat16(), torch.tensor([[3, 0, 8]])
    arguments = (codes, ranges, index, None, None, None, 4, 16, RANGES.index("row"))
    expected = torch.ops.embpress.coded_rows(*arguments)
    torch.testing.assert_close(portable.coded_rows(*arguments), expected, rtol=1e-5, atol=1e-7)
