"""A plan that may be proposed, and why it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from embpress.compressors import BudgetError, InputError, MethodSpec, Plan, TableConfig, plan
from embpress.dlrm.runs.record import fingerprint
from embpress.dlrm.training.settings import Settings


@dataclass(frozen=True)
class Candidate:
    """One plan among those that are tried.

    Attributes:
        name: what it is, in a few words.
        plan: for every table of the model.
        why: a line for each table.
        single: the expression, where all tables use one at the model's own width: what `compare` would run by it.
        expression: the same, at whatever width; None where tables use several.
        trimmed: the expression of whole tables and the width, where the rarest rows are left out so that it fits.
        mixed: the width and how many times busier rows of four bits are than the last of those with two, where bits go
            by traffic.
        rate: the learning rate of its trainings; None where it is that of the settings.
    """

    name: str
    plan: Plan
    why: tuple[str, ...] = ()
    single: str | None = None
    expression: str | None = None
    trimmed: tuple[str, int] | None = None
    mixed: tuple[int, float] | None = None
    rate: float | None = None

    @property
    def family(self) -> str:
        """The same for candidates that differ in little."""
        if self.mixed:
            return "bits by traffic"
        return self.trimmed[0] if self.trimmed else self.expression or self.name.partition(",")[0]

    @property
    def bytes(self) -> int:
        """Serving bytes of all tables."""
        return self.plan.bytes

    @cached_property
    def key(self) -> str:
        """Different for every plan and rate."""
        return self.plan_key if self.rate is None else fingerprint([self.plan_key, self.rate])

    @cached_property
    def plan_key(self) -> str:
        """Different for every plan."""
        return fingerprint(self.plan.to_json())

    def at_rate(self, rate: float | None) -> Candidate:
        """The same, trained at another learning rate."""
        return replace(self, rate=rate)


@dataclass(frozen=True)
class Goal:
    """What is asked for.

    Attributes:
        configs: the tables, at the model's own width.
        bytes: the most serving bytes of all tables.
        settings: how is trained; `min_rows` and `largest` say which tables may be made smaller.
        max_lookup_us: the most microseconds of a lookup of a batch of 128 in all tables, or None.
        max_training: the most bytes of tables, gradients and optimizer state in training, or None.
        rates: whether learning rates besides that of the settings are tried.
    """

    configs: Sequence[TableConfig]
    bytes: int
    settings: Settings
    max_lookup_us: float | None = None
    max_training: int | None = None
    rates: bool = False

    @property
    def full_bytes(self) -> int:
        """`Σ 4 n D`."""
        return sum(4 * n * dim for n, dim, _ in self.configs)

    @property
    def width(self) -> int:
        """The model's own."""
        return self.configs[0].embedding_dim


def at_width(goal: Goal, spec: MethodSpec, width: int) -> Plan:
    """The plan of one expression in a model of this width, within the goal's bytes.

    Raises:
        BudgetError: it takes more.
    """
    narrow = [TableConfig(n, width, name) for n, _, name in goal.configs]
    settings = goal.settings
    if spec.sizable and not spec.tags.saves_by_width:
        whole = sum(4 * n * width for n, _, _ in narrow)
        made = plan(spec, narrow, budget=min(goal.bytes, whole), min_rows=settings.min_rows, largest=settings.largest)
    else:  # of one size at this width
        made = plan(spec, narrow, min_rows=settings.min_rows, largest=settings.largest)
    size = made.bytes
    if size > goal.bytes:
        raise BudgetError(f"{spec} at width {width} takes {size} bytes", size)
    return widened(made, goal)


def widest(goal: Goal, spec: MethodSpec) -> int | None:
    """The largest width at which the plan of one expression fits; None where it fits at none."""
    for width in range(goal.width, 0, -1):
        try:
            at_width(goal, spec, width)
        except (BudgetError, InputError):
            continue
        return width
    return None


def widened(made: Plan, goal: Goal) -> Plan:
    """A plan of narrower tables as one of the model's own tables that are built narrower."""
    tables = (replace(table, config=config) for table, config in zip(made.tables, goal.configs))
    return Plan(tuple(tables))
