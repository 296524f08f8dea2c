"""What is checked, and helpers of the checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from embpress.compressors.base import Compressor
from embpress.compressors.spec import MethodSpec, ModifierSpec, parse

N, D = 97, 16  # a prime number of rows: nothing factors by luck
SHAPES = ((1, 16), (2, 16), (N, D), (1009, 32))


@dataclass(frozen=True)
class Subject:
    """A compressor class with knobs and modifiers, and the device it is checked on."""

    cls: type[Compressor]
    knobs: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    modifiers: tuple[ModifierSpec, ...] = ()

    def make(self, n: int = N, dim: int = D, seed: int = 0, **options: Any) -> Compressor:
        """A table of `n × dim`, its initial values from `seed`."""
        table = self.cls(
            n, dim, **self.knobs, **{"device": self.device, "generator": Generator().manual_seed(seed), **options}
        )
        return self.wrap(table)

    def wrap(self, table: Compressor) -> Compressor:
        """The modifiers around a table."""
        return MethodSpec("", modifiers=self.modifiers).wrap(table)

    @property
    def spec(self) -> MethodSpec:
        """The subject as a spec; InputError for a class that is not registered."""
        return MethodSpec(self.cls.spec_name, dict(self.knobs), modifiers=self.modifiers)

    @property
    def served_error(self) -> float:
        """By how much folding may change an element, relative to the largest."""
        return sum(one.cls.served_error for one in self.modifiers)

    def ids(self, values: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        """int64 ids on the device."""
        return torch.tensor(values, dtype=torch.int64, device=self.device)

    @property
    def double(self) -> dict[str, Any]:
        """Options for the widest dtype that the method has."""
        return {} if not self.cls.tags.has(torch.float64) else {"dtype": torch.float64}

    def __str__(self) -> str:
        name = self.cls.spec_name or self.cls.__name__
        return str(MethodSpec(name, self.knobs, modifiers=self.modifiers)) + (
            "" if self.device == "cpu" else f"@{self.device}"
        )


def subject_of(method: str | type[Compressor] | Subject, device: str = "cpu") -> Subject:
    """A spec such as `"tt:rank=4"`, a class, or a subject."""
    if isinstance(method, Subject):
        return method
    if isinstance(method, str):
        spec = parse(method)
        return Subject(spec.cls, dict(spec.knobs), device, spec.modifiers)
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


def close(a: Tensor, b: Tensor, what: str, error: float = 0.0) -> None:
    """Asserts that two tensors are equal up to rounding in the dtype of `a` and `error` of the largest of `b`."""
    tolerance = 1e-10 if a.dtype == torch.float64 else 1e-5
    if error and b.numel():
        largest = float(b.abs().max())
        missed = float((a - b).abs().max())
        assert missed <= tolerance + error * largest, f"{what}: off by {missed:.3g}, the largest is {largest:.3g}"
        return
    torch.testing.assert_close(a, b.to(a.dtype), rtol=tolerance * 10, atol=tolerance, msg=lambda m: f"{what}: {m}")


def touch(values: Tensor, target: Tensor) -> None:
    """Backward of a loss whose gradient differs from row to row."""
    ((values - target) ** 2).sum().backward()


def gradients(table: Compressor) -> dict[str, Tensor]:
    """Gradients by parameter, written out where they are sparse."""
    grads = {}
    for name, parameter in table.named_parameters():
        if parameter.grad is not None:
            grads[name] = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
    return grads
