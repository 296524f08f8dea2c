"""How many seeds: a number, or as many as it takes to know the differences to the full tables so exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, overload

from embpress.compressors import InputError, MethodSpec
from embpress.dlrm.measure.paired import paired
from embpress.dlrm.runs.record import Run
from embpress.dlrm.runs.trials import TrialStep

if TYPE_CHECKING:
    from embpress.dlrm.runs.compare import Step

_USE = "auto:HALF_WIDTH[:max=SEEDS], such as auto:0.002 or auto:0.002:max=20"
_MAX = 1000


@dataclass(frozen=True)
class AutoSeeds(Sequence[int]):
    """Seeds 0, 1, 2, … until the difference of every method to the full tables is known to `half_width`.

    It is half the width of the 95 % t interval over the seeds, paired by seed: what more seeds make smaller. What the
    draw of the test rows adds they do not. All methods get the same seeds, though some need fewer: means over other
    seeds could not be ranked, and methods are compared with one another too. It also keeps the interval honest: with
    a single method, where the seeds end when they happen to agree, it holds less often than it says (91 % of the time
    in the worst case), with five methods 95 %.

    As a sequence it is all seeds up to the limit.
    """

    half_width: float
    limit: int = 10
    first: ClassVar[int] = 3  # seeds of the first round: of two, the interval is useless

    @classmethod
    def parse(cls, text: str, name: str = "--seeds") -> AutoSeeds:
        """From `auto:0.002` or `auto:0.002:max=20`.

        Raises:
            InputError: something else.
        """
        word, _, rest = text.partition(":")
        width, _, option = rest.partition(":")
        key, _, most = option.partition("=")
        try:
            found = cls(float(width), int(most) if option else cls.limit)
        except ValueError:
            raise InputError(f"{name} is a number of seeds or {_USE}; got {text}") from None
        if word != "auto" or (option and key != "max"):
            raise InputError(f"{name} is a number of seeds or {_USE}; got {text}")
        if not 0 < found.half_width < 1:
            raise InputError(f"{name} {text}: the half width of an interval of AUC lies between 0 and 1, got {width}")
        if not cls.first <= found.limit <= _MAX:
            raise InputError(f"{name} {text}: max is {cls.first} to {_MAX} seeds, got {most}")
        return found

    def check(self, methods: Iterable[MethodSpec], name: str = "--seeds") -> None:
        """Raises InputError where no method is the full tables."""
        if not any(method.plain for method in methods):
            raise InputError(
                f"{name} auto adds seeds until the differences to the full tables are known, and the methods have no "
                "full: add it, or give a number of seeds"
            )

    def __len__(self) -> int:
        return self.limit

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        return range(self.limit)[index]


def in_rounds(
    seeds: Sequence[int], run: Callable[[Sequence[int]], Iterator[Step | TrialStep]]
) -> Iterator[Step | TrialStep | str]:
    """Runs the seeds: a given number at once, those of `AutoSeeds` round by round until they are enough.

    What is decided follows from the runs of seeds 0, 1, … alone, so that an interrupted comparison goes on as it would
    have gone.

    Args:
        seeds: which.
        run: makes the runs of some seeds.

    Yields:
        The runs, with the trials that tune them, and after each round of `AutoSeeds` a line that says what is still
        open.
    """
    if not isinstance(seeds, AutoSeeds):
        yield from run(seeds)
        return
    done: list[Run] = []
    number = 0
    while True:
        upto = max(seeds.first, number + 1)
        for step in run(seeds[number:upto]):
            if not isinstance(step, TrialStep):
                done.append(step.run)
            yield step
        number = upto
        line, enough = _state(done, seeds, number)
        yield line
        if enough or number >= seeds.limit:
            return


def half_widths(runs: Sequence[Run], newest: int) -> dict[str, float]:
    """Half the width of the 95 % interval of each method's difference to the full tables, by the method's name.

    Methods without an AUC, or that were not run with the seed `newest`, are left out; a difference over one seed has an
    infinite interval.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.without_seed, []).append(run)
    present = [group for group in groups.values() if any(run.seed == newest for run in group)]
    full = next((found for group in present if group[0].is_full and (found := _aucs(group))), None)
    if full is None:
        return {}
    sizes: dict[str, int] = {}
    for group in present:
        sizes[group[0].method] = sizes.get(group[0].method, 0) + 1
    widths = {}
    for group in present:
        own, first = _aucs(group), group[0]
        if first.is_full or not own:
            continue
        size = first.asked.ratio if first.asked.budget is None else first.asked.budget
        name = first.method if sizes[first.method] == 1 or size is None else f"{first.method} @{size:g}"
        gap = paired(own, full)
        widths[name] = math.inf if gap is None or gap.half_width is None else gap.half_width
    return widths


def _aucs(runs: Sequence[Run]) -> dict[int, float]:
    return {run.seed: run.metrics["auc"] for run in runs if run.ok and "auc" in run.metrics}


def _state(runs: Sequence[Run], asked: AutoSeeds, number: int) -> tuple[str, bool]:
    """A line on what is known after so many seeds, and whether it is enough."""
    widths = half_widths(runs, number - 1)
    if not widths:
        return f"{number} seeds: no method and the full tables both have an AUC, so more seeds would tell nothing", True
    wide = {name: width for name, width in widths.items() if width > asked.half_width}
    worst = sorted(wide, key=lambda name: -wide[name])
    if not wide:
        known = f"±{max(widths.values()):.4f}"
        return f"{number} seeds: every difference to the full tables is known to {known} or better", True
    named = ", ".join(f"{name} ±{wide[name]:.4f}" for name in worst[:5])
    more = f" and {len(worst) - 5} more" if len(worst) > 5 else ""
    text = f"{number} seeds: {len(wide)} of {len(widths)} differences wider than ±{asked.half_width:g}: {named}{more}"
    if number >= asked.limit:
        further = min(_MAX, 2 * asked.limit)
        text += f"; {asked.limit} seeds are the limit, --seeds auto:{asked.half_width:g}:max={further} goes on"
    return text, False
