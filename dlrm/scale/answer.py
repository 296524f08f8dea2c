"""A model on devices: the full tables sharded, and each compressed method on every device."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from embpress.compressors import BudgetError, MethodSpec, parse
from embpress.compressors.errors import InputError
from embpress.dlrm.scale.step import Hardware, Step, fewest_devices, step
from embpress.dlrm.scale.tables import Tables
from embpress.dlrm.scale.workload import Workload


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        work: the model and its step.
        hardware: what each device is.
        devices: how many there are.
        methods: that compress the tables.
        ratio, budget, min_rows: as of `TableCollection.build`.
    """

    work: Workload
    hardware: Hardware
    devices: int
    methods: tuple[MethodSpec, ...]
    ratio: float | None = None
    budget: int | None = None
    min_rows: int = 200


@dataclass(frozen=True)
class Answer:
    """One way to hold the tables.

    Attributes:
        name: the method.
        sharded: over the devices; else on each of them.
        serving_bytes: of all tables, as the ledger of the real ones says.
        fewest: devices that it needs at least; None where none are enough.
        steps: on the devices asked for, then on the fewest where that is another number.
        reason: why there is nothing, where the size cannot be reached.
    """

    name: str
    sharded: bool
    serving_bytes: int | None = None
    fewest: int | None = None
    steps: tuple[Step, ...] = ()
    reason: str = ""

    def on(self, devices: int) -> Step:
        """The step on so many devices.

        Raises:
            KeyError: it was not computed.
        """
        return {one.devices: one for one in self.steps}[devices]

    def to_json(self) -> dict[str, Any]:
        """What JSON holds of it; of each step also its times and its limit."""
        derived = [{"at_least_s": s.at_least, "at_most_s": s.at_most, "limit": s.limit} for s in self.steps]
        return {**asdict(self), "steps": [{**asdict(s), **more} for s, more in zip(self.steps, derived)]}


def answers(question: Question) -> list[Answer]:
    """The full tables first, then the methods in their order.

    Raises:
        InputError: a plan on disk, which is for tables of its own; or full tables among the methods.
    """
    for spec in question.methods:
        if spec.plain:
            raise InputError(f"{spec} is the full tables, which stand there anyway; name methods that compress")
    return [_answer(question, spec) for spec in (parse("full"), *question.methods)]


def _answer(question: Question, spec: MethodSpec) -> Answer:
    work, hardware, sharded = question.work, question.hardware, spec.plain
    own = not spec.sizable or spec.ratio is not None or spec.budget is not None
    ratio, budget = (None, None) if own else (question.ratio, question.budget)
    try:
        tables = Tables(spec, work, ratio=ratio, budget=budget, min_rows=question.min_rows, shared=not sharded)
    except BudgetError as error:
        return Answer(str(spec), sharded, reason=str(error))
    work = replace(work, dim=tables.dim)
    fewest = fewest_devices(work, tables, hardware, sharded)
    numbers = dict.fromkeys([question.devices, *([] if fewest is None else [fewest])])
    steps = tuple(step(work, tables, hardware, devices, sharded) for devices in numbers)
    return Answer(str(spec), sharded, tables.serving_bytes, fewest, steps)
