"""`Integers` and `Constants`: numbers that modules compute with and nobody learns, as tensors when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class Integers:
    """Lists of integers by name, part of a module's configuration as `num_embeddings` is, as tensors when asked for.

    On the CPU they count as no memory. A GPU keeps copies, since to bring them there would make every call wait for the
    host.

    Attributes:
        kept: copies on another device, by name: which state of the list, and the tensor.
    """

    def __init__(self, **values: Sequence[int]) -> None:
        self._lists: dict[str, list[int]] = {}
        self._values: dict[str, Tensor] = {}
        self.kept: dict[str, tuple[int, Tensor]] = {}
        for name, value in values.items():
            self[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __setitem__(self, name: str, value: Sequence[int]) -> None:
        self._lists[name], self._values[name] = list(value), torch.tensor(value, dtype=torch.int64, device="cpu")
        self.kept.pop(name, None)

    def values(self, name: str) -> list[int]:
        """The list as it is."""
        return self._lists[name]

    def on(self, device: torch.device, name: str) -> Tensor:
        """The list as int64 `(T,)`."""
        return self._on(device, name, self._values[name])

    def _on(self, device: torch.device, name: str, value: Tensor) -> Tensor:
        if device.type == "cpu":
            return value
        version, kept = self.kept.get(name, (-1, value))
        if version != value._version or kept.device != device:
            with torch.inference_mode(False):  # it stays when that ends
                kept = value.to(device)
            self.kept[name] = value._version, kept
        return kept

    def held(self) -> list[Tensor]:
        """The tensors that count as memory."""
        return [value for _, value in self.kept.values()]

    def bytes_on(self, device: torch.device) -> int:
        """Bytes that a device keeps."""
        return 0 if device.type in ("cpu", "meta") else sum(value.nbytes for value in self._values.values())


@dataclass(frozen=True)
class Later:
    """A constant that is made when it is first asked for: as much as `numel` int64 from `make()`."""

    numel: int
    make: Callable[[], Tensor]


class Constants(Integers):
    """Integer tensors by name, int64 but for what is packed, such as the coefficients of hashes; they count as memory.

    They are neither parameters nor buffers: no average, cast, `to_empty` or broadcast reaches them. What is drawn among
    them travels with the state dict in the table's extra state.
    """

    def __init__(self, values: Mapping[str, Tensor | Later] | None = None) -> None:
        super().__init__()
        self._later: dict[str, Later] = {}
        for name, value in (values or {}).items():
            self.put(name, value)

    def put(self, name: str, value: Tensor | Later) -> None:
        """Takes integers of any shape, kept on the CPU, or what makes them."""
        if isinstance(value, Later):
            self._later[name] = value
        else:
            self._values[name] = value.cpu()

    def share(self, name: str, other: Constants) -> None:
        """Takes what another holds under this name, the same memory; what it is yet to make, it makes for itself."""
        if name in other._values:
            self._values[name] = other._values[name]

    def __contains__(self, name: str) -> bool:
        return name in self._values or name in self._later

    def __iter__(self) -> Iterator[str]:
        yield from {**self._values, **self._later}

    def __getitem__(self, name: str) -> Tensor:
        if name in self._later:
            with torch.inference_mode(False):  # it stays when that ends
                self._values[name] = self._later.pop(name).make()
        return self._values[name]

    def on(self, device: torch.device, name: str) -> Tensor:
        """The constant on a device."""
        return self._on(device, name, self[name])

    def nbytes(self, name: str) -> int:
        """Bytes of one constant."""
        return 8 * self._later[name].numel if name in self._later else self._values[name].nbytes

    def held(self) -> list[Tensor]:
        """The tensors that count: those on the device that looks up, else those on the CPU."""
        return [self.kept[name][1] if name in self.kept else value for name, value in self._values.items()]
