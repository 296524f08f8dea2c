"""Checks of the arrays that a served table consists of."""

from __future__ import annotations

import torch

from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError
from embpress.compressors.testing.subject import N, Subject, close


def check_arrays(subject: Subject) -> None:
    """Rows put together from rows of the arrays are those that are looked up; the arrays are what is served."""
    if subject.cls.arrays is Compressor.arrays:
        return  # not said: modifiers that need it refuse the method by name
    table = subject.make().eval()
    try:
        arrays = table.arrays()
    except InputError:
        return  # it does not say: what serves in fewer bits refuses it by name
    if not arrays:
        return  # codes by now, which a check of the folded table sees
    ids = torch.arange(N, device=subject.device)
    group, tables = table.alone, torch.zeros_like(ids)
    close(group.assemble(ids, tables, group.take(tables)).detach(), table.to_dense(), "rows from arrays")
    folded = table.fold()
    for array in arrays:
        values = folded.array(array.name)
        assert values.numel() == array.rows * array.width, f"{array.name} has {values.numel()} elements"
        assert sum(array.parts) == array.rows, f"the segments of {array.name} have {sum(array.parts)} rows"
    held = sum(folded.array(array.name).numel() for array in arrays)
    floats = sum(entry.bytes // entry.itemsize for entry in table.ledger().serving if entry.itemsize)
    assert held == floats, f"the arrays have {held} elements, {floats} floating point ones are served"
