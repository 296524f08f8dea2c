"""Spectra against torch's singular values."""

import pytest
import torch

from embpress.compressors import create
from embpress.dlrm.measure import spectrum as module
from embpress.dlrm.measure.spectrum import spectrum


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("method", ["full", "mlet:k=12", "mlet:k=3:force=true"])
@pytest.mark.parametrize("rows", [3, 500])
def test_it_is_that_of_the_served_table(method, rows, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 7)
    table = create(method, rows, 8, dtype=torch.float64, generator=seeded())
    values = torch.linalg.svdvals(table.to_dense())
    want = (values / values[0]).tolist()
    assert spectrum(table) == pytest.approx(want, abs=1e-7)
    assert len(want) == min(rows, 8)


def test_what_is_served_otherwise_has_none():
    assert [spectrum(create(method, 500, 8)) for method in ("tt:rank=2", "hash", "full+bf16")] == [(), (), ()]
    table = create("full", 500, 8)
    torch.nn.init.zeros_(table.weight)
    assert spectrum(table) == ()
    torch.nn.init.constant_(table.weight, float("nan"))
    assert spectrum(table) == ()
