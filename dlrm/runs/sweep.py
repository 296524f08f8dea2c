"""Sweeps: every method at every size, each run once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from embpress.compressors import MethodSpec
from embpress.compressors.guard import times
from embpress.dlrm.runs.experiment import asked_size
from embpress.dlrm.runs.record import Asked, Run
from embpress.dlrm.training.settings import Settings


class Todo(NamedTuple):
    """One run that a comparison asks for.

    Attributes:
        spec: its method.
        settings: its size among them.
        seed: its seed.
        about: what is known of the run before it.
    """

    spec: MethodSpec
    settings: Settings
    seed: int
    about: Run

    @property
    def title(self) -> str:
        """The method, the size asked for, the seed."""
        ratio, budget = self.about.asked.ratio, self.about.asked.budget
        size = f" at {times(ratio)}" if ratio is not None else f" in {budget:,} bytes" if budget is not None else ""
        return f"{self.spec}{size} · seed {self.seed}"


def every_size(
    methods: Sequence[MethodSpec], settings: Settings, sizes: Sequence[Asked] = ()
) -> list[tuple[MethodSpec, Settings]]:
    """Each method with the settings of each size, size by size.

    What has one size only, such as full tables, a method whose knobs fix its size, one with a ratio of its own, or a
    plan's file, is there once, at the first size.

    Args:
        sizes: by default the one that the settings ask for, or none.
    """
    found: dict[tuple[str, float | None, int | None], tuple[MethodSpec, Settings]] = {}
    for size in sizes or [Asked(settings.ratio, settings.budget)]:
        of_size = replace(settings, ratio=size.ratio, budget=size.budget)
        for spec in methods:
            found.setdefault((str(spec), *asked_size(spec, of_size)), (spec, of_size))
    return list(found.values())
