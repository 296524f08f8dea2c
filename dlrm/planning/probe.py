"""Short trainings of a candidate, scored as it would be served on rows held out of the training part."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from embpress.compressors import InputError, Ledger, TableCollection
from embpress.dlrm.data import ClickData
from embpress.dlrm.data.base import joined
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.planning.candidate import Candidate
from embpress.dlrm.planning.records import FOLD, Records
from embpress.dlrm.runs.experiment import build_model, method_generator, table_configs
from embpress.dlrm.runs.record import fingerprint, plain, typed
from embpress.dlrm.runs.rehearsal import rehearse
from embpress.dlrm.runs.store import clean, write_json
from embpress.dlrm.training.click_model import train
from embpress.dlrm.training.loop import Progress, RunFailed
from embpress.dlrm.training.optim import sparse_gradients
from embpress.dlrm.training.settings import Settings

SCHEMA = "embpress-probe/1"
_FAILURES = (RunFailed, InputError, MemoryError, RuntimeError)
_LEAST = 0.01  # the smallest share of the rows


@dataclass(frozen=True)
class Effort:
    """How much of a training a probe is.

    Attributes:
        epochs: passes.
        share: of the rows trained on, drawn at random.
    """

    epochs: int
    share: float = 1.0

    @property
    def amount(self) -> float:
        """In passes over all rows."""
        return self.epochs * self.share

    def times(self, factor: float) -> Effort:
        """At most this effort times so much, whole epochs where it is one at least."""
        amount = min(1.0, factor) * self.amount
        epochs = max(1, int(amount))
        return Effort(epochs, min(1.0, max(_LEAST, amount / epochs)) if amount < 1 else 1.0)

    def least(self, other: Effort) -> Effort:
        """The smaller of the two."""
        return min(self, other, key=lambda effort: effort.amount)

    def text(self, whole: Effort) -> str:
        """Such as `2 of 4 epochs`, or `1 of 4 epochs on 20% of the rows`."""
        rows = "" if self.share == 1 else f" on {100 * self.share:.0f}% of the rows"
        return f"{self.epochs} of {whole.epochs} epochs{rows}"


@dataclass(frozen=True)
class Probe:
    """One short training.

    Attributes:
        candidate: its name; `plan` a hash of it and its learning rate.
        fold: which rows were held out, and the seed.
        epochs, share: see `Effort`.
        auc: of the rows held out, by the model as it would be served, at the best epoch.
        error: standard error of the AUC over the held out rows.
        step_ms: median training step.
        seconds: what it took in all.
        reason: why there is no score.
    """

    candidate: str
    plan: str
    fold: int
    epochs: int
    share: float = 1.0
    auc: float | None = None
    error: float | None = None
    step_ms: float | None = None
    seconds: float = 0.0
    reason: str | None = None


class Prober:
    """Tries candidates on one data set, and remembers in a folder what it has tried.

    The test part is not in what is trained on or scored: fold 0 holds out the validation part, each other fold a tenth
    of training and validation part together, drawn anew.

    Args:
        data: the click data.
        settings: how is trained.
        folder: where probes are kept.
        records: runs of comparisons, each of which is a probe that need not be made.
    """

    def __init__(self, data: ClickData, settings: Settings, folder: Path, records: Records | None = None) -> None:
        self._data, self._settings, self._folder, self._records = data, settings, folder, records
        self._folds: dict[int, ClickData] = {}
        clean(folder)
        if bool((data.valid.labels == data.valid.labels[0]).all()):
            raise InputError("the validation part has labels of one class: it cannot tell what is better")

    def probe(self, candidate: Candidate, fold: int, effort: Effort, progress: Progress | None = None) -> Probe:
        """The score of a candidate on one fold, found in the folder or by training it."""
        path = self._path(candidate.plan.to_json(), fold, asdict(effort), self._settings_of(candidate))
        done = _read(path) if path.exists() else self._recorded(candidate, fold, effort)
        if done is None:
            done = self._train(candidate, fold, effort, progress)
            write_json(path, {"schema": SCHEMA, **plain(asdict(done))})
        return done

    def _recorded(self, candidate: Candidate, fold: int, effort: Effort) -> Probe | None:
        """The probe that a run of a comparison was, if one was."""
        if self._records is None or fold != FOLD or effort != Effort(self._settings.epochs):
            return None
        found = self._records.scores(candidate, self._settings_of(candidate).learning_rate)
        if found is None:
            return None
        error = auc_error(found["auc"], self._data.valid.labels)
        return Probe(candidate.name, candidate.key, fold, effort.epochs, error=error, **found)

    def remembered(self, what: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, of JSON, or has given before on these data with these settings."""
        path = self._path(what, 0, None, self._settings)
        with suppress(OSError, ValueError, KeyError, TypeError):
            return json.loads(path.read_text(encoding="utf-8"))["value"]
        value = make()
        if value is not None:
            write_json(path, {"value": value})
        return value

    def _settings_of(self, candidate: Candidate) -> Settings:
        """How a candidate is trained."""
        rate = candidate.rate
        return self._settings if rate is None else replace(self._settings, learning_rate=rate)

    def _path(self, what: str, fold: int, effort: dict[str, Any] | None, settings: Settings) -> Path:
        """The file of something on these data with these settings."""
        about = {**asdict(settings), "ratio": None, "budget": None, "threads": None}
        # probes of before there was a choice are found again
        for name in ("shuffle_window", "processes"):
            if about[name] == getattr(Settings, name):
                del about[name]
        key = fingerprint([self._data.fingerprint, about, what, fold, effort])
        return self._folder / f"{key}.json"

    def _train(self, candidate: Candidate, fold: int, effort: Effort, progress: Progress | None) -> Probe:
        probe = Probe(candidate.name, candidate.key, fold, effort.epochs, effort.share)
        start = time.perf_counter()
        try:
            found = self._scores(candidate, fold, effort, progress)
        except _FAILURES as error:
            found = {"reason": (str(error).strip().splitlines() or [type(error).__name__])[0]}
        return replace(probe, **found, seconds=time.perf_counter() - start)

    def _scores(self, candidate: Candidate, fold: int, effort: Effort, progress: Progress | None) -> dict[str, Any]:
        settings, data = replace(self._settings_of(candidate), epochs=effort.epochs), self.fold(fold)
        if effort.share < 1:
            rows = max(1, round(effort.share * len(data.train)))
            order = torch.randperm(len(data.train), generator=Generator().manual_seed(fold))
            data = replace(data, train=data.train.take(order[:rows]))
        model = build_model(data, self.tables(candidate, fold), settings, fold)
        trained = train(model, data, settings, fold, progress)
        scores = trained.metrics
        if not math.isfinite(scores["auc"]):
            raise RunFailed("the rows held out are of one class: they choose nothing")
        return {
            "auc": scores["auc"],
            "error": auc_error(scores["auc"], data.test.labels),
            "step_ms": scores["step_ms"],
        }

    def model(self, candidate: Candidate, fold: int) -> ClickModel | None:
        """The candidate's model, trained on a fold; None where that fails."""
        data, settings = self.fold(fold), self._settings_of(candidate)
        try:
            model = build_model(data, self.tables(candidate, fold), settings, fold)
            train(model, data, settings, fold)
        except _FAILURES:
            return None
        return model

    def step_ms(self, candidate: Candidate) -> float:
        """Milliseconds of a training step now, whenever the candidate was tried."""
        return rehearse(self.tables(candidate), self.fold(0), self._settings_of(candidate), 0.0).step_ms

    @property
    def batch_size(self) -> int:
        """Samples of a training step."""
        return self._settings.batch_size

    @property
    def trained_rows(self) -> int:
        """How many rows are trained on."""
        return len(self._data.train)

    @property
    def held_rows(self) -> int:
        """How many rows a fold holds out."""
        return len(self._data.valid)

    @property
    def counts(self) -> list[torch.Tensor]:
        """Per table `(n,)`, lookups of each row in the rows trained on."""
        return self._data.counts

    def tables(self, candidate: Candidate, fold: int = 0, device: str | None = None) -> TableCollection:
        """The tables of a candidate, on the device of the settings or on another (`meta` takes no memory)."""
        settings = self._settings_of(candidate)
        return TableCollection.build(
            table_configs(self._data, settings.width),
            candidate.plan,
            sparse=sparse_gradients(settings.optimizer),
            update={"optimizer": settings.optimizer, "learning_rate": settings.learning_rate},
            device=device or settings.device,
            generator=method_generator(fold),
        )

    def ledger(self, candidate: Candidate) -> Ledger:
        """Bytes of a candidate's tables, of memory that nobody touches: what a batch keeps depends on the device."""
        settings = self._settings
        tables = self.tables(candidate, device="meta")
        with suppress(RuntimeError):  # more than can be asked for: what a batch keeps is then a little off
            tables = tables.to_empty(device=settings.device)
        return tables.ledger(settings.optimizer, settings.batch_size)

    def fold(self, number: int) -> ClickData:
        """The data with what is held out in place of both the validation and the test part."""
        if number not in self._folds:
            data = self._data
            if number == 0:
                train_part, held = data.train, data.valid
            else:
                whole = joined((data.train, data.valid))
                order = torch.randperm(len(whole), generator=Generator().manual_seed(1_000 + number))
                rows = max(1, len(data.valid))
                train_part, held = whole.take(order[rows:]), whole.take(order[:rows])
            self._folds = {number: replace(data, train=train_part, valid=held, test=held)}  # one at a time
        return self._folds[number]


def auc_error(auc: float, labels: torch.Tensor) -> float:
    """Standard error of an AUC over its rows (Hanley and McNeil 1982), from the counts of both labels alone."""
    positive = float(labels.sum())
    negative = len(labels) - positive
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positive - 1) * (q1 - auc**2) + (negative - 1) * (q2 - auc**2)
    return math.sqrt(max(0.0, variance) / (positive * negative))


def _read(path: Path) -> Probe | None:
    """A probe of before; None where the file is damaged: it is made again."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.get("schema") != SCHEMA:
            return None
        probe: Probe = typed(Probe, value)
    except (OSError, ValueError, AttributeError):
        return None
    return probe
