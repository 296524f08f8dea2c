"""The shapes whose floors are published, and the benchmark's."""

from __future__ import annotations

import math
from dataclasses import dataclass

from embpress.compressors.methods.qr import partition_sizes
from embpress.dlrm.bench.roofline import (
    TTShape,
    Work,
    gather,
    mlet_backward,
    mlet_forward,
    qr_backward,
    qr_forward,
    robe_backward,
    robe_forward,
    scatter,
    tt_backward,
    tt_forward,
)

ROWS = 10_131_227  # Criteo-Kaggle's largest table
TT_DIM, ROBE_DIM, ROBE_Z, ROBE_RATIO = 64, 128, 32, 1000
BATCHES = (10_240, 65_536)
ROBE_BATCHES = (10_240, 1_000_000)


@dataclass(frozen=True)
class FloorCase:
    """One line of the page: an op with its setting, a pass, a number of lookups, and their work."""

    op: str
    stage: str
    lookups: int
    work: Work


def robe_size(rows: int, dim: int, ratio: float) -> int:
    """Elements of ROBE's array at this ratio."""
    return max(ROBE_Z, round(rows * dim / ratio))


def floor_cases() -> list[FloorCase]:
    """Every case of the page, op after op."""
    return [*_tt(), *_robe(), *_tables()]


def _tt() -> list[FloorCase]:
    cases = []
    for rank in (16, 32, 64):
        shape = TTShape.of(ROWS, TT_DIM, rank)
        for lookups in BATCHES:
            for grouped in (False, True):
                name = f"TT R={rank}{', grouped' if grouped else ''}"
                forward = tt_forward(shape, lookups, grouped=grouped)
                kept = forward + tt_backward(shape, lookups, recompute=False, grouped=grouped)
                again = tt_backward(shape, lookups, grouped=grouped)
                cases += [
                    FloorCase(name, "forward", lookups, forward),
                    FloorCase(name, "backward, recompute", lookups, again),
                    FloorCase(name, "both", lookups, kept),
                    FloorCase(name, "both, recompute", lookups, forward + again),
                ]
    return cases


def _robe() -> list[FloorCase]:
    size = robe_size(ROWS, ROBE_DIM, ROBE_RATIO)
    name, cases = f"ROBE Z={ROBE_Z}, {ROBE_RATIO:,}×", []
    for lookups in ROBE_BATCHES:
        cases += [
            FloorCase(name, "forward", lookups, robe_forward(size, ROBE_DIM, ROBE_Z, lookups)),
            FloorCase(name, "backward, dense", lookups, robe_backward(size, ROBE_DIM, lookups)),
            FloorCase(f"EmbeddingBag D={ROBE_DIM}", "forward", lookups, gather(ROWS, ROBE_DIM, lookups)),
        ]
    return cases


def _tables() -> list[FloorCase]:
    dim, cases = TT_DIM, []
    hashed, parts, inner = math.ceil(ROWS / 10), partition_sizes(ROWS, 4, 2), 4 * dim
    for lookups in BATCHES:
        cases += [
            FloorCase("hash k=n/10", "forward", lookups, gather(hashed, dim, lookups)),
            FloorCase("hash k=n/10", "backward, sparse", lookups, scatter(hashed, dim, lookups, sparse=True)),
            FloorCase("hash k=n/10", "backward, dense", lookups, scatter(hashed, dim, lookups, sparse=False)),
            FloorCase("QR c=4, mult", "forward", lookups, qr_forward(parts, dim, lookups)),
            FloorCase("QR c=4, mult", "backward, sparse", lookups, qr_backward(parts, dim, lookups, sparse=True)),
            FloorCase("QR c=4, mult", "backward, dense", lookups, qr_backward(parts, dim, lookups, sparse=False)),
            FloorCase(f"MLET k={inner}", "forward", lookups, mlet_forward(ROWS, inner, dim, lookups)),
            FloorCase(
                f"MLET k={inner}", "backward, sparse", lookups, mlet_backward(ROWS, inner, dim, lookups, sparse=True)
            ),
            FloorCase(f"EmbeddingBag D={dim}", "forward", lookups, gather(ROWS, dim, lookups)),
            FloorCase(f"EmbeddingBag D={dim}", "backward, sparse", lookups, scatter(ROWS, dim, lookups, sparse=True)),
        ]
    return cases
