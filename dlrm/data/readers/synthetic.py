"""Synthetic click data: Criteo-Kaggle's shape, Zipf ids and a planted logit; nothing stored, every row reproducible."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embpress.compressors.errors import InputError
from embpress.compressors.guard import shown, whole
from embpress.dlrm.data.raw import RawField, RawTable
from embpress.dlrm.data.readers.hashing import Floats, hash_of, normal, uniform

# rows of Criteo-Kaggle's 26 tables
CRITEO_SIZES = (
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194,
    27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572,
)  # fmt: skip
LATENTS = 4  # numbers of an id that interact with those of its partner
RANK = 2  # of what ids of one cluster share
# what a draw is for: hashes of different purposes never meet
LABEL, DENSE, DENSE_EFFECT, RANK_DRAW, SCRAMBLE, CLUSTER, OWN, SHARED, MATRIX = range(9)

LABEL_MEAN = 0.25
ROW_BYTES = 20  # a value of a row, in all the copies that making, encoding and splitting hold at once
# standard deviations of parts of the logit, for a best AUC of about 0.83
DENSE_SD = 0.35
LINEAR_SD = 1.4
PAIR_SD = 1.0
PAIRS = 8
# The share of an interaction's variance that is the product of the ids' own effects. With none, every one starts
# at a saddle and a model needs many epochs to see any of it.
TIED = 0.5
# how much weaker the rarest ids are than the most frequent; no model could learn strong effects of rare ids
TAIL = 20.0


@dataclass(frozen=True)
class SyntheticSpec:
    """What determines every row, besides the seed.

    Attributes:
        num_embeddings: distinct ids of each field.
        structure: 0 to 1, from ids that are independent of each other to ids that share clusters and a low rank.
        zipf: exponent of the id frequencies; 0 is uniform.
        dense: number of dense columns.
    """

    num_embeddings: tuple[int, ...]
    structure: float = 0.5
    zipf: float = 1.05
    dense: int = 13

    def pairs(self) -> list[tuple[int, int]]:
        """The pairs of fields that interact, each a large one with a smaller one: at most `PAIRS`."""
        by_size = sorted(range(len(self.num_embeddings)), key=lambda f: -self.num_embeddings[f])
        pairs = min(PAIRS, len(by_size) // 2)
        return list(zip(by_size[:pairs], by_size[pairs : 2 * pairs]))

    def weights(self) -> Floats:
        """Standard deviation of each field's own effect, larger for larger tables: `(F,)`."""
        weight = np.sqrt(np.log2(np.array(self.num_embeddings) + 1.0))
        return np.asarray(LINEAR_SD * weight / np.sqrt((weight**2).sum()))


def scaled_sizes(scale: float) -> tuple[int, ...]:
    """Criteo-Kaggle's 26 table sizes times `scale`, each at least `min(size, 10)`."""
    return tuple(max(min(n, 10), round(n * scale)) for n in CRITEO_SIZES)


def rows_of(
    spec: SyntheticSpec, seed: int, row_numbers: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], Floats]:
    """The rows with the given numbers; each depends on nothing but the spec, the seed and its number.

    Args:
        spec: shape and difficulty.
        seed: 0 or more.
        row_numbers: `(N,)` integers, 0 or more, in any order.

    Returns:
        labels `(N,)` float32 0/1; dense `(N, spec.dense)` float32, counts from 0 on, not transformed; raw ids `(N, F)`
        int64 in 0..num_embeddings-1; the true logits `(N,)` float64.
    """
    rows = np.asarray(row_numbers)
    dense, ids, logits = _inputs(spec, seed, rows)
    logits += _bias(spec, seed)
    labels = uniform(hash_of(seed, LABEL, rows)) < _sigmoid(logits)
    return labels.astype(np.float32), dense, ids, logits


@lru_cache(maxsize=16)
def _bias(spec: SyntheticSpec, seed: int) -> float:
    """What to add to the logits for the label mean; found on the first rows, whatever rows are asked for."""
    logits = _inputs(spec, seed, np.arange(8192))[2]
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if _sigmoid(logits + middle).mean() > LABEL_MEAN else (middle, high)
    return high


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _inputs(
    spec: SyntheticSpec, seed: int, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64], Floats]:
    """Dense counts, raw ids, and the logits without the bias."""
    logits = np.zeros(len(rows))
    dense = np.zeros((len(rows), spec.dense), np.float32)
    if spec.dense:
        effects = normal(hash_of(seed, DENSE_EFFECT, np.arange(spec.dense)))
        effects *= DENSE_SD / np.sqrt((effects**2).sum())
        for k in range(spec.dense):
            counts = np.floor(
                np.exp(1.5 + normal(hash_of(seed, DENSE, k, rows)))
            )  # log-normal, as Criteo's integers are
            dense[:, k] = counts
            logits += effects[k] * (np.log1p(counts) - 1.6)  # so that its mean is about 0

    ids = np.empty((len(rows), len(spec.num_embeddings)), np.int64)
    interacting = {f for pair in spec.pairs() for f in pair}
    latents: dict[int, Floats] = {}
    for f, (n, weight) in enumerate(zip(spec.num_embeddings, spec.weights())):
        ranks = _zipf_ranks(uniform(hash_of(seed, RANK_DRAW, f, rows)), n, spec.zipf)
        ids[:, f] = _scramble(ranks, n, seed, f)
        vector = _vectors(spec, seed, f, ids[:, f], 1 + LATENTS if f in interacting else 1)
        vector = vector * _amplitude(ranks, n, spec.zipf)[:, None]
        logits += weight * vector[:, 0]
        if f in interacting:
            latents[f] = vector
    for f, g in spec.pairs():
        products = latents[f] * latents[g]
        pair = math.sqrt(TIED) * products[:, 0] + math.sqrt((1.0 - TIED) / LATENTS) * products[:, 1:].sum(1)
        logits += PAIR_SD / math.sqrt(len(spec.pairs())) * pair
    return dense, ids, logits


def _amplitude(ranks: NDArray[np.int64], n: int, exponent: float) -> Floats:
    """How strong the ids of these ranks are, falling with the rank; mean square 1 over the lookups."""
    even = (np.arange(4096) + 0.5) / 4096
    mean_square = ((1.0 + TAIL * _zipf_ranks(even, n, exponent) / n) ** -2.0).mean()
    return np.asarray(1.0 / (1.0 + TAIL * ranks / n) / math.sqrt(mean_square))


def _zipf_ranks(u: Floats, n: int, exponent: float) -> NDArray[np.int64]:
    """Ranks 0..n-1 with density about (rank + 1) ** -exponent, by the inverse of the continuous distribution."""
    if abs(exponent - 1.0) < 1e-9:
        x = np.power(n + 1.0, u)
    else:
        power = 1.0 - exponent
        x = np.power(1.0 + u * (np.power(n + 1.0, power) - 1.0), 1.0 / power)
    return np.clip(x.astype(np.int64) - 1, 0, n - 1)


def _scramble(ranks: NDArray[np.int64], n: int, seed: int, field: int) -> NDArray[np.int64]:
    """A bijection of 0..n-1, so that small raw ids are not the frequent ones; the vocabulary numbers them anew."""
    a, b = (int(h) % n for h in hash_of(seed, SCRAMBLE, field, np.arange(2)))
    while math.gcd(a, n) != 1:
        a += 1
    return (ranks * a + b) % n  # below 2**63 as n is far below 2**31


def _vectors(spec: SyntheticSpec, seed: int, field: int, ids: NDArray[np.int64], width: int) -> Floats:
    """Effect and latents of each id, every entry of mean 0 and variance 1: `(N, width)`."""
    n = spec.num_embeddings[field]
    if n <= len(ids):  # cheaper once for every id than once for every row
        return _vectors_of(spec, seed, field, np.arange(n), width)[ids]
    return _vectors_of(spec, seed, field, ids, width)


def _vectors_of(spec: SyntheticSpec, seed: int, field: int, ids: NDArray[np.int64], width: int) -> Floats:
    clusters = hash_of(seed, CLUSTER, field, ids) % np.uint64(math.isqrt(spec.num_embeddings[field] - 1) + 1)
    own = normal(hash_of(seed, OWN, field, ids[:, None], np.arange(width)))
    latent = normal(hash_of(seed, SHARED, field, clusters[:, None], np.arange(RANK)))
    matrix = normal(hash_of(seed, MATRIX, field, np.arange(width)[:, None], np.arange(RANK)))
    matrix /= np.sqrt((matrix**2).sum(1, keepdims=True))
    # entry by entry: a matrix product may round differently with the number of rows
    shared = sum(latent[:, r, None] * matrix[:, r] for r in range(RANK))
    return math.sqrt(1.0 - spec.structure) * own + math.sqrt(spec.structure) * shared


def make(
    rows: int = 200_000,
    scale: float = 0.003,
    structure: float = 0.5,
    zipf: float = 1.05,
    seed: int = 0,
    dense: int = 13,
) -> RawTable:
    """Data with Criteo-Kaggle's shape and a planted logit, to go through the same split and vocabulary as real data.

    The logit is a bias, effects of the dense values, an effect of each id, and interactions of the ids of some pairs of
    fields: half of their variance the product of the ids' effects, half the inner product of 4 latents of their own.

    Args:
        rows: number of rows.
        scale: factor on Criteo-Kaggle's table sizes (33.8 million rows in all).
        structure: 0 to 1, from ids that are independent of each other to ids that share clusters and a low rank.
        zipf: exponent of the id frequencies; 0 is uniform.
        seed: determines every row together with its number.
        dense: number of dense columns.

    Raises:
        InputError: an option out of its range, or more rows than fit the memory.
    """
    for name, value, minimum in (("rows", rows, 3), ("seed", seed, 0), ("dense", dense, 0)):
        whole(value, name, minimum)
    _check("scale", scale, lambda v: 0 < v <= 100, "above 0 and at most 100")
    _check("structure", structure, lambda v: 0 <= v <= 1, "between 0 and 1")
    _check("zipf", zipf, lambda v: 0 <= v <= 10, "between 0 and 10")
    maximum = memory_bytes() // (ROW_BYTES * (len(CRITEO_SIZES) + dense))
    if rows > maximum:
        raise InputError(
            f"rows is {rows:,}, but the memory of this machine holds about {maximum:,} such rows while they are made"
        )
    spec = SyntheticSpec(scaled_sizes(scale), float(structure), float(zipf), dense)
    chunk = 1 << 18  # keeps the transient arrays small
    chunks = [rows_of(spec, seed, np.arange(at, min(at + chunk, rows))) for at in range(0, rows, chunk)]
    labels, counts, ids, logits = (np.concatenate(part) for part in zip(*chunks))
    return RawTable(
        labels=labels,
        dense_names=[f"I{k + 1}" for k in range(dense)],
        dense=np.log1p(counts),
        features=[f"C{f + 1}" for f in range(ids.shape[1])],
        fields=[RawField(ids[:, f]) for f in range(ids.shape[1])],
        logits=logits,
        about={
            "synthetic": {**asdict(spec), "num_embeddings": list(spec.num_embeddings), "seed": seed, "scale": scale}
        },
    )


def memory_bytes() -> int:
    """Physical memory of this machine; a terabyte where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not POSIX
        return 1 << 40


def _check(name: str, value: Any, good: Callable[[Any], bool], what: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not good(value):
        raise InputError(f"{name} is {shown(value)}, but it must be {what}")
