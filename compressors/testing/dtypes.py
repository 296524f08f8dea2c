"""Checks of narrow dtypes and of values that are no ids or sizes."""

from __future__ import annotations

import copy
from typing import cast

import numpy as np
import torch
from torch import Tensor

from embpress.compressors.base import Compressor
from embpress.compressors.testing.feature import NotApplicable, Use, feature, must_refuse
from embpress.compressors.testing.subject import D, N


def _trains(use: Use, dtype: torch.dtype) -> None:
    module = use.make(dtype=dtype)
    out = module(use.ids())
    assert out.dtype == dtype, f"lookups are of {out.dtype}"
    assert out.isfinite().all(), "a row is not finite"
    reference = copy.deepcopy(module).float()
    largest = float(use.answers(reference).abs().max())
    missed = float((use.answers(module).float() - use.answers(reference)).abs().max())
    assert missed <= 0.1 * largest, f"lookups are off by {missed:.3g}, the largest is {largest:.3g}"
    before = use.answers(module)
    use.step(module, rate=0.5)
    after = use.answers(module)
    assert after.isfinite().all(), "a row is not finite after a step"
    assert not torch.equal(after, before), "it does not train"


@feature("parameters in bfloat16, forward and backward")
def check_bfloat16(use: Use) -> None:
    """Built, looked up and trained in bfloat16."""
    _trains(use, torch.bfloat16)


@feature("parameters in float16, forward and backward")
def check_float16(use: Use) -> None:
    """Built, looked up and trained in float16."""
    _trains(use, torch.float16)


@feature("NumPy integers as sizes, floats refused")
def check_sizes(use: Use) -> None:
    """A size from NumPy is a size; what is no whole number is refused by name."""
    if use.collected:
        raise NotApplicable("sizes are a table's")
    make = use.subject.make
    table = make(cast("int", np.int64(N)), cast("int", np.int32(D)), padding_idx=np.int64(5))
    assert type(table.num_embeddings) is int and type(table.embedding_dim) is int, "the sizes stay NumPy's"  # noqa: PT018
    assert torch.equal(table.to_dense(), make(padding_idx=5).to_dense()), "the table is another"
    for n, dim, word in ((97.0, D, "97.0"), (97.5, D, "97.5"), (N, 16.0, "16.0"), (True, D, "True"), ("97", D, "97")):
        must_refuse(lambda n=n, dim=dim: make(n, dim), (TypeError, ValueError), word)  # type: ignore[misc]


@feature("ids that are no tensor, of another dtype or shape, are refused in words")
def check_wrong_ids(use: Use) -> None:
    """A sentence without C++ paths names what is wrong."""
    module = use.make()
    ids = use.ids()
    for wrong, word in ((ids.double(), "float64"), (ids.bool(), "bool"), (ids.to(torch.int16), "int16")):
        text = must_refuse(lambda wrong=wrong: module(wrong), (TypeError, ValueError), word)  # type: ignore[misc]
        assert ".cpp" not in text, f"the message {text!r} names C++ files"
    must_refuse(lambda: module(ids.numpy()), (TypeError,), "ndarray") if not use.collected else None
    must_refuse(lambda: module(ids.view(-1, 1, 1)), (ValueError,))


@feature("weights of another dtype are refused")
def check_weights_dtype(use: Use) -> None:
    """Per-sample weights are of the table's dtype, as `nn.EmbeddingBag` asks."""
    module, weights = use.make(), torch.ones(8, dtype=torch.float64, device=use.subject.device)
    ids, offsets = use.ids(), torch.arange(8, device=use.subject.device)
    bags = [(column, offsets, weights) for column in ids.unbind(1)]

    def call() -> Tensor:
        return module(bags) if use.collected else cast("Compressor", module)(*bags[0])

    text = must_refuse(call, (TypeError, ValueError, RuntimeError), "weights")
    assert not any(ending in text for ending in (".cpp", ".h:")), f"the message {text!r} names C++ files"
