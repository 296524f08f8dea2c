"""`Integers`: the few numbers that tell the tables of a group apart, such as where each table's rows start."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Integers:
    """Lists of integers by name, part of a module's configuration as `num_embeddings` is, as tensors when asked for.

    On the CPU no tensor is kept. A GPU keeps them, since to bring them there would make every call wait for the host.

    Attributes:
        kept: tensors on a GPU, by name.
    """

    def __init__(self, **values: Sequence[int]) -> None:
        self._lists: dict[str, list[int]] = {}
        self._values: dict[str, np.ndarray] = {}
        for name, value in values.items():
            self[name] = value
        self.kept: dict[str, Tensor] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __setitem__(self, name: str, value: Sequence[int]) -> None:
        self._lists[name], self._values[name] = list(value), np.array(value, dtype=np.int64)

    def values(self, name: str) -> list[int]:
        """The list as it is."""
        return self._lists[name]

    def on(self, device: torch.device, name: str) -> Tensor:
        """The list as int64 `(T,)`."""
        if device.type == "cpu":
            return torch.from_numpy(self._values[name])
        kept = self.kept.get(name)
        if kept is None or kept.device != device:
            kept = self.kept[name] = torch.from_numpy(self._values[name]).to(device)
        return kept

    def bytes_on(self, device: torch.device) -> int:
        """Bytes that a device keeps."""
        return 0 if device.type in ("cpu", "meta") else sum(value.nbytes for value in self._values.values())
