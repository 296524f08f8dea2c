"""Folded tables compiled to C++ ahead of time, by inductor and AOTInductor: where there is a compiler."""

import os
import shutil

import pytest
import torch
from torch import Generator, nn
from torch.export import Dim, export

from embpress.compressors import TableCollection, TableConfig

SPECS = ("full", "hash", "robe:z=4", "qr", "mlet", "tt:rank=4", "hash+bf16")
CONFIGS = [TableConfig(rows, 8) for rows in (300, 20, 250)]
needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler for inductor here"
)


class All(nn.Module):
    """A folded collection of every method: to compile one program takes less than to compile six."""

    def __init__(self, specs):
        super().__init__()
        seeded = Generator().manual_seed(0)
        self.each = nn.ModuleList(TableCollection.build(CONFIGS, spec, generator=seeded).fold() for spec in specs)

    def forward(self, ids):
        return torch.stack([tables(ids) for tables in self.each])


def ids(size):
    return torch.randint(20, (size, 3), generator=Generator().manual_seed(size))


@needs_compiler
def test_aotinductor(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    model, twin = All(SPECS), All(SPECS)
    program = export(model, (ids(6),), dynamic_shapes=({0: Dim("batch", max=1024)},))
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "tables.pt2"))
    served = torch._inductor.aoti_load_package(path)
    for size in (6, 1, 33):
        torch.testing.assert_close(served(ids(size)), twin(ids(size)), rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match=r"id out of range \(id=1000000 table=0 rows=300\)"):
        served(torch.full((2, 3), 1_000_000))


@needs_compiler
def test_inductor(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    torch._dynamo.reset()
    model, twin = All(("hash", "tt:rank=4")), All(("hash", "tt:rank=4"))
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for size in (6, 33):
        torch.testing.assert_close(compiled(ids(size)), twin(ids(size)), rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="id=1000000 table=0 rows=300"):  # the op's own, nobody names the table
        compiled(torch.full((2, 3), 1_000_000))
