"""The weights' file against the safetensors library, in both directions."""

import pytest
import torch

from embpress.dlrm.export import loader, safetensors

library = pytest.importorskip("safetensors.torch")


def tensors():
    generator = torch.Generator().manual_seed(0)
    floats = torch.randn(3, 5, generator=generator)
    kinds = {f"float {dtype}": floats.to(dtype) for dtype in (torch.float64, torch.float16, torch.bfloat16)}
    ids = torch.randint(-9, 9, (7,), generator=generator)
    kinds |= {f"ids {dtype}": ids.to(dtype) for dtype in (torch.int64, torch.int32, torch.int16, torch.int8)}
    return {
        **kinds,
        "größe": floats,
        "transposed": floats.t(),
        "rows of another": floats[1:2],
        "bytes": ids.abs().to(torch.uint8),
        "flags": ids > 0,
        "one number": torch.tensor(3.5),
        "none": torch.zeros(0, 4),
    }


def same(found, given):
    assert set(found) == set(given)
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def test_the_library_reads_what_we_write_and_so_do_we(tmp_path):
    given, path = tensors(), tmp_path / "weights.safetensors"
    with open(path, "wb") as file:
        safetensors.write(given, file)
    same(library.load_file(path), given)
    same(loader.weights(tmp_path), given)


def test_we_read_what_the_library_writes(tmp_path):
    given = {name: tensor.clone().contiguous() for name, tensor in tensors().items()}
    library.save_file(given, tmp_path / "weights.safetensors", metadata={"of": "another"})
    same(loader.weights(tmp_path), given)
