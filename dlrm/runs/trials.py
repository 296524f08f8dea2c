"""Trials: runs that choose each method's learning rate and knobs, kept in `trials/` of a run folder.

They are records as all others are, with seed 0. The validation AUC of the best epoch decides, and nothing else; the
test part is scored as it is in every run, so that the chosen trial is the run with seed 0 and need not be made again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from embpress.compressors import MethodSpec
from embpress.dlrm.distributed.team import Lost
from embpress.dlrm.distributed.together import lost
from embpress.dlrm.runs import store
from embpress.dlrm.runs.claims import Claims
from embpress.dlrm.runs.comparable import check_comparable
from embpress.dlrm.runs.experiment import asked_size
from embpress.dlrm.runs.partial import Partial, partial_of, tidy
from embpress.dlrm.runs.record import Run, Tuned
from embpress.dlrm.training.loop import Progress
from embpress.dlrm.training.settings import Settings
from embpress.dlrm.tuning import RATE, Tuning, Values, parse, protocol_rate, text_of

SEED = 0
_Counts = Callable[[Mapping[str, float]], bool]
_Key = tuple[str, str | None, float | None, int | None]


class Harness(NamedTuple):
    """What trains: with click data or with a model of the user's own.

    Attributes:
        describe: what of a run is known before it, of a method with settings and `SEED`.
        train: such a run and its test probabilities; the last arguments are `counts` and `partial` of `experiment.run`.
        width: the width that the method's tables are built with.
    """

    describe: Callable[[MethodSpec, Settings], Run]
    train: Callable[[MethodSpec, Settings, Progress | None, _Counts, Partial], tuple[Run, np.ndarray | None]]
    width: Callable[[MethodSpec, Settings], int]


class TrialStep(NamedTuple):
    """One finished trial of a comparison."""

    run: Run
    kept: bool  # it was there already
    number: int
    total: int
    method: str  # as the user wrote it
    values: Values

    @property
    def line(self) -> str:
        """What it tried and what that gave, in a line."""
        head = f"[trial {self.number}/{self.total}] {self.method} · {text_of(self.values)}: "
        valid = self.run.metrics.get("valid_auc")
        if not self.run.ok or valid is None:
            return f"{head}{self.run.status}: {self.run.reason}" if not self.run.ok else f"{head}no validation AUC"
        return f"{head}validation AUC {valid:.4f} in {self.run.metrics['train_seconds']:.1f} s"


@dataclass(frozen=True)
class Choice:
    """What the runs of a method are made with.

    Attributes:
        spec, settings: the method with the knobs chosen, and settings with the rate chosen.
        tuned: how; None where nothing was tuned, or the size cannot be reached.
        trial: the trial that was chosen, with the file of its test probabilities, where it can stand for a run.
    """

    spec: MethodSpec
    settings: Settings
    tuned: Tuned | None = None
    trial: tuple[Run, Path] | None = None

    def done(self, seed: int) -> tuple[Run, np.ndarray] | None:
        """The trial that is the very run with this seed, and its test probabilities; None where it has to be made."""
        if self.trial is None or seed != SEED:
            return None
        run, file = self.trial
        try:
            return run, np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):  # the file has gone, or is damaged
            return None

    def named(self, made: Run, asked: MethodSpec, settings: Settings) -> Run:
        """A run that was made with the choice as one of the method that was asked for, under the way to tune it."""
        if not settings.tune:
            return made
        training = {**made.training, RATE: protocol_rate(settings)}
        return replace(made, method=str(asked), training=training, tuned=self.tuned)


@dataclass
class Choices:
    """The choice of each method at each size."""

    by_method: dict[_Key, Choice] = field(default_factory=dict)

    def of(self, spec: MethodSpec, settings: Settings) -> Choice:
        """That of a method; the method and the settings as they are where nothing was tuned."""
        return self.by_method.get(_key(spec, settings)) or Choice(spec, replace(settings, tune=""))

    def agrees(self, done: Run) -> bool:
        """Whether a run of before was made with the values that are chosen now."""
        choice = self.by_method.get(_key_of(done))
        return choice is None or choice.tuned is None or (done.tuned is not None and _same(done.tuned, choice.tuned))


def _key(spec: MethodSpec, settings: Settings) -> _Key:
    return str(spec), spec.content, *asked_size(spec, settings)


def _key_of(run: Run) -> _Key:
    return run.method, run.plan, run.asked.ratio, run.asked.budget


def _same(one: Tuned, other: Tuned) -> bool:
    return one.chosen == other.chosen


def tune(
    methods: Iterable[tuple[MethodSpec, Settings]],
    harness: Harness,
    folder: Path,
    progress: Callable[[int, int, str], Progress] | None = None,
    reuse: bool = True,
    claims: Claims | None = None,
    checkpoint_minutes: float = 0.0,
) -> Generator[TrialStep, None, Choices]:
    """Chooses for each method as its settings say, and saves a record of each trial.

    Trials that the folder holds are not made again. Where it holds runs of a method their values stand. A trial that
    fails counts as one and loses; where all of a method's fail, the next command tries them again, and the settings'
    own values stand meanwhile. A method that cannot reach its size has no trials.

    Args:
        methods: with their settings; those that are there twice count once.
        folder: run folder.
        progress: makes the progress callback of trial `number` of `total` with a title.
        reuse: whether chosen trials may stand for runs.
        claims: what this process takes; by default as a command on its own. Trials of one method come one after the
            other, those of several methods may be made by several processes at once.
        checkpoint_minutes: see `compare.compare`.

    Raises:
        InputError: a damaged record, of a trial or a run, or runs that cannot be compared with those to be made.
        Lost: a process has died that trained along; its trial is not saved.
    """
    wanted = {_key(spec, settings): (spec, settings) for spec, settings in methods if settings.tune}
    choices = Choices()
    if not wanted:
        return choices
    claims = Claims(folder) if claims is None else claims
    runs = [store.read(path) for path in store.record_paths(folder)]
    shared = harness.describe(*next(iter(wanted.values())))
    check_comparable([*runs, shared], folder)
    claims.expect(shared)
    decided = {_key_of(run): run.tuned for run in reversed(runs) if run.ok}
    ways = {key: parse(settings.tune, settings.learning_rate) for key, (_, settings) in wanted.items()}
    total = sum(way.trials for way in ways.values())
    desk = _Desk(harness, folder / "trials", progress, total, reuse, claims, checkpoint_minutes)
    searches: dict[_Key, Generator[TrialStep | None, None, Choice]] = {}
    number = done = 0
    for key, (spec, settings) in wanted.items():
        tuned = decided.get(key)
        if tuned is None:
            searches[key] = desk.choose(spec, settings, ways[key], number)
        else:
            choices.by_method[key] = desk.chosen(spec, settings, tuned)
        number += ways[key].trials
    while searches:
        before = done, len(searches)
        for key, search in list(searches.items()):
            while key in searches:
                try:
                    step = next(search)
                except StopIteration as end:
                    choices.by_method[key] = end.value
                    del searches[key]
                    continue
                if step is None:
                    break
                done += 1
                yield step
        if searches and before == (done, len(searches)):
            claims.wait(done, total)
    tidy(desk.folder)
    return choices


class _Trial(NamedTuple):
    values: Values
    run: Run

    @property
    def score(self) -> float:
        """The validation AUC; minus infinity where there is none."""
        return _score(self.run.metrics) if self.run.ok else -math.inf


def _score(metrics: Mapping[str, float]) -> float:
    value = metrics.get("valid_auc", -math.inf)
    return -math.inf if math.isnan(value) else value


def _applied(spec: MethodSpec, settings: Settings, values: Values) -> tuple[MethodSpec, Settings]:
    knobs = {name: value for name, value in values.items() if name != RATE}
    return replace(spec, knobs={**spec.knobs, **knobs}) if knobs else spec, replace(
        settings, learning_rate=values[RATE], tune=""
    )


class _Desk:
    """Makes trials, numbers and keeps them."""

    def __init__(
        self,
        harness: Harness,
        folder: Path,
        progress: Callable[[int, int, str], Progress] | None,
        total: int,
        reuse: bool,
        claims: Claims,
        minutes: float,
    ) -> None:
        self.harness, self.folder, self.progress, self.total, self.reuse = harness, folder, progress, total, reuse
        self.claims, self.minutes = claims, minutes
        store.clean(folder / "records", folder / "partial")
        self.held = {run.id: run for run in map(store.read, store.record_paths(folder))}

    def choose(
        self, spec: MethodSpec, settings: Settings, way: Tuning, before: int
    ) -> Generator[TrialStep | None, None, Choice]:
        """The trials of a method, of which `before` others are numbered, and what they choose.

        It yields None where another process makes the next one.
        """
        knobs = spec.tuned_knobs(self.harness.width(spec, settings)) if way.tunes_knobs else {}
        if self.claims.leads:
            self._forget_failures(spec, settings, way.search(settings.learning_rate, knobs))
        trials = yield from self._search(spec, settings, way.search(settings.learning_rate, knobs), before)
        if not trials:
            return Choice(spec, replace(settings, tune=""))
        best, default = max(trials, key=lambda trial: trial.score), trials[0]
        tuned = Tuned(
            how=way.label,
            trials=len(trials),
            failed=sum(not trial.run.ok for trial in trials),
            chosen=best.values,
            default=default.values,
            valid_auc=best.run.metrics.get("valid_auc"),
            default_valid_auc=default.run.metrics.get("valid_auc"),
            auc=best.run.metrics.get("auc"),
            default_auc=default.run.metrics.get("auc"),
            edges=_edges(spec, knobs, best.values, [trial.values for trial in trials]),
        )
        return self.chosen(spec, settings, tuned)

    def _forget_failures(self, spec: MethodSpec, settings: Settings, search: Generator[Values, float, None]) -> None:
        """Takes away the trials of a method that have all been made and all failed: the reason may have gone since."""
        found: list[Run] = []
        values = next(search)
        while True:
            run = self.held.get(self.harness.describe(*_applied(spec, settings, values)).id)
            if run is None or run.ok:
                return
            found.append(run)
            try:
                values = search.send(-math.inf)
            except StopIteration:
                break
        for run in found:
            del self.held[run.id]
            self._path(run).unlink(missing_ok=True)

    def chosen(self, spec: MethodSpec, settings: Settings, tuned: Tuned) -> Choice:
        """The choice of these values."""
        applied = _applied(spec, settings, tuned.chosen)
        trial = self.held.get(self.harness.describe(*applied).id) if self.reuse else None
        if trial is None or not trial.ok or trial.latency_of_seed != SEED or trial.predictions is None:
            return Choice(*applied, tuned)
        return Choice(*applied, tuned, (trial, self.folder / "records" / trial.predictions))

    def _search(
        self, spec: MethodSpec, settings: Settings, search: Generator[Values, float, None], before: int
    ) -> Generator[TrialStep | None, None, list[_Trial]]:
        trials: list[_Trial] = []
        values: Values | None = next(search)
        while values is not None:
            best = max((trial.score for trial in trials), default=-math.inf)
            number = before + len(trials) + 1
            made = self._trial(*_applied(spec, settings, values), f"{spec} · {text_of(values)}", best, number)
            if made is None:
                yield None
                continue
            run, kept = made
            partial_of(self.folder, run.id, 0.0).remove()  # a failed trial is none that is tried again by itself
            if run.status == "cannot reach":
                return []
            trials.append(_Trial(values, run))
            yield TrialStep(run, kept, number, self.total, str(spec), values)
            if why := lost():
                raise Lost(why)
            try:
                values = search.send(trials[-1].score)
            except StopIteration:
                values = None
        return trials

    def _trial(
        self, spec: MethodSpec, settings: Settings, title: str, best: float, number: int
    ) -> tuple[Run, bool] | None:
        """The run of a trial, and whether it was there before; None where another process has it.

        Only one that beats the best before it may come to count.
        """
        about = self.harness.describe(spec, settings)
        if found := self._look(about):
            return found
        claim = self.claims.take(f"trial-{about.id}", f"trial: {title}")
        if claim is None:
            return None
        with claim:
            if found := self._look(about):
                return found
            partial = partial_of(self.folder, about.id, self.minutes, claim)
            if claim.fatal:
                run, predictions, counted = replace(about, reason=claim.fatal), None, False
            else:
                run, predictions, counted = self._train(spec, settings, title, best, number, partial)
            if not claim.stands:
                return None
            if lost() is not None:  # it says nothing of the values: the same command goes on with this trial
                return run, False
            if run.status == "cannot reach":
                if not self.claims.leads:  # its command waits for what its workers find
                    store.save(self._beyond, run)
            else:
                store.save(self.folder, run, predictions if counted else None)
                self.held[run.id] = replace(run, predictions=f"{run.id}.npy") if counted and run.ok else run
        return run, False

    def _train(
        self, spec: MethodSpec, settings: Settings, title: str, best: float, number: int, partial: Partial
    ) -> tuple[Run, np.ndarray | None, bool]:
        callback = self.progress(number, self.total, f"trial: {title}") if self.progress else None
        counted = False

        def counts(metrics: Mapping[str, float]) -> bool:
            nonlocal counted
            counted = self.reuse and _score(metrics) > best
            return counted

        return *self.harness.train(spec, settings, callback, counts, partial), counted

    @property
    def _beyond(self) -> Path:
        """Where workers tell one another what cannot reach its size."""
        return self.folder / "beyond"

    def _path(self, run: Run) -> Path:
        return self.folder / "records" / f"{run.id}.json"

    def _look(self, about: Run) -> tuple[Run, bool] | None:
        """A trial that is there, and whether it was before the session began."""
        path, beyond = self._path(about), self._beyond / "records" / f"{about.id}.json"
        if about.id not in self.held and path.exists():
            self.held[about.id] = store.read(path)
        if about.id in self.held:
            return self.held[about.id], not self.claims.is_new(path)
        return (store.read(beyond), False) if self.claims.is_new(beyond) else None


def _edges(
    spec: MethodSpec, knobs: Mapping[str, Sequence[Any]], chosen: Values, tried: Sequence[Values]
) -> tuple[str, ...]:
    """Names of numbers in `chosen` that are the largest or smallest of those tried."""
    own: dict[str, Any] = {name: spec.cls.knob_names()[name].default for name in knobs}
    names = []
    for name in (RATE, *knobs):
        known = [values.get(name, own.get(name)) for values in tried]
        numbers = [value for value in known if isinstance(value, (int, float)) and not isinstance(value, bool)]
        value = chosen.get(name, own.get(name))
        if value in numbers and value in (min(numbers), max(numbers)) and (name == RATE or len(set(numbers)) > 1):
            names.append(name)
    return tuple(names)
