"""How the lookups of a data set concentrate on few rows, and how soon training shows which (TT-Rec, 4.2 and 6.5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Generator

from embpress.dlrm.data import ClickData, Part
from embpress.dlrm.data.ahead import ahead
from embpress.dlrm.data.assemble import count_lookups, lookups
from embpress.dlrm.training.order import drawn

Ints = NDArray[np.int64]

# shares of a table's rows whose stability is followed; the paper caches 0.01 %
FRACTIONS = (0.0001, 0.001, 0.01)
# shares of a table's rows that a cache may hold: 0.001 % to 10 %
CACHE_FRACTIONS = (*(m / 10**k for k in (5, 4, 3, 2) for m in (1, 2, 5)), 0.1)
CHECKPOINTS = 20  # after each 5 % of the first epoch: the paper has Terabyte's rows settled by then
MIN_ROWS = 200  # smaller tables stay full by default, so nothing is cached of them
MAX_TABLES = 5  # that are listed one by one: a record stays small
PIECE = 1 << 20  # samples at once
_SPARSE = 16  # times as many rows as lookups, from which on these are counted one by one
TOGETHER = 1 << 26  # rows of tables that are followed in one pass over the samples, 12 bytes each


def rows_of(fraction: float, num_embeddings: int) -> int:
    """So many rows are a share of a table: at least one."""
    return max(1, round(fraction * num_embeddings))


def hot_rows(data: ClickData, seed: int = 0, min_rows: int = MIN_ROWS, window: int | None = None) -> dict[str, Any]:
    """Stability of the most frequent rows over the first epoch, and the test lookups that they answer.

    The share of a table that is hot is the `k = max(1, round(fraction · n))` rows with the most lookups so far. Rows
    with equally many are put in a random order, the same throughout: by their number, which falls with the frequency
    over all of training, an early checkpoint would know of the end.

    Args:
        data: ids `(N, F)` or bags of the rows trained on and of the test part.
        seed: fixes the order of the samples as in `train` with this seed.
        min_rows: smaller tables are left out.
        window: of that order: see `order.window_of`.

    Returns:
        Numbers ready for JSON, none of them an id. `progress`: shares of the epoch. `tables`: the largest, with
        `feature`, `num_embeddings` and these, which `all` has summed over all `num_tables` tables of `min_rows` rows:
        `k` of each of `fractions`; for each of those `in_last`, how many of the hot rows at each point of `progress`
        are hot at its end, and `kept`, how many of them were hot at the point before (one point fewer); `cache_rows`
        of each of `cache_fractions` and `hits`, how many of the `test_lookups` fall on so many rows that training
        looked up most; `row0_lookups`, how many fall on row 0. `all` also has `in_last_unshuffled` and
        `kept_unshuffled`, with the samples in the data's own order; it is None where there is no such table.
    """
    features = [f for f, n in enumerate(data.num_embeddings) if n >= min_rows]
    features.sort(key=lambda f: -data.num_embeddings[f])
    tables: list[dict[str, Any]] = []
    unshuffled: list[dict[str, list[list[int]]]] = []
    for some in _groups(features, data.num_embeddings):
        order = drawn(len(data.train), window, Generator().manual_seed(seed))
        unshuffled += [one.found() for one in _followed(data, some, data.train.split(PIECE)).values()]
        for f, one in _followed(data, some, ahead(order.pieces(data.train, PIECE))).items():
            tables.append({"feature": data.features[f], "num_embeddings": one.n, "k": one.ks, **one.found()})
    tested = dict(zip(features, count_lookups(data.test, [data.num_embeddings[f] for f in features], features)))
    for f, table in zip(features, tables):
        test = tested[f].numpy()
        sizes = [rows_of(fraction, table["num_embeddings"]) for fraction in CACHE_FRACTIONS]
        table |= {"cache_rows": sizes, "test_lookups": int(test.sum()), "row0_lookups": int(test[0])}
        table["hits"] = _answered(data.counts[f].numpy(), test, sizes)
    summed = ("num_embeddings", "k", "in_last", "kept", "cache_rows", "test_lookups", "row0_lookups", "hits")
    return {
        "min_rows": min_rows,
        "num_tables": len(features),
        "fractions": list(FRACTIONS),
        "progress": [(c + 1) / CHECKPOINTS for c in range(CHECKPOINTS)],
        "cache_fractions": list(CACHE_FRACTIONS),
        "tables": tables[:MAX_TABLES],
        "all": {
            **{name: _sum([table[name] for table in tables]) for name in summed},
            **{f"{name}_unshuffled": _sum([table[name] for table in unshuffled]) for name in ("in_last", "kept")},
        }
        if tables
        else None,
    }


def stability(chunks: Sequence[Ints], num_embeddings: int, ks: Sequence[int]) -> dict[str, list[list[int]]]:
    """How the top-k rows by lookups so far change from chunk to chunk.

    Args:
        chunks: ids looked up between one checkpoint and the next, `(*,)` each.
        num_embeddings: rows n of the table.
        ks: sizes of the set, each in 1..n.

    Returns:
        For each k: `in_last`, rows shared with the top k after the last chunk, one number a chunk; `kept`, rows shared
        with the top k one chunk earlier, from the second chunk on. Rows never looked up are in no top k.
    """
    followed = _Followed(num_embeddings, ks)
    for chunk in chunks:
        followed.add(chunk)
        followed.mark()
    return followed.found()


class _Followed:
    """Lookups of the rows of a table so far, and the most frequent rows at each checkpoint."""

    def __init__(self, n: int, ks: Sequence[int]) -> None:
        self.n, self.ks = n, list(ks)
        self._tie = np.random.default_rng(0).permutation(n).astype(np.int32 if n < 2**31 else np.int64)
        self._counts = np.zeros(n, np.int64)
        self._tops: list[Ints] = []

    def add(self, ids: NDArray[Any]) -> None:
        """Counts more lookups, `(*,)`."""
        if len(ids) * _SPARSE < self.n:  # few of a large table's rows: its memory is not gone through
            rows, counts = np.unique(ids, return_counts=True)
            self._counts[rows] += counts
        else:
            self._counts += np.bincount(ids, minlength=self.n)

    def mark(self) -> None:
        """A checkpoint."""
        self._tops.append(_top(self._counts, self._tie, max(self.ks)))

    def found(self) -> dict[str, list[list[int]]]:
        """See `stability`."""
        places = np.full(self.n, self.n, np.int64)  # in a top list; n where a row is not in it

        def shared(top: Ints, other: Ints) -> list[int]:
            places[other] = np.arange(len(other))
            found = [int((places[top[:k]] < k).sum()) for k in self.ks]
            places[other] = self.n
            return found

        in_last = [shared(top, self._tops[-1]) for top in self._tops]
        kept = [shared(top, before) for before, top in pairwise(self._tops)]
        return {"in_last": _by_size(in_last, self.ks), "kept": _by_size(kept, self.ks)}


def hits(counts: Ints, test_ids: NDArray[Any], sizes: Sequence[int]) -> list[int]:
    """How many test lookups fall on the rows that were looked up most in training, for caches of several sizes.

    Args:
        counts: `(n,)` lookups of each row in training.
        test_ids: `(*,)` ids in 0..n-1.
        sizes: rows that a cache holds, each in 1..n.
    """
    return _answered(counts, np.bincount(test_ids, minlength=len(counts)), sizes)


def _answered(counts: Ints, test: Ints, sizes: Sequence[int]) -> list[int]:
    """`hits` from the test lookups of each row, `(n,)`."""
    answered = np.cumsum(test[np.argsort(-counts, kind="stable")])
    return [int(answered[size - 1]) for size in sizes]


def _groups(features: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Features whose tables have at most `TOGETHER` rows together, or one; in the same order."""
    group: list[int] = []
    for f in features:
        if group and sum(sizes[other] for other in group) + sizes[f] > TOGETHER:
            yield group
            group = []
        group.append(f)
    if group:
        yield group


def _followed(data: ClickData, features: Sequence[int], pieces: Iterator[Part]) -> dict[int, _Followed]:
    """Features over an epoch of the training part, which comes in pieces."""
    sizes = {f: data.num_embeddings[f] for f in features}
    followed = {f: _Followed(n, [rows_of(fraction, n) for fraction in FRACTIONS]) for f, n in sizes.items()}
    marks = [round(len(data.train) * (c + 1) / CHECKPOINTS) for c in range(CHECKPOINTS)]
    done = 0
    for piece in pieces:
        start = 0
        while start < len(piece) or (marks and marks[0] == done):
            stop = min(len(piece), start + marks[0] - done)
            some = piece.slice(start, stop)
            for f, one in followed.items():
                one.add(lookups(some, f).numpy())
            done, start = done + stop - start, stop
            if marks[0] == done:
                for one in followed.values():
                    one.mark()
                del marks[0]
    return followed


def _top(counts: Ints, tie: NDArray[Any], k: int) -> Ints:
    """The k rows with the most lookups, most first, fewer where fewer were looked up: `(<= k,)`."""
    rows = np.flatnonzero(counts)
    key = counts[rows] * len(counts) + tie[rows]  # no two alike; far below 2**63 for any counts that fit into memory
    if len(rows) > k:
        most = np.argpartition(key, len(rows) - k)[len(rows) - k :]
        rows, key = rows[most], key[most]
    return rows[np.argsort(-key)]


def _by_size(of_each: list[list[int]], ks: Sequence[int]) -> list[list[int]]:
    """From one list a checkpoint to one list a size."""
    return [[found[i] for found in of_each] for i in range(len(ks))]


def _sum(values: Sequence[Any]) -> Any:
    """Sum of numbers or of equally nested lists of them."""
    return np.sum(np.array(values, dtype=np.int64), axis=0).tolist()
