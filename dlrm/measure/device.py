"""Which device a run is on."""

from __future__ import annotations

import re

import torch

from embpress.compressors import InputError
from embpress.compressors.guard import shown


def resolve_device(name: str) -> str:
    """The device `cpu`, `cuda` or `cuda:1`, looked for; `cuda:0` is `cuda`.

    Raises:
        InputError: no such device, with what was found instead.
    """
    if name == "cpu":
        return name
    match = re.fullmatch(r"cuda(?::(\d{1,4}))?", name)
    if match is None:
        raise InputError(f"there is no device {shown(name)}, it must be cpu, cuda or cuda:INDEX")
    if torch.version.cuda is None:
        raise InputError(f"device {name}: the torch {torch.__version__} installed here is built without CUDA")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise InputError(f"device {name}: torch {torch.__version__} (CUDA {torch.version.cuda}) finds no GPU here")
    index = int(match[1] or 0)
    if index >= count:
        known = "only cuda:0 is" if count == 1 else f"only cuda:0 to cuda:{count - 1} are"
        raise InputError(f"device {name}: {known} here")
    return f"cuda:{index}" if index else "cuda"


def make_current(device: str) -> None:
    """Lets what is made on `cuda` without an index, by us or by a library, be made on this device."""
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(torch.device(device).index or 0)
