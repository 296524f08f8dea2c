"""Bags of ROBE's rows against a loop over ids and single lookups, and what the op refuses."""

import subprocess
import sys

import pytest
import torch
from torch.autograd import gradcheck
from torch.library import opcheck

from embpress.kernels import ops, portable
from embpress.kernels.errors import ArgumentError, IdOutOfRange, OffsetsError

PRIME = 2038074743
SIZE, Z, DIM = 97, 4, 10
ROWS = torch.tensor([50, 1, 10**9])
TABLES = {"row_offsets": torch.tensor([3, 60, 70]), "rows": ROWS}
# two bags a table: several ids, one twice, none, the last row
IDS = torch.tensor([3, 49, 3, 0, 0, 0, 10**9 - 1, 5])
OFFSETS = torch.tensor([0, 3, 4, 6, 6, 6, 8])
WAYS = ["sum", "mean", "weights"]


@pytest.fixture(autouse=True)
def checked(monkeypatch):
    monkeypatch.setenv("EMBPRESS_CHECK", "1")  # else nothing is looked for on CUDA


def case(sign=False, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    memory = torch.randn(SIZE, dtype=torch.float64, generator=generator).to(dtype)
    weights = torch.randn(len(IDS), dtype=torch.float64, generator=generator).to(dtype)
    return memory, torch.randint(1, PRIME, (6 if sign else 3,), generator=generator), weights


def bags(memory, coefficients, weights=None, ids=IDS, offsets=OFFSETS, device="cpu", **options):
    known = {name: tensor.to(device) for name, tensor in {**TABLES, "coefficients": coefficients}.items()}
    given = None if weights is None else weights.to(device)
    return ops.robe_bags(
        memory.to(device), ids.to(device), offsets.to(device), given, **known, **{"z": Z, "dim": DIM, **options}
    )


def one_by_one(memory, coefficients, weights, mean):
    """Bags as sums of rows that are looked up alone."""
    out = []
    for bag in range(6):
        total = torch.zeros(DIM, dtype=memory.dtype)
        begin, end = OFFSETS[bag], OFFSETS[bag + 1]
        for i in range(begin, end):
            table = {name: numbers[bag // 2 : bag // 2 + 1] for name, numbers in TABLES.items()}
            row = ops.robe_lookup(memory, IDS[i].view(1, 1), coefficients, **table, z=Z, dim=DIM)[0, 0]
            total = total + (row if weights is None else weights[i] * row)
        out.append(total / max(1, end - begin) if mean else total)
    return torch.stack(out)


@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_bags_and_gradients_are_those_of_single_lookups(way, sign, device):
    memory, coefficients, weights = case(sign)
    found, expected = [], []
    for on, leaves in ((device, found), (None, expected)):
        own = memory.clone().requires_grad_()
        given = weights.clone().requires_grad_() if way == "weights" else None
        if on:
            out = bags(own, coefficients, given, device=on, mean=way == "mean").cpu()
        else:
            out = one_by_one(own, coefficients, given, way == "mean")
        leaves += [out, *torch.autograd.grad(out.square().sum(), [own, *([] if given is None else [given])])]
    for got, want in zip(found, expected):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_gradcheck(way):
    memory, coefficients, weights = case(sign=True)
    leaves = [memory.requires_grad_(), *([weights.requires_grad_()] if way == "weights" else [])]
    assert gradcheck(lambda m, *w: bags(m, coefficients, *w, mean=way == "mean"), leaves)


@pytest.mark.parametrize("weighted", [False, True])
def test_opcheck(weighted, device):
    memory, coefficients, weights = (tensor.to(device) for tensor in case(sign=True))
    given = weights if weighted else None
    known = (given, *(TABLES[name].to(device) for name in ("row_offsets", "rows")), coefficients)
    jagged = (IDS.to(device), OFFSETS.to(device))
    opcheck(torch.ops.embpress.robe_bags.default, (memory, *jagged, *known, Z, DIM, False))
    grad = torch.randn(6, DIM, dtype=torch.float64, device=device)
    opcheck(torch.ops.embpress.robe_bags_backward.default, (grad, memory, *jagged, *known, SIZE, Z, False, False))
    for leaf in (memory, *([weights] if weighted else [])):
        leaf.requires_grad_()
    opcheck(torch.ops.embpress.robe_bags_train.default, (memory, *jagged, *known, Z, DIM, False, False))


@pytest.mark.parametrize("way", WAYS)
def test_no_ids_and_no_bags(way, device):
    memory, coefficients, _ = case()
    nothing = torch.zeros(0, dtype=torch.float64, requires_grad=True) if way == "weights" else None
    for offsets in (torch.zeros(7, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)):
        own = memory.clone().requires_grad_()
        out = bags(own, coefficients, nothing, IDS[:0], offsets, device, mean=way == "mean")
        assert torch.equal(out.cpu(), torch.zeros(len(offsets) - 1, DIM, dtype=torch.float64))
        out.sum().backward()
        assert torch.equal(own.grad, torch.zeros_like(memory))


@pytest.mark.parametrize("trained", [False, True])
def test_what_makes_no_bags_is_refused_by_its_name(trained, device):
    memory, coefficients, weights = case()
    memory.requires_grad_(trained)

    def refused(error, match, **changed):
        with pytest.raises(error, match=match):
            bags(memory, coefficients, **{"device": device, **changed})

    def with_id(place, value):
        ids = IDS.clone()
        ids[place] = value
        return ids

    refused(IdOutOfRange, "id 50 is out of range: table 0 has 50 rows", ids=with_id(2, 50))
    refused(IdOutOfRange, "id 1 is out of range: table 1 has 1 rows", ids=with_id(5, 1))
    refused(IdOutOfRange, "id -1 is out of range: table 2", ids=with_id(7, -1))
    refused(OffsetsError, "must start at 0, got 1", offsets=OFFSETS + (torch.arange(7) == 0))
    refused(OffsetsError, "must be the input's length 8, got 7", offsets=OFFSETS.clamp(max=7))
    refused(OffsetsError, "must not decrease", offsets=OFFSETS[[0, 2, 1, 3, 4, 5, 6]])
    refused(OffsetsError, "must not decrease", offsets=torch.tensor([0, 3, 2**62, -(2**62), 6, 6, 8]))
    refused(ArgumentError, "6 offsets are not those of the bags of 3 tables", offsets=OFFSETS[1:])
    refused(ArgumentError, "weights go with sums", weights=weights, mean=True)
    refused(ArgumentError, "z must be at least 1 and at most 10", z=11)


def test_without_weights_the_memory_may_change_before_the_backward(device):
    memory, coefficients, _ = case()
    own = memory.to(device).requires_grad_()
    out = bags(own, coefficients, device=device)
    with torch.no_grad():
        own.mul_(2)
    out.sum().backward()
    assert own.grad.abs().sum() > 0


def test_nothing_is_kept_that_grows_with_the_width(device):
    kept, memory = [], torch.randn(4096, device=device, requires_grad=True)

    def keep(tensor):
        kept.append(tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        bags(memory, case()[1], device=device, dim=2048)
    assert 8 * len(IDS) <= sum(kept) <= 8 * len(IDS) + 1024


@pytest.mark.parametrize("way", WAYS)
def test_the_portable_form_answers_as_the_op_does(way):
    memory, coefficients, weights = case(sign=True)
    given = weights if way == "weights" else None
    own = (memory, IDS, OFFSETS, given, *TABLES.values(), coefficients, Z, DIM, way == "mean")
    torch.testing.assert_close(portable.robe_bags(*own), bags(memory, coefficients, given, mean=way == "mean"))


GROWTH = """
import resource, torch
from embpress.kernels import ops

ids, offsets = torch.arange(400_000), torch.arange(0, 400_001, 400)
memory = torch.randn(4096, requires_grad=True)
weights = torch.randn(400_000, requires_grad=True)
known = {"coefficients": torch.tensor([5, 6, 7]), "row_offsets": torch.tensor([0]), "rows": torch.tensor([400_000])}

def step(count):
    out = ops.robe_bags(memory, ids[:count], offsets[: count // 400 + 1], weights[:count], **known, z=8, dim=128)
    out.sum().backward()

step(400)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(400_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.cpu_only
@pytest.mark.skipif(ops.backend("robe_bags") != "native", reason="the native ops are not compiled here")
def test_no_row_of_an_id_is_written_down():
    """The rows of all ids would be 205 MB; their weights' gradients are 1.6 MB."""
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40_000  # kilobytes
