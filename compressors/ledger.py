"""Bytes of everything a table needs, by name: to serve it and to train it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from embpress.compressors.errors import InputError, nearest
from embpress.compressors.integers import Integers

# Optimizer state per parameter element, in elements; row-wise Adagrad keeps one number a row (of its last dimension).
_STATE = {"none": 0.0, "sgd": 0.0, "adagrad": 1.0, "rowwise_adagrad": None, "adam": 2.0}
OPTIMIZERS = tuple(_STATE)


@dataclass(frozen=True)
class Entry:
    """One thing that takes memory. Entries of the same `owner` are the same memory and count once in a sum.

    Attributes:
        itemsize: bytes of one element where the elements are floating point, else 0.
    """

    name: str
    bytes: int
    owner: int | None = None
    itemsize: int = 0


def total(entries: Iterable[Entry]) -> int:
    """Sum of bytes, memory that several entries share counted once."""
    seen: set[int] = set()
    size = 0
    for entry in entries:
        if entry.owner is None:
            size += entry.bytes
        elif entry.owner not in seen:
            seen.add(entry.owner)
            size += entry.bytes
    return size


@dataclass
class Ledger:
    """What a table, or all tables of a model, cost.

    Attributes:
        serving: everything needed to answer lookups after `fold()`.
        training: weights, gradients, optimizer state and what one forward keeps for its backward.
    """

    serving: list[Entry] = field(default_factory=list)
    training: list[Entry] = field(default_factory=list)

    @property
    def serving_bytes(self) -> int:
        """Every byte needed to answer lookups."""
        return total(self.serving)

    @property
    def training_bytes(self) -> int:
        """Weights, gradients, optimizer state, activations."""
        return total(self.training)

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(self.serving + other.serving, self.training + other.training)

    def renamed(self, prefix: str) -> Ledger:
        """The same with `prefix` before every name."""

        def rename(entries: list[Entry]) -> list[Entry]:
            return [replace(e, name=f"{prefix}{e.name}") for e in entries]

        return Ledger(rename(self.serving), rename(self.training))

    def __str__(self) -> str:
        lines = []
        for title, entries, size in (
            ("serving", self.serving, self.serving_bytes),
            ("training", self.training, self.training_bytes),
        ):
            lines.append(f"{title}: {size:,} bytes")
            lines += [f"  {entry.name}: {entry.bytes:,}" + (" (shared)" if entry.owner else "") for entry in entries]
        return "\n".join(lines)


def optimizer_bytes(optimizer: str | None, numel: int, rows: int, itemsize: int) -> int:
    """Bytes of optimizer state for a parameter of `numel` elements in `rows` rows.

    Raises:
        InputError: an optimizer that is not known.
    """
    name = optimizer or "none"
    if name not in _STATE:
        raise InputError(f"no optimizer {name!r}{nearest(name, _STATE)}")
    factor = _STATE[name]
    return rows * itemsize if factor is None else int(factor * numel) * itemsize


def tensors_of(value: object, seen: set[int]) -> Iterator[Tensor]:
    """All tensors that an object holds, in attributes and containers too."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from tensors_of(vars(value), seen)
    elif isinstance(value, Integers):
        for tensor in value.held():
            yield from tensors_of(tensor, seen)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_of(item, seen)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from tensors_of(item, seen)


def held_bytes(*modules: nn.Module) -> int:
    """Bytes of all tensors that modules hold, registered or hidden, each storage once."""
    seen: set[int] = set()
    tensors = [t for module in modules for t in tensors_of(module, seen)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())
