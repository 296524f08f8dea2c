"""Writes tensors in the safetensors format: a header of names, types and places, then the bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import IO

import torch
from torch import Tensor

from embpress.dlrm.export.loader import DTYPES

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def name_of(dtype: torch.dtype) -> str:
    """What the format calls a dtype."""
    return _NAMES[dtype]


def write(tensors: Mapping[str, Tensor], file: IO[bytes]) -> None:
    """Writes tensors, the widest elements first, so that each begins at a multiple of its element's size.

    Args:
        tensors: by name, on the CPU.
        file: open for bytes.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in ordered:
        stop = offset + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": name_of(tensor.dtype),
            "shape": list(tensor.shape),
            "data_offsets": [offset, stop],
        }
        offset = stop
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for _, tensor in ordered:
        if tensor.numel():
            file.write(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
