"""A run as its record holds it: frozen dataclasses, to JSON and back."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import cache, cached_property
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from embpress.compressors.errors import reachable_ratio
from embpress.dlrm.training import waiting

SCHEMA = "embpress-run/3"
LOADERS = "loaders"  # the format of data that come from loaders of the user's own


@dataclass(frozen=True)
class Asked:
    """The size asked for: full bytes / serving bytes, or serving bytes, or neither."""

    ratio: float | None = None
    budget: int | None = None


@dataclass(frozen=True)
class Smallest:
    """The smallest size that a method can reach; the ratio is rounded down to what is reachable itself."""

    bytes: int
    ratio: float

    @classmethod
    def of(cls, size: int, full_bytes: int) -> Smallest:
        """From the smallest bytes and those of the full tables."""
        return cls(size, reachable_ratio(size, full_bytes))


@dataclass(frozen=True)
class Sharing:
    """How the ids of one table share rows and cells with others of the model; shares of 0 to 1.

    An id shares its whole row where another id's row is made of the same cells in the same way, and a part where any
    cell of its row is read for another id. Ids whose rows are kept elsewhere, such as hot ones, share nothing.

    Attributes:
        ids: of the table, that were looked at, and among which it was looked for.
        whole_ids, whole_train, whole_test: of the ids, of the training lookups and of the test lookups, those that
            share the whole row.
        whole_expected, whole_expected_train: what a function drawn at random would give, of ids and training lookups;
            None where no function decides.
        part_ids, part_train, part_test, part_expected, part_expected_train: the same of parts.
        others_train: of the training lookups that reach a cell, those of other ids than the one that reads it: the mean
            over what the training lookups read.
        others_expected: the same with cells drawn at random.
    """

    ids: int
    whole_ids: float
    part_ids: float
    whole_train: float | None = None
    part_train: float | None = None
    whole_test: float | None = None
    part_test: float | None = None
    whole_expected: float | None = None
    part_expected: float | None = None
    whole_expected_train: float | None = None
    part_expected_train: float | None = None
    others_train: float | None = None
    others_expected: float | None = None


@dataclass(frozen=True)
class TableRecord:
    """One table of a run."""

    feature: str
    num_embeddings: int
    embedding_dim: int
    method: str
    serving_bytes: int
    full_bytes: int
    knobs: dict[str, Any] = field(default_factory=dict)
    modifiers: tuple[str, ...] = ()
    row0_share: float | None = None  # of the test lookups
    is_full: bool = False  # a plain table, every row as it is
    spectrum: tuple[float, ...] = ()  # singular values over the largest, at the epoch of the AUC; of plain rows alone
    sharing: Sharing | None = None  # at that epoch; where the method says which cells make a row


@dataclass(frozen=True)
class CurvePoint:
    """One point of the learning curve."""

    step: int
    epoch: float
    train_loss: float | None = None
    valid_auc: float | None = None
    valid_log_loss: float | None = None
    seconds: float | None = None  # of training up to here, evaluation not counted
    test_auc: float | None = None  # as served, at the ends of epochs that were tested: it chooses nothing


@dataclass(frozen=True)
class FrequencyBin:
    """Test scores over lookups of ids that are equally frequent in the training rows; see `measure.frequency`.

    `name` is the bin, or `all` for all test rows; `ids` are the tables' rows in it, `lookups` its share of the test
    lookups, both over the features that are compressed.
    """

    name: str
    ids: int
    lookups: float
    auc: float | None = None
    log_loss: float | None = None
    calibration: float | None = None
    ece: float | None = None


@dataclass(frozen=True)
class ServedPoint:
    """Test scores of the model as trained, or once folding has applied these modifiers on top of those before."""

    modifiers: str  # as written in a spec; empty as trained
    auc: float | None = None
    log_loss: float | None = None


@dataclass(frozen=True)
class Tuned:
    """How a run's learning rate and knobs were chosen: by the validation AUC of trials, all with seed 0.

    Attributes:
        how: the way, with all that decided what was tried; runs of other ways are never compared with these.
        trials: how many the method had, as every other did; `failed` of them gave no score, and lost.
        chosen, default: the values chosen, and those that nobody has tuned: `learning_rate`, and the knobs that are not
            left as they are.
        valid_auc, default_valid_auc: of their trials' best epochs; None of one that failed.
        auc, default_auc: of the same on the test part, which chose nothing.
        edges: names of values that are the largest or smallest tried, so that others beyond may give more.
    """

    how: str
    trials: int
    chosen: dict[str, Any]
    default: dict[str, Any]
    failed: int = 0
    valid_auc: float | None = None
    default_valid_auc: float | None = None
    auc: float | None = None
    default_auc: float | None = None
    edges: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataRecord:
    """The data of a run; `about` is what the reader of their format tells."""

    name: str
    format: str
    fingerprint: str
    rows: dict[str, int]  # of the train, valid and test part
    features: tuple[str, ...]
    num_embeddings: tuple[int, ...]
    dense: tuple[str, ...]
    split: str | None = None
    min_count: int | None = None
    label_mean: float | None = None
    columns: dict[str, Any] | None = None
    best_auc: float | None = None  # the best reachable, where the data's maker knows it
    row0_share: tuple[float, ...] = ()
    row0_share_total: float | None = None
    id_frequencies: tuple[dict[str, Any], ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
    hot_rows: dict[str, Any] | None = None

    @property
    def published(self) -> str | None:
        """The public data set whose published test part this is, with the published ids; None where it is none."""
        return self.about.get("dataset") if self.about.get("as_published") is True else None


@dataclass(frozen=True)
class Run:
    """A method with one seed on one data set.

    Attributes:
        method: the method as the user wrote it; `name`, `knobs` and `modifiers` are its parts, the knobs those of its
            largest table.
        status: `ok`, `failed` or `cannot reach`; `reason` says why, `smallest` what could be reached.
        model: name, preset, table width and the click model's own configuration.
        is_full: plain tables, the baseline of all others.
        is_baseline: what people have already, plain tables of one kind or another.
        metrics: numbers by name, all in `embpress.reports.metrics`.
        by_frequency: test scores of the model as served, by how frequent ids are; empty where no feature is compressed.
        served: the model as trained, then after each step of folding; empty where serving changes no lookup.
        latency_of_seed: the seed that measured the latency, which all seeds of a method share; None where none has.
        backend: what answered the lookups.
        predictions: file of the test probabilities, beside the record.
        created: when the run began, ISO 8601 in UTC; one that was taken up again, when it was last.
        resumed: how often it was taken up again in the middle of its training, which changes nothing but times.
        tuned: how its learning rate and knobs were chosen; None where they are as they were asked for. Where they were,
            `training` holds the way and not the rate, and `method` the spec without the knobs chosen.
    """

    method: str
    name: str
    seed: int
    data: DataRecord
    model: dict[str, Any]
    training: dict[str, Any]
    asked: Asked = Asked()
    knobs: dict[str, Any] = field(default_factory=dict)
    modifiers: tuple[str, ...] = ()
    is_full: bool = False
    is_baseline: bool = False
    plan: str | None = None  # a hash of the plan that the method names
    status: str = "failed"
    reason: str | None = None
    smallest: Smallest | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    latency_of_seed: int | None = None
    tables: tuple[TableRecord, ...] = ()
    learning_curve: tuple[CurvePoint, ...] = ()
    by_frequency: tuple[FrequencyBin, ...] = ()
    served: tuple[ServedPoint, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    backend: str = ""
    device: str = "cpu"
    predictions: str | None = None
    command: str = ""
    created: str = ""
    resumed: int = 0
    tuned: Tuned | None = None

    @property
    def ok(self) -> bool:
        """Whether the run came to its end."""
        return self.status == "ok"

    @property
    def threads_waited(self) -> bool:
        """Whether the threads of this run waited for each other, as on a busy machine: its times are then too long."""
        if not self.ok or self.device != "cpu" or self.environment.get("threads") == 1 or not self.learning_curve:
            return False
        if self.data.format == LOADERS:  # which may take their time themselves
            return False
        median, total = self.metrics.get("step_ms"), self.metrics.get("train_seconds")
        if median is None or total is None:
            return False
        if self.metrics.get("lookup_p50_us_b1", 0.0) > 2e3 * median:
            return True  # one sample's rows cannot take longer than a whole training step
        return waiting.threads_wait(median / 1e3, total, self.learning_curve[-1].step)

    @property
    def learning_rate(self) -> Any:
        """The rate that it was trained at; of a tuned run without a choice the way that it would have been chosen."""
        return (self.tuned.chosen if self.tuned else self.training).get("learning_rate")

    @cached_property
    def protocol(self) -> dict[str, Any]:
        """What runs must share to be compared."""
        return protocol(self.data.fingerprint, self.model, self.training)

    @cached_property
    def without_seed(self) -> str:
        """Hash of all that could change the result, but the seed."""
        size = [self.asked.ratio, self.asked.budget]
        plan = [] if self.plan is None else [self.plan]
        return fingerprint([self.method, self.protocol, size, self.device, *plan])

    @cached_property
    def id(self) -> str:
        """File name of the record: readable, and different for whatever could change the result."""
        slug = re.sub(r"[^A-Za-z0-9._=-]+", "-", self.method).strip("-")[:60]
        return f"{slug}-s{self.seed}-{self.without_seed}"

    @property
    def latency(self) -> dict[str, float]:
        """The metrics that all seeds of the method share."""
        return {name: value for name, value in self.metrics.items() if of_method(name)}

    def to_json(self) -> dict[str, Any]:
        """The record as JSON takes it, with schema and id."""
        return {"schema": SCHEMA, "id": self.id, **plain(asdict(self))}

    @classmethod
    def from_json(cls, value: Any) -> Run:
        """The run of a record of the present schema.

        Raises:
            ValueError: something is missing or of another type; names it.
        """
        found: Run = typed(cls, value)
        return found


def protocol(data: str, model: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """What runs must share to be compared: the fingerprint of their data, model and training; see `comparable`."""
    return {"data": data, "model": model, "training": training}


def of_method(metric: str) -> bool:
    """Whether a metric belongs to a method with its knobs, not to a seed: one seed measures it for all."""
    return metric.startswith(("fold_", "lookup_", "model_", "inference_"))


def fingerprint(value: Any) -> str:
    """Ten hexadecimal digits of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:10]


def plain(value: Any) -> Any:
    """What JSON can hold: it has no NaN and no infinity, they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


_hints = cache(get_type_hints)
# what JSON must hold for an annotated type, and its name
_HELD: dict[Any, tuple[Any, str]] = {
    dict: (dict, "an object"),
    tuple: ((list, tuple), "a list"),
    str: (str, "text"),
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
}


def typed(kind: Any, value: Any, place: str = "") -> Any:
    """A value of JSON as the annotated type `kind`; what a dataclass does not know is left out.

    Raises:
        ValueError: something is missing or of another type; names it.
    """
    base, parts = get_origin(kind) or kind, get_args(kind)
    if base is Any:
        return value
    if base in (Union, UnionType):  # all of ours are `… | None`
        return None if value is None else typed(parts[0], value, place)
    is_record = is_dataclass(base)
    held, name = _HELD[dict if is_record else base]
    if not isinstance(value, held) or (isinstance(value, bool) and base is not bool):
        raise ValueError(f"{place or 'it'} is not {name}")
    if is_record:
        needed = [f.name for f in fields(base) if f.default is MISSING and f.default_factory is MISSING]
        missing = [f"{place}.{name}".lstrip(".") for name in needed if name not in value]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        kinds = [(name, kind) for name, kind in _hints(base).items() if name in value]
        return base(**{name: typed(kind, value[name], f"{place}.{name}".lstrip(".")) for name, kind in kinds})
    if base is tuple:
        return tuple(typed(parts[0], item, f"{place}[{i}]") for i, item in enumerate(value))
    if base is dict and parts[1] is not Any:
        items = {key: typed(parts[1], item, f"{place}.{key}") for key, item in value.items() if item is not None}
        return {key: item for key, item in items.items() if item is not None}
    return None if base is float and not math.isfinite(value) else value
