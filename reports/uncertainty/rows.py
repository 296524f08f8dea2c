"""What the test rows do to the AUCs of runs: from the predictions and labels that a run folder holds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embpress.dlrm.measure.delong import covariance, placements
from embpress.dlrm.runs.record import Run
from embpress.dlrm.runs.store import labels_path, read_array

_IN_MEMORY = 1 << 28  # bytes of placement values; more than that go to a file
# a run whose predictions give another AUC was scored on these rows in another order, as a shuffling loader gives them
_SAME_AUC = 1e-3

Key = tuple[str, str]


def key_of(run: Run) -> Key:
    """What tells runs apart, those of several folders too."""
    return run.id, run.created


@dataclass(frozen=True)
class RowCovariance:
    """DeLong's covariance of the AUCs of runs on the same test rows.

    Attributes:
        index: the row of each run in `matrix`; runs whose predictions are not known are not in it.
        matrix: `(R, R)`.
        rows: how many test rows there are.
    """

    index: Mapping[Key, int]
    matrix: NDArray[np.float64]
    rows: int

    def shared(self, ours: Mapping[int, Run], theirs: Mapping[int, Run]) -> float | None:
        """What the rows add to the variance of the mean difference over seeds, whatever their number.

        It is the covariance of the differences of two seeds, averaged over pairs of seeds, at least zero. Of one seed
        it is the variance of its difference, from above; None where no seed has the predictions of both.

        Args:
            ours, theirs: runs by seed.
        """
        pairs = [
            (self.index[a], self.index[b])
            for seed in sorted(ours.keys() & theirs.keys())
            if (a := key_of(ours[seed])) in self.index and (b := key_of(theirs[seed])) in self.index
        ]
        if not pairs:
            return None
        left, right = map(list, zip(*pairs))
        m = self.matrix
        # (k, k): covariance of the difference of one seed and that of another
        gaps = m[np.ix_(left, left)] + m[np.ix_(right, right)] - m[np.ix_(left, right)] - m[np.ix_(right, left)]
        k = len(pairs)
        found = float(gaps[0, 0]) if k == 1 else float(gaps.sum() - np.trace(gaps)) / (k * (k - 1))
        return max(0.0, found)


def row_covariances(runs: Iterable[Run], folders: Sequence[Path]) -> dict[str, RowCovariance]:
    """The covariance of all runs on each data set, by its fingerprint; data whose labels no folder holds are left out.

    Runs are left out that lack their predictions, or whose predictions are damaged, no numbers, or do not give the
    AUC of the record, because they were scored in another order.
    """
    by_data: dict[str, list[Run]] = {}
    for run in runs:
        if run.ok and "auc" in run.metrics:
            by_data.setdefault(run.data.fingerprint, []).append(run)
    found = {}
    for fingerprint, group in by_data.items():
        labels = next((p for f in folders if (p := labels_path(f, fingerprint)).exists()), None)
        if labels is None:
            continue
        candidates = []
        for run in group:
            files = tuple(file for folder in folders if (file := _stamped(folder, run)))
            candidates.append((key_of(run), run.metrics["auc"], files))
        made = _covariance(_stamp(labels), tuple(sorted(candidates)))
        if made is not None:
            found[fingerprint] = made
    return found


def _stamp(path: Path) -> tuple[str, int, int]:
    about = path.stat()
    return str(path), about.st_mtime_ns, about.st_size


def _stamped(folder: Path, run: Run) -> tuple[str, int, int] | None:
    # a run as `compare_models` gives it does not know yet where its predictions were saved
    path = folder / "records" / Path(run.predictions or f"{run.id}.npy").name
    return _stamp(path) if path.is_file() else None


@lru_cache(maxsize=4)  # table, answer and report of one command ask for the same
def _covariance(
    labels_file: tuple[str, int, int], candidates: tuple[tuple[Key, float, tuple[tuple[str, int, int], ...]], ...]
) -> RowCovariance | None:
    labels = read_array(Path(labels_file[0]))
    if labels is None or labels.ndim != 1:
        return None
    index: dict[Key, int] = {}
    aucs: list[float] = []
    with tempfile.TemporaryFile() as file:
        shape = (len(candidates), len(labels))
        values: NDArray[np.float32]
        if 4 * shape[0] * shape[1] <= _IN_MEMORY:
            values = np.empty(shape, np.float32)
        else:
            values = np.memmap(file, np.float32, "w+", shape=shape)
        for key, auc, files in candidates:
            for path, *_ in files:
                scores = read_array(Path(path))
                if scores is None or scores.shape != labels.shape:
                    continue
                placed = placements(scores, labels)
                if placed is not None and abs(placed.auc - auc) <= _SAME_AUC and key not in index:
                    values[len(aucs)] = placed.values
                    index[key] = len(aucs)
                    aucs.append(placed.auc)
        if not aucs:
            return None
        matrix = covariance(values[: len(aucs)], np.array(aucs), labels)
    return RowCovariance(index, matrix, len(labels))
