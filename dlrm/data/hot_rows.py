"""How the lookups of a data set concentrate on few rows, and how soon training shows which (TT-Rec, 4.2 and 6.5)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from embpress.dlrm.data import ClickData, Part
from embpress.dlrm.data.assemble import lookups

Ints = NDArray[np.int64]

# shares of a table's rows whose stability is followed; the paper caches 0.01 %
FRACTIONS = (0.0001, 0.001, 0.01)
# shares of a table's rows that a cache may hold: 0.001 % to 10 %
CACHE_FRACTIONS = (*(m / 10**k for k in (5, 4, 3, 2) for m in (1, 2, 5)), 0.1)
CHECKPOINTS = 20  # after each 5 % of the first epoch: the paper has Terabyte's rows settled by then
MIN_ROWS = 200  # smaller tables stay full by default, so nothing is cached of them
MAX_TABLES = 5  # that are listed one by one: a record stays small


def rows_of(fraction: float, num_embeddings: int) -> int:
    """So many rows are a share of a table: at least one."""
    return max(1, round(fraction * num_embeddings))


def hot_rows(data: ClickData, seed: int = 0, min_rows: int = MIN_ROWS) -> dict[str, Any]:
    """Stability of the most frequent rows over the first epoch, and the test lookups that they answer.

    The share of a table that is hot is the `k = max(1, round(fraction · n))` rows with the most lookups so far. Rows
    with equally many are put in a random order, the same throughout: by their number, which falls with the frequency
    over all of training, an early checkpoint would know of the end.

    Args:
        data: ids `(N, F)` or bags of the rows trained on and of the test part.
        seed: fixes the order of the samples as in `train` with this seed.
        min_rows: smaller tables are left out.

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
    order = torch.randperm(len(data.train), generator=Generator().manual_seed(seed))
    tables, unshuffled = [], []
    for f in features:
        n = data.num_embeddings[f]
        ks = [rows_of(fraction, n) for fraction in FRACTIONS]
        sizes = [rows_of(fraction, n) for fraction in CACHE_FRACTIONS]
        test = lookups(data.test, f).numpy()
        tables.append(
            {
                "feature": data.features[f],
                "num_embeddings": n,
                "k": ks,
                **stability(_chunks(data.train, f, order), n, ks),
                "cache_rows": sizes,
                "test_lookups": len(test),
                "row0_lookups": int((test == 0).sum()),
                "hits": hits(data.counts[f].numpy(), test, sizes),
            }
        )
        unshuffled.append(stability(_chunks(data.train, f, None), n, ks))
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
    tie = np.random.default_rng(0).permutation(num_embeddings)
    counts = np.zeros(num_embeddings, np.int64)
    tops = []
    for chunk in chunks:
        counts += np.bincount(chunk, minlength=num_embeddings)
        tops.append(_top(counts, tie, max(ks)))
    last = _ranks(tops[-1], num_embeddings)
    in_last = [[int((last[top[:k]] < k).sum()) for top in tops] for k in ks]
    kept: list[list[int]] = [[] for _ in ks]
    for before, top in pairwise(tops):
        ranks = _ranks(before, num_embeddings)
        for shared, k in zip(kept, ks):
            shared.append(int((ranks[top[:k]] < k).sum()))
    return {"in_last": in_last, "kept": kept}


def hits(counts: Ints, test_ids: NDArray[Any], sizes: Sequence[int]) -> list[int]:
    """How many test lookups fall on the rows that were looked up most in training, for caches of several sizes.

    Args:
        counts: `(n,)` lookups of each row in training.
        test_ids: `(*,)` ids in 0..n-1.
        sizes: rows that a cache holds, each in 1..n.
    """
    rank = np.empty(len(counts), np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    answered = np.cumsum(np.bincount(rank[test_ids], minlength=len(counts)))
    return [int(answered[size - 1]) for size in sizes]


def _chunks(part: Part, feature: int, order: Tensor | None) -> list[Ints]:
    """The ids of one feature between the checkpoints, samples in the given order, else in their own."""
    marks = [round(len(part) * c / CHECKPOINTS) for c in range(CHECKPOINTS + 1)]
    if feature in part.bags:
        bags = part.bags[feature] if order is None else part.bags[feature].take(order)
        marks = bags.offsets[torch.tensor(marks)].tolist()
        ids = bags.values
    else:
        ids = part.ids[:, feature].contiguous()
        ids = ids if order is None else ids[order]
    values = ids.numpy()
    return [values[start:stop] for start, stop in pairwise(marks)]


def _top(counts: Ints, tie: Ints, k: int) -> Ints:
    """The k rows with the most lookups, most first, fewer where fewer were looked up: `(<= k,)`."""
    n = len(counts)
    key = counts * n + tie  # no two alike; far below 2**63 for any counts and rows that fit into memory
    rows = np.argpartition(key, n - k)[n - k :]
    rows = rows[np.argsort(-key[rows])]
    return rows[counts[rows] > 0]


def _ranks(top: Ints, num_embeddings: int) -> Ints:
    """Place of each row in a top list, n where it is not in it: `(n,)`."""
    ranks = np.full(num_embeddings, num_embeddings, np.int64)
    ranks[top] = np.arange(len(top))
    return ranks


def _sum(values: Sequence[Any]) -> Any:
    """Sum of numbers or of equally nested lists of them."""
    return np.sum(np.array(values, dtype=np.int64), axis=0).tolist()
