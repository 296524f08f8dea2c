"""Learned rows that leave TT-Rec's cache, written back into the train by least squares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from embpress.kernels.reference import tt_digits, tt_partials


@torch.no_grad()
def write_back(cores: Sequence[Tensor], ids: Tensor, values: Tensor) -> None:
    """Moves the last core's slices so that the rows `ids` come as near to `values` as that core alone allows.

    Rows with the same last digit share a slice `G (R, q)`; with their partial products stacked as `P` and what is
    missing as `E`, the slice gets the smallest change that solves `min ‖P X - E‖`. Other rows with that digit move
    too: this is the price that makes the paper drop evicted values instead.

    Args:
        cores: of one table, `(p_k, R_{k-1}, q_k, R_k)`; the last is changed in place.
        ids: `(E,)` int64, distinct.
        values: `(E, D)`.
    """
    digits = tt_digits(ids, [core.shape[0] for core in cores])
    partials, _ = tt_partials(list(cores[:-1]), digits[:-1])
    partial = partials[-1]  # (E, q_0 … q_{d-2}, R)
    last = cores[-1].data
    missing = values.view(len(ids), partial.shape[1], last.shape[2]) - partial @ last[digits[-1]].squeeze(-1)
    for digit in digits[-1].unique().tolist():
        own = digits[-1] == digit
        # on the CPU: elsewhere lstsq wants full rank, which few rows do not have
        left, right = partial[own].flatten(0, 1).cpu(), missing[own].flatten(0, 1).cpu()
        change = torch.linalg.lstsq(left, right, driver="gelsd").solution
        last[digit] += change.unsqueeze(-1).to(last)
