"""What is checked, and helpers of the checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from embpress.compressors.base import Compressor
from embpress.compressors.registry import parse

N, D = 97, 16  # a prime number of rows: nothing factors by luck
SHAPES = ((1, 16), (2, 16), (N, D), (1009, 32))


@dataclass(frozen=True)
class Subject:
    """A compressor class with knobs, and the device it is checked on."""

    cls: type[Compressor]
    knobs: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    def make(self, n: int = N, dim: int = D, seed: int = 0, **options: Any) -> Compressor:
        """A table of `n × dim`, its initial values from `seed`."""
        return self.cls(
            n, dim, **self.knobs, **{"device": self.device, "generator": Generator().manual_seed(seed), **options}
        )

    def ids(self, values: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        """int64 ids on the device."""
        return torch.tensor(values, dtype=torch.int64, device=self.device)

    @property
    def double(self) -> dict[str, Any]:
        """Options for the widest dtype that the method has."""
        return {} if "float32" in self.cls.tags else {"dtype": torch.float64}

    def __str__(self) -> str:
        name = self.cls.spec_name or self.cls.__name__
        knobs = "".join(f":{key}={value}" for key, value in self.knobs.items())
        return name + knobs + ("" if self.device == "cpu" else f"@{self.device}")


def subject_of(method: str | type[Compressor] | Subject, device: str = "cpu") -> Subject:
    """A spec such as `"tt:rank=4"`, a class, or a subject."""
    if isinstance(method, Subject):
        return method
    if isinstance(method, str):
        spec = parse(method)
        return Subject(spec.cls, dict(spec.knobs), device)
    return Subject(method, {}, device)


def bags(subject: Subject) -> tuple[Tensor, Tensor]:
    """Ids with repeats and both ends, in bags of every kind: empty first, middle and last, one id, many."""
    ids = subject.ids([0, N - 1, 3, 3, 3, 41, 0, 96, 5, 5, 0])
    return ids, subject.ids([0, 0, 2, 3, 3, 8, 11])


def rejects(call: Callable[[], object], errors: tuple[type[Exception], ...], *words: str) -> None:
    """Asserts that `call` raises one of `errors`, with all words in the message."""
    try:
        call()
    except errors as error:
        message = str(error)
    else:
        raise AssertionError(f"{' or '.join(e.__name__ for e in errors)} was not raised")
    missing = [word for word in words if word not in message]
    assert not missing, f"the message {message!r} does not name {missing}"


def close(a: Tensor, b: Tensor, what: str) -> None:
    """Asserts that two tensors are equal up to rounding in the dtype of `a`."""
    tolerance = 1e-10 if a.dtype == torch.float64 else 1e-5
    torch.testing.assert_close(a, b.to(a.dtype), rtol=tolerance * 10, atol=tolerance, msg=lambda m: f"{what}: {m}")


def touch(values: Tensor, target: Tensor) -> None:
    """Backward of a loss whose gradient differs from row to row."""
    ((values - target) ** 2).sum().backward()


def gradients(table: Compressor) -> dict[str, Tensor]:
    """Gradients by parameter, written out where they are sparse."""
    found = {}
    for name, parameter in table.named_parameters():
        if parameter.grad is not None:
            found[name] = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
    return found
