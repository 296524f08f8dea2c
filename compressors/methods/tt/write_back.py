"""Learned rows that leave TT-Rec's cache, written back into the train by least squares."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from embpress.kernels.reference import tt_digits, tt_partials

_NOTHING = 1e-12  # share of the largest eigenvalue below which a direction is one that no row has


@torch.no_grad()
def write_back(cores: Sequence[Tensor], ids: Tensor, values: Tensor) -> None:
    """Moves the last core's slices so that the rows `ids` come nearer to `values` than other rows are moved away.

    Rows with the same last digit share a slice `G (R, q)`, which gets the change X of least squares over all of them:
    what is missing, `‖p X - e‖²`, over the rows `ids`, and the movement `‖p X‖²` over all others, where p `(…, R)` is a
    row's partial product. The sum of both is never more than what was missing. Without the others, partial products
    that are nearly dependent would ask for changes of any size. In a large table a row moves little, as its slice is
    that of many: this is the price that makes the paper drop evicted values instead.

    Values or cores that are not finite change nothing.

    Args:
        cores: of one table, `(p_k, R_{k-1}, q_k, R_k)`; the last is changed in place.
        ids: `(E,)` int64, distinct.
        values: `(E, D)`.
    """
    digits = tt_digits(ids, [core.shape[0] for core in cores])
    before, last = [core.double() for core in cores[:-1]], cores[-1].data
    partials, _ = tt_partials(before, digits[:-1])
    partial = partials[-1]  # (E, q_0 … q_{d-2}, R)
    start = partial @ last[digits[-1]].squeeze(-1).double()
    missing = values.double().view(len(ids), partial.shape[1], last.shape[2]) - start
    inverse = _inverse_of_all(before)
    for digit in digits[-1].unique().tolist():
        own = digits[-1] == digit
        change = inverse @ (partial[own].flatten(0, 1).t() @ missing[own].flatten(0, 1))
        if bool(change.isfinite().all()):
            last[digit] += change.unsqueeze(-1).to(last)


def _inverse_of_all(cores: Sequence[Tensor]) -> Tensor:
    """The pseudoinverse `(R, R)` of the sum of `pᵀ p` over the partial products p `(q_0 … q_{d-2}, R)` of all rows."""
    gram = cores[0].new_ones(1, 1)
    for core in cores:
        gram = torch.einsum("piqr,ij,pjqs->rs", core, gram, core)
    if not bool(gram.isfinite().all()):
        return torch.full_like(gram, math.nan)
    sizes, vectors = torch.linalg.eigh(gram)
    kept = sizes > _NOTHING * sizes[-1]
    return vectors[:, kept] / sizes[kept] @ vectors[:, kept].t()
