"""Tensor trains in bfloat16 and float16 on the CPU: the same bits as from cores that were widened before."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embpress.kernels import ops
from embpress.kernels.errors import IdOutOfRange

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(hasattr(torch.ops.embpress, "emulates_cuda"), reason="about the CPU's own kernels"),
]


@st.composite
def calls(draw):
    """Trains of few or many slices, and lookups of all kinds: small batches need few of the slices."""
    d, tables = draw(st.integers(2, 4)), []
    for _ in range(draw(st.integers(1, 3))):
        factors = [draw(st.integers(1, 40)) for _ in range(d)]
        ranks = [1, *(draw(st.integers(1, 8)) for _ in range(d - 1)), 1]
        tables.append((factors, ranks, draw(st.integers(1, math.prod(factors)))))
    return {
        "columns": [draw(st.integers(1, 3)) for _ in range(d)],
        "tables": tables,
        "dtype": draw(st.sampled_from([torch.bfloat16, torch.float16])),
        "bags": draw(st.booleans()),
        "mode": draw(st.sampled_from(["sum", "mean", "weights"])),
        "padded": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**31)),
    }


@settings(deadline=None, max_examples=150)
@given(calls())
def test_narrow_cores_give_the_bits_of_wide_ones(call):
    g, d = torch.Generator().manual_seed(call["seed"]), len(call["columns"])
    cores, sizes = [], [n for _, _, n in call["tables"]]
    for p, r, _ in call["tables"]:
        cores += [torch.randn(p[k], r[k], call["columns"][k], r[k + 1], generator=g) for k in range(d)]
    cores = [core.to(call["dtype"]) for core in cores]
    if call["bags"]:
        lengths = torch.randint(0, 3, (len(sizes), 3), generator=g)
        ids = torch.cat([torch.randint(n, (int(own.sum()),), generator=g) for n, own in zip(sizes, lengths)])
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.flatten().cumsum(0)])
    else:
        ids, offsets = torch.cat([torch.randint(n, (3, 2), generator=g) for n in sizes], 1), None
    weights = torch.randn(ids.shape, generator=g).to(call["dtype"]) if call["mode"] == "weights" else None
    options = {"num_embeddings": sizes, "num_cores": d, "mean": call["mode"] == "mean"}
    if call["padded"]:
        options["padding_idx"] = [
            int(ids.flatten()[0]) if ids.numel() and int(ids.flatten()[0]) < n else -1 for n in sizes
        ]

    def lookup(own, of=ids):
        wide = None if weights is None else weights.to(own[0].dtype)
        return ops.tt_embedding_bag(own, of, offsets, wide, **options)

    want = lookup([core.float() for core in cores]).to(call["dtype"])
    assert torch.equal(lookup(cores), want)
    assert torch.equal(lookup([core.requires_grad_() for core in cores]).detach(), want)
    if ids.numel():
        ids.view(-1)[-1] = 10**9
        with torch.no_grad(), pytest.raises(IdOutOfRange):
            lookup(cores)
