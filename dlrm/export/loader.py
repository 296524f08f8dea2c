"""Loads what lies beside this file, with torch alone.

    from load import model, weights

    probabilities = model()(dense, ids)  # click probabilities (B,), float32
    tensors = weights()                  # name -> tensor

manifest.json says what dense and ids are.
"""

import json
import struct
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def model(folder=HERE):
    """The click model, a function of dense (B, num_dense) float32 and ids (B, F) int64."""
    return torch.export.load(str(Path(folder) / "model.pt2")).module()


def weights(folder=HERE):
    """The tensors of weights.safetensors by name."""
    path = Path(folder) / "weights.safetensors"
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    data = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)[8 + length :]
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        tensors[name] = data[start:stop].clone().view(DTYPES[entry["dtype"]]).view(entry["shape"])
    return tensors
