"""Rows put together anew from centres of clusters, chunk by chunk, and from what these leave (Tsang and Ahle 2023)."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq
from torch import Generator, Tensor

from embpress.compressors.methods.cce.pointers import BLOCK, no_pointers, pointer_bits, put_pointers

# rows that centres are found on, at least 8 a centre; rounds of k-means
_SAMPLE, _A_CENTRE, _ROUNDS = 1 << 16, 8, 10

Rows = Callable[[int, int], Tensor]


def clustered(
    rows: Rows,
    n: int,
    parts: int,
    k: int,
    slots: int,
    hashes: Callable[[Tensor], Tensor],
    residual: bool,
    generator: Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Clusters each chunk of the rows by k-means.

    Args:
        rows: rows `(stop - start, D)` of ids `start … stop - 1`, floating point on the CPU; each is asked for twice.
        n: rows in all.
        parts: chunks of a row.
        k: centres a chunk.
        slots: rows a chunk that ids are hashed into.
        hashes: of ids `(N,)`, the rows of `hashed` that their chunks take, `(N, parts)`.
        residual: a hashed row starts as the mean of what the centres leave of its ids, not at zero.
        generator: chooses the sample, and the rows that centres begin at.

    Returns:
        On the CPU, the chunks' centres `(parts k, D / parts)` one chunk after the other, the hashed rows
        `(parts slots, D / parts)`, and the pointers, packed, `parts` a row.
    """
    wanted = max(_SAMPLE, _A_CENTRE * k)
    chosen = torch.arange(n) if n <= wanted else torch.randint(n, (wanted,), generator=generator).unique()
    sample = torch.cat([rows(*span)[chosen[part] - span[0]] for span, part in _blocks(n, chosen)])
    chunks = sample.unflatten(1, (parts, -1)).numpy()
    centres = np.stack([_centres(np.ascontiguousarray(chunks[:, j]), k, generator) for j in range(parts)])
    found = torch.from_numpy(centres)

    words = no_pointers(n * parts, pointer_bits(k))
    left = found.new_zeros(parts * slots, found.shape[2])
    count = found.new_zeros(parts * slots)
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        whole = rows(start, stop).unflatten(1, (parts, -1))
        nearest = torch.stack(
            [torch.from_numpy(vq(whole[:, j].numpy(), centres[j])[0]).long() for j in range(parts)], dim=1
        )
        put_pointers(words, start * parts, nearest.flatten(), pointer_bits(k))
        if residual:
            beyond = whole - found[torch.arange(parts), nearest]
            slot = hashes(torch.arange(start, stop)).flatten()
            left.index_add_(0, slot, beyond.flatten(0, 1))
            count.index_add_(0, slot, torch.ones(len(slot), dtype=count.dtype))
    return found.flatten(0, 1), left / count.clamp(min=1).unsqueeze(1), words


def _blocks(n: int, chosen: Tensor) -> list[tuple[tuple[int, int], slice]]:
    """Spans of ids, and which of the ascending `chosen` lie in each; spans without any are left out."""
    starts = torch.arange(0, n + BLOCK, BLOCK)
    ends = torch.searchsorted(chosen, starts).tolist()
    spans = [(start, min(n, start + BLOCK)) for start in starts[:-1].tolist()]
    return [(span, slice(a, b)) for span, a, b in zip(spans, ends, ends[1:]) if a < b]


def _centres(points: NDArray[np.floating], k: int, generator: Generator) -> NDArray[np.floating]:
    """Centres `(k, w)` of points `(S, w)`; with fewer distinct points than centres the rest is zero."""
    distinct = np.unique(points, axis=0)
    begin = np.zeros((k, points.shape[1]), points.dtype)
    if len(distinct) <= k:
        begin[: len(distinct)] = distinct
        return begin
    begin[:] = distinct[torch.randperm(len(distinct), generator=generator)[:k].numpy()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a centre that nothing is near to stays where it is
        return kmeans2(points, begin, iter=_ROUNDS, minit="matrix")[0]
