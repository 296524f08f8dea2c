"""Counted work of each op and the shortest time it can take on a GPU: arithmetic, nothing is measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from embpress.compressors.methods.qr import partition_sizes
from embpress.dlrm.bench.case import Case, Context, Row
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
    robe_size,
    scatter,
    tt_backward,
    tt_forward,
)

ROWS = 10_131_227  # Criteo-Kaggle's largest table
DIM, ROBE_DIM, ROBE_Z, ROBE_RATIO = 64, 128, 32, 1000


@dataclass(frozen=True)
class Size:
    """Lookups of a call, ROBE's apart."""

    batches: tuple[int, ...] = (10_240, 65_536)
    robe_batches: tuple[int, ...] = (10_240, 1_000_000)


FULL = QUICK = Size()


def cases(size: Size, device: torch.device) -> list[Case]:
    """Every case of the page, op after op."""
    lines = [*_tt(size.batches), *_robe(size.robe_batches), *_tables(size.batches)]
    return [_case(*line) for line in lines]


Line = tuple[str, str, int, Work]  # an op with its setting, a pass, a number of lookups, and their work


def _case(op: str, stage: str, lookups: int, work: Work) -> Case:
    def run(context: Context, row: Row) -> None:
        row.setting = {"op": op, "pass": stage, "lookups": lookups}
        row.figures = {"read_bytes": work.read, "written_bytes": work.written}
        context.count(row, work)

    return Case(f"{op}, {stage}, {lookups}", "work", "", run)


def _tt(batches: Sequence[int]) -> list[Line]:
    lines: list[Line] = []
    for rank in (16, 32, 64):
        shape = TTShape.of(ROWS, DIM, rank)
        for lookups in batches:
            for grouped in (False, True):
                name = f"TT R={rank}{', grouped' if grouped else ''}"
                forward = tt_forward(shape, lookups, grouped=grouped)
                kept = forward + tt_backward(shape, lookups, recompute=False, grouped=grouped)
                again = tt_backward(shape, lookups, grouped=grouped)
                lines += [
                    (name, "forward", lookups, forward),
                    (name, "backward, recompute", lookups, again),
                    (name, "both", lookups, kept),
                    (name, "both, recompute", lookups, forward + again),
                ]
    return lines


def _robe(batches: Sequence[int]) -> list[Line]:
    size = robe_size(ROWS, ROBE_DIM, ROBE_Z, ROBE_RATIO)
    name, lines = f"ROBE Z={ROBE_Z}, {ROBE_RATIO:,}×", list[Line]()
    for lookups in batches:
        lines += [
            (name, "forward", lookups, robe_forward(size, ROBE_DIM, ROBE_Z, lookups)),
            (name, "backward, dense", lookups, robe_backward(size, ROBE_DIM, lookups)),
            (f"EmbeddingBag D={ROBE_DIM}", "forward", lookups, gather(ROWS, ROBE_DIM, lookups)),
        ]
    return lines


def _tables(batches: Sequence[int]) -> list[Line]:
    dim, lines = DIM, list[Line]()
    hashed, parts, inner = math.ceil(ROWS / 10), partition_sizes(ROWS, 4, 2), 4 * dim
    for lookups in batches:
        lines += [
            ("hash k=n/10", "forward", lookups, gather(hashed, dim, lookups)),
            ("hash k=n/10", "backward, sparse", lookups, scatter(hashed, dim, lookups, sparse=True)),
            ("hash k=n/10", "backward, dense", lookups, scatter(hashed, dim, lookups, sparse=False)),
            ("QR c=4, mult", "forward", lookups, qr_forward(parts, dim, lookups)),
            ("QR c=4, mult", "backward, sparse", lookups, qr_backward(parts, dim, lookups, sparse=True)),
            ("QR c=4, mult", "backward, dense", lookups, qr_backward(parts, dim, lookups, sparse=False)),
            (f"MLET k={inner}", "forward", lookups, mlet_forward(ROWS, inner, dim, lookups)),
            (f"MLET k={inner}", "backward, sparse", lookups, mlet_backward(ROWS, inner, dim, lookups, sparse=True)),
            (f"EmbeddingBag D={dim}", "forward", lookups, gather(ROWS, dim, lookups)),
            (f"EmbeddingBag D={dim}", "backward, sparse", lookups, scatter(ROWS, dim, lookups, sparse=True)),
        ]
    return lines
