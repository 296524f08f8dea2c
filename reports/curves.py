"""What a run had reached after so many epochs or seconds, by its learning curve."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from embpress.dlrm.runs.record import Run


@dataclass(frozen=True)
class Reached:
    """A point of a run's learning curve.

    Attributes:
        epoch: passes over the training part.
        seconds: of training, evaluation not counted; None where nobody knows.
        valid_auc: of the model as trained.
        test_auc: as served; None where the test part was not scored then, or the record does not tell.
    """

    epoch: float
    seconds: float | None
    valid_auc: float
    test_auc: float | None

    @property
    def whole(self) -> bool:
        """Whether an epoch ends here, which is where a run may be tested."""
        return self.epoch == int(self.epoch)


def reached(run: Run) -> list[Reached]:
    """The points of a run that know a validation AUC, in their order.

    Records of before tell of no seconds at a point: there they are those of all training in proportion to the steps.
    """
    metrics = run.metrics
    last = run.learning_curve[-1] if run.learning_curve else None
    points = []
    for point in run.learning_curve:
        if point.valid_auc is None or last is None:
            continue
        seconds, total = point.seconds, metrics.get("train_seconds")
        if seconds is None and total is not None and last.step:
            seconds = total * point.step / last.step
        test = point.test_auc
        if test is None and point.epoch == metrics.get("best_epoch"):
            test = metrics.get("auc")
        if test is None and point is last:
            test = metrics.get("auc_last")
        points.append(Reached(point.epoch, seconds, point.valid_auc, test))
    return points


def seconds_are_shares(run: Run) -> bool:
    """Whether the seconds of its points are those of all training in proportion to the steps."""
    return any(point.seconds is None for point in run.learning_curve)


def best(points: Iterable[Reached]) -> Reached | None:
    """The point with the best validation AUC, the first of equal ones; None without points."""
    return max(points, key=lambda point: point.valid_auc, default=None)


def best_epoch(points: Iterable[Reached]) -> Reached | None:
    """The same of the ends of epochs alone."""
    return best(point for point in points if point.whole)
