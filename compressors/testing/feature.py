"""Features: what tables are put through in anybody's model, tried on one table and on all tables of a model alike."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor, nn

from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError
from embpress.compressors.options import TableOptions
from embpress.compressors.tables.collection import TableCollection
from embpress.compressors.tables.planning.plan import TableConfig
from embpress.compressors.testing.subject import D, N, Subject

ROWS = (N, 5, 50)  # of the tables of a collection
R = TypeVar("R")


class NotApplicable(Exception):
    """The feature says nothing of this method; the message says why."""


class Refused(Exception):
    """The method, or torch, refuses the feature in one sentence."""


@dataclass(frozen=True)
class Use:
    """A method as it is used: one table, or several in a collection.

    Attributes:
        subject: the method.
        collected: in a collection.
    """

    subject: Subject
    collected: bool = False

    def make(self, seed: int = 0, rows: int = N, **options: Any) -> nn.Module:
        """A table, or a collection of three whose first has so many rows."""
        if not self.collected:
            return self.subject.make(rows, seed=seed, **options)
        device = options.pop("device", self.subject.device)
        shared: TableOptions = {"device": device, "generator": Generator().manual_seed(seed), **options}  # type: ignore[typeddict-item]
        sizes = (rows, *ROWS[1:])
        knobs = [self.subject.knobs] * len(sizes)
        tables = self.subject.cls.build_tables([(n, D) for n in sizes], knobs, [shared] * len(sizes))
        configs = [TableConfig(n, D, f"table {t}") for t, n in enumerate(sizes)]
        return TableCollection(configs, [self.subject.wrap(table) for table in tables], sum(4 * n * D for n in sizes))

    def ids(self, count: int = 8, step: int = 7) -> Tensor:
        """Ids, most of them twice: `(count, 1)`, a bag each, or `(count, 3)`."""
        sizes = ROWS if self.collected else (N,)
        numbers = torch.arange(count, device=self.subject.device) // 2 * step
        return torch.stack([numbers % n for n in sizes], dim=1)

    def tables(self, module: nn.Module) -> list[Compressor]:
        """The tables of a module that `make` made."""
        return list(module.tables) if isinstance(module, TableCollection) else [module]  # type: ignore[list-item]

    def answers(self, module: nn.Module) -> Tensor:
        """All rows in eval mode, looked up by calling the module: `(Σ n, D)`, or of a collection `(n, 3, D)`."""
        training = module.training
        module.eval()
        device = next(iter(module.parameters())).device
        rows = torch.arange(N, device=device)
        ids = torch.stack([rows % n for n in ROWS], 1) if self.collected else rows.view(-1, 1)
        with torch.no_grad():
            answers: Tensor = module(ids).clone()
        module.train(training)
        return answers

    def loss(self, module: Callable[[Tensor], Tensor]) -> Tensor:
        """A loss of one batch whose gradient differs from row to row."""
        out = module(self.ids())
        slope = torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out)
        return (out.float() * slope).sum()

    def step(self, module: nn.Module, rate: float = 0.1) -> None:
        """One training step, plain gradient descent."""
        self.loss(module).backward()
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.grad is not None:
                    parameter.sub_(rate * parameter.grad)
                    parameter.grad = None

    @property
    def fused(self) -> bool:
        """Whether the method updates itself, so that there are no gradients."""
        return self.subject.cls.tags.fused_update

    def with_gradients(self) -> None:
        """Leaves a feature of gradients out for methods that have none."""
        if self.fused:
            raise NotApplicable("it updates itself in the backward: there is no gradient")


Feature = Callable[[Use], None]


def feature(title: str) -> Callable[[Feature], Callable[[Subject], None]]:
    """Makes a check of a function of a `Use`, which is tried on one table and in a collection.

    The function returns where the feature works. It raises `Refused` with the sentence that a user gets, or
    `NotApplicable`; AssertionError, or anything else, where something is silently wrong or falls over.

    Args:
        title: of the feature, in a table of features.
    """

    def decorate(tried: Feature) -> Callable[[Subject], None]:
        @functools.wraps(tried)
        def check(subject: Subject) -> None:
            for collected in (False, True):
                try:
                    tried(Use(subject, collected))
                except (Refused, NotApplicable, InputError):
                    continue

        check.title, check.tried = title, tried  # type: ignore[attr-defined]
        return check

    return decorate


def first_sentence(error: BaseException) -> str:
    """What an error says, its first line."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def allowed(call: Callable[[], R], errors: tuple[type[Exception], ...], *words: str) -> R:
    """What `call` gives; one of these errors with one of these words in it is a refusal.

    Raises:
        Refused: with the error's sentence.
    """
    try:
        return call()
    except errors as error:
        if words and not any(word in str(error) for word in words):
            raise
        raise Refused(first_sentence(error)) from None


def must_refuse(call: Callable[[], object], errors: tuple[type[Exception], ...], *words: str) -> str:
    """The sentence with which `call` is refused, all words in it."""
    try:
        call()
    except errors as error:
        return named(error, *words)
    raise AssertionError("it is taken without a word")


def named(error: Exception, *words: str) -> str:
    """The first line of what an error says, which must name all words."""
    missing = [word for word in words if word not in str(error)]
    assert not missing, f"the message {first_sentence(error)!r} does not name {', '.join(missing)}"
    return first_sentence(error)
