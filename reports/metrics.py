"""Every number that a run record may hold: its name, unit, which way is better, how it is shown, what it means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from embpress.dlrm.runs.record import of_method
from embpress.reports import numerals

BATCH_SIZES = (1, 128, 2048)


@dataclass(frozen=True)
class Metric:
    """One number of a run; `format` writes a value with its unit, `decimals` is None where it follows the size."""

    name: str
    unit: str
    better: Literal["higher", "lower"] | None
    title: str
    format: Callable[[float], str]
    meaning: str
    decimals: int | None = None

    @property
    def of_method(self) -> bool:
        """Whether it belongs to a method with its knobs, not to a seed: measured once."""
        return of_method(self.name)


def _with_unit(unit: str) -> Callable[[float], str]:
    return lambda value: f"{numerals.plain(value)} {unit}"


def _bytes(name: str, title: str, meaning: str) -> Metric:
    return Metric(name, "bytes", "lower", title, numerals.size, meaning)


def _score(name: str, better: Literal["higher", "lower"], title: str, meaning: str) -> Metric:
    return Metric(name, "", better, title, numerals.score, meaning, decimals=4)


def _timed(name: str, unit: str, title: str, meaning: str) -> Metric:
    return Metric(name, unit, "lower", title, _with_unit(unit), meaning)


def _rate(name: str, title: str, meaning: str) -> Metric:
    return Metric(name, "1/s", "higher", title, _with_unit("/s"), meaning)


def _count(name: str, title: str, meaning: str) -> Metric:
    return Metric(name, "", None, title, numerals.plain, meaning)


def _share(name: str, better: Literal["higher", "lower"] | None, title: str, meaning: str) -> Metric:
    return Metric(name, "", better, title, numerals.percent, meaning)


def _latency(part: str, what: str) -> list[Metric]:
    return [
        _timed(
            f"{part}_p{percent}_us_b{batch}",
            "µs",
            f"{part.capitalize()} p{percent}, batch {batch}",
            f"Microseconds for one {what}, batch of {batch}; {percent} % of the calls take at most this long. On CUDA "
            "each call is waited for and timed by events on the device. Measured once for a method with its knobs.",
        )
        for batch in BATCH_SIZES
        for percent in (50, 95, 99)
    ]


_ALL = [
    _bytes(
        "serving_bytes",
        "Size",
        "Every byte needed to answer lookups, all tables together. 1 MB is 10^6 bytes.",
    ),
    _bytes("full_bytes", "Full size", "The same tables uncompressed: 4 bytes × rows × width, summed over all tables."),
    _bytes(
        "training_bytes",
        "Training size",
        "Bytes of the tables while training: weights, gradients, optimizer state, what a batch keeps for its backward.",
    ),
    Metric("ratio", "×", "higher", "Ratio", numerals.ratio, "Full size divided by size; 16× is 1/16 of the bytes."),
    _score(
        "auc",
        "higher",
        "Test AUC",
        "Chance that a clicked example is ranked above one that was not (0.5 is guessing, 1 is perfect), exact, on the "
        "test rows, of the model as it is served, at the epoch with the best validation AUC.",
    ),
    _score(
        "auc_trained",
        "higher",
        "AUC as trained",
        "Test AUC of the same weights before a modifier of serving, such as fewer bits, has changed them.",
    ),
    _share(
        "cache_hit_rate",
        "higher",
        "Cache hit rate",
        "Share of the test lookups, in tables with a cache of uncompressed rows, that the cached rows answer.",
    ),
    _score("auc_last", "higher", "Last AUC", "Test AUC after the last epoch, as served."),
    _score(
        "valid_auc",
        "higher",
        "Valid AUC",
        "Best AUC on the validation rows, as trained; it picks the epoch that is tested.",
    ),
    _score(
        "valid_auc_served",
        "higher",
        "Valid AUC, served",
        "AUC on the validation rows in the epoch that is tested, as served, where serving changes lookups.",
    ),
    _score("log_loss", "lower", "Log loss", "Mean negative log likelihood of the test labels, in nats."),
    _score("log_loss_trained", "lower", "Log loss as trained", "Log loss before a modifier of serving has changed it."),
    _score("accuracy", "higher", "Accuracy", "Share of test labels predicted right at a threshold of 0.5."),
    _count("best_epoch", "Best epoch", "The epoch with the best validation AUC."),
    _timed(
        "step_ms",
        "ms",
        "Step",
        "Milliseconds for one training step (forward, backward, update), median. On the CPU from its start to its "
        "return, on CUDA between two events on the device, with the batch there already.",
    ),
    _timed("train_seconds", "s", "Training", "Seconds of training, with the way of the data, evaluation not counted."),
    _bytes(
        "wire_bytes_per_step",
        "On the wire",
        "Bytes that each of several processes sends in one training step, mean: gradients and the loss, counted as a "
        "ring sends them. A sum of b bytes over N processes is 2 (N - 1) / N b; rows of sparse gradients are gathered, "
        "(N - 1) times the longest share, or summed where that is less. Tables divided among processes send ids, "
        "pooled rows and their gradients to those that want them. What caches of rows and clusterings exchange now and "
        "then is not in it, nor what scoring does.",
    ),
    _rate("train_samples_per_s", "Training rate", "Examples trained on a second."),
    _bytes(
        "peak_memory_bytes",
        "Peak memory",
        "Largest number of bytes held at once in a training step of the whole model, on its device, as its allocator "
        "saw it.",
    ),
    _bytes(
        "peak_device_bytes",
        "Peak on the GPU",
        "Largest number of bytes that all tensors on the GPU took at once while the model was trained and evaluated.",
    ),
    *_latency("lookup", "call that looks up all tables at once"),
    *_latency("model", "call of the whole model"),
    _timed("fold_seconds", "s", "Folding", "Seconds to bring trained tables into the form that is served."),
    _rate("inference_samples_per_s", "Inference rate", "Examples scored a second by the whole model."),
]

# what is measured of a run, of its data, of each of its tables, at each point of its learning curve, and of each step
# from the trained model to the one that is served
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
DATA_METRICS = {
    "resumed": _count("resumed", "Resumed", "How often the run went on from a checkpoint, having been interrupted."),
    "label_mean": _share("label_mean", None, "Clicked", "Share of the examples that were clicked."),
    "best_auc": _score("best_auc", "higher", "Best AUC", "Best reachable test AUC, where the data's maker knows it."),
    "row0_share_total": _share("row0_share_total", None, "On row 0", "Share of all test lookups that end on row 0."),
}
TABLE_METRICS = {
    **{name: METRICS[name] for name in ("serving_bytes", "full_bytes")},
    "num_embeddings": _count("num_embeddings", "Rows", "Rows of the table: one for each id, and row 0."),
    "embedding_dim": _count("embedding_dim", "Width", "Numbers in a row."),
    "row0_share": _share("row0_share", None, "Lookups on row 0", "Share of the test lookups that end on row 0."),
}
CURVE_METRICS = {
    "step": _count("step", "Step", "Training steps done."),
    "epoch": _count("epoch", "Epoch", "Passes over the training part done."),
    "train_loss": _score("train_loss", "lower", "Training loss", "Mean loss since the point before, in nats."),
    "valid_auc": _score("valid_auc", "higher", "Validation AUC", "AUC on the validation rows."),
    "valid_log_loss": _score("valid_log_loss", "lower", "Validation log loss", "Log loss on the validation rows."),
    "seconds": _timed("seconds", "s", "Seconds", "Seconds of training up to here, evaluation not counted."),
    "test_auc": _score(
        "test_auc", "higher", "Test AUC", "AUC on the test rows as served, at ends of epochs; it chooses nothing."
    ),
}
# of each bin of lookups by how frequent their ids are, of how the ids of each table share what is stored
FREQUENCY_METRICS = {
    "ids": _count("ids", "Ids", "Table rows whose ids are as frequent, over the features that are compressed."),
    "lookups": _share("lookups", None, "Lookups", "Share of the test lookups that are of these ids."),
    **{name: METRICS[name] for name in ("auc", "log_loss")},
    "calibration": _count("calibration", "Predicted / clicked", "Sum of the predicted probabilities over all clicks."),
    "ece": _score(
        "ece",
        "lower",
        "Calibration error",
        "Expected calibration error: of ten bins of equally many rows by prediction, the mean distance of the mean "
        "prediction from the share of clicks.",
    ),
}
_SHARED = {"whole": "the whole row", "part": "a cell of the row"}
_COUNTED = {"ids": "ids", "train": "training lookups", "test": "test lookups"}
SHARING_METRICS = {
    "ids": _count("ids", "Ids", "Ids of the table that were looked at: all, or a sample of a large one."),
    **{
        f"{part}_{of}": _share(
            f"{part}_{of}", "lower", f"{part.capitalize()}: {of}", f"Share of the {many} that share {what} with others."
        )
        for part, what in _SHARED.items()
        for of, many in _COUNTED.items()
    },
    **{
        f"{part}_expected{ending}": _share(
            f"{part}_expected{ending}",
            None,
            f"{part.capitalize()}, by chance{f': {of}' if ending else ''}",
            f"Share of the {_COUNTED[of]} that would share {what} with others under a function drawn at random.",
        )
        for part, what in _SHARED.items()
        for of, ending in (("ids", ""), ("train", "_train"))
    },
    "others_train": _share(
        "others_train",
        "lower",
        "Of other ids",
        "Of the training lookups that reach a cell, the share that is of other ids than the one that reads it.",
    ),
    "others_expected": _share(
        "others_expected", None, "Of other ids, by chance", "The same where cells are drawn at random."
    ),
}

TUNED_METRICS = {
    "trials": _count("trials", "Trials", "Trials that a method's learning rate and knobs were chosen by."),
    "failed": _count("failed", "Failed trials", "Those of them that gave no score."),
    "valid_auc": _score("valid_auc", "higher", "Valid AUC, chosen", "Validation AUC of the trial that was chosen."),
    "default_valid_auc": _score(
        "default_valid_auc",
        "higher",
        "Valid AUC, default",
        "Validation AUC of the settings' own values.",
    ),
    "auc": _score("auc", "higher", "Test AUC, chosen", "Test AUC of the trial that was chosen, of seed 0."),
    "default_auc": _score(
        "default_auc", "higher", "Test AUC, default", "Test AUC of the settings' own values, of seed 0."
    ),
}
SERVED_METRICS = {name: METRICS[name] for name in ("auc", "log_loss")}


def show(name: str, value: float | None) -> str:
    """The value of a metric as text with its unit, a dash where there is none."""
    return numerals.MISSING if value is None else METRICS[name].format(value)
