"""Codebooks of the parts of rows: their shapes, how k-means finds them, and codes of rows (Jégou et al. 2011)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from embpress.compressors.arrays import Array
from embpress.compressors.modifiers.quantized.codes import pack, packed_width

Read = Callable[[Tensor], Tensor]  # rows by their numbers: `(m,)` int64 → `(m, width)`

_SAMPLE = 1 << 16  # rows that codebooks are fitted to: 256 a centre
_ROUNDS = 20  # of k-means, after which the error falls by less than 1 in 100
_CHUNK = 1 << 22  # distances in work at a time


@dataclass(frozen=True)
class Books:
    """Codebooks of neighbouring parts of one width, one array `(count · centres, width)`.

    Attributes:
        name: of the parameter.
        first, count: which parts.
        width: of each of them.
        centres: of each of them.
    """

    name: str
    first: int
    count: int
    width: int
    centres: int

    @property
    def array(self) -> Array:
        """As an array, each codebook a segment."""
        return Array(self.name, self.count * self.centres, self.width, segments=(self.centres,) * self.count)


@dataclass(frozen=True)
class Product:
    """How the rows of one array become codes.

    Attributes:
        name: of the array.
        rows, width: of the array.
        parts: of a row, at most one an element; where they do not divide the width the first are one element wider.
        bits: of a code.
    """

    name: str
    rows: int
    width: int
    parts: int
    bits: int

    @property
    def codes_name(self) -> str:
        """The parameter that holds the codes."""
        return f"{self.name.replace('.', '_')}_codes"

    @property
    def code_shape(self) -> tuple[int, int]:
        """Rows and bytes a row of the codes."""
        return self.rows, packed_width(self.parts, self.bits)

    @property
    def centres(self) -> int:
        """Of a codebook: as many as codes can tell apart, but no more than there are rows."""
        return min(1 << self.bits, self.rows)

    @property
    def books(self) -> tuple[Books, ...]:
        """The codebooks, one array for all parts of one width."""
        narrow, wider = divmod(self.width, self.parts)
        name = self.name.replace(".", "_")
        kinds = (
            (f"{name}_codebooks_wide", 0, wider, narrow + 1),
            (f"{name}_codebooks", wider, self.parts - wider, narrow),
        )
        return tuple(Books(*kind, self.centres) for kind in kinds if kind[2])

    @property
    def form(self) -> tuple[object, ...]:
        """What is alike in tables that one call looks up in: all but how many rows there are."""
        return self.name, self.width, self.parts, self.bits

    def encode(self, read: Read, device: torch.device) -> dict[str, Tensor]:
        """Codes uint8 and codebooks, by their names.

        Codebooks are fitted to 65,536 rows at most, evenly spaced; each row's codes are those of the nearest centres.

        Args:
            read: rows of the array.
            device: of the rows.
        """
        sample = read(
            torch.linspace(0, self.rows - 1, min(self.rows, _SAMPLE), device=device, dtype=torch.float64).long()
        )
        made: dict[str, Tensor] = {}
        parts: list[
            tuple[int, Tensor]
        ] = []  # where each starts, and its codebook as floats that distances are taken of
        for books in self.books:
            values = []
            for _ in range(books.count):
                start = parts[-1][0] + parts[-1][1].shape[1] if parts else 0
                fitted = centres_of(sample[:, start : start + books.width], books.centres).to(sample)
                values.append(fitted)
                parts.append((start, fitted.float()))
            made[books.name] = torch.cat(values)
        codes = torch.empty(self.code_shape, dtype=torch.uint8, device=device)
        for index in torch.arange(self.rows, device=device).split(max(1, _CHUNK // self.centres)):
            rows = read(index).float()
            nearest = [_nearest(rows[:, start : start + book.shape[1]], book) for start, book in parts]
            codes[index[0] : index[-1] + 1] = pack(torch.stack(nearest, dim=1), self.bits)
        return {self.codes_name: codes, **made}


def centres_of(values: Tensor, count: int) -> Tensor:
    """`count` centres of `values (m, width)` by k-means, `(count, width)` float32 on the CPU, the same every time.

    Where there are no more different values than centres, they are the centres.
    """
    data = values.float().cpu().numpy()
    different = np.unique(data, axis=0)
    if len(different) <= count:
        return torch.from_numpy(np.concatenate([different, different[-1:].repeat(count - len(different), axis=0)]))
    start = different[np.random.default_rng(0).choice(len(different), count, replace=False)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a centre that no value is nearest to stays where it is
        found, _ = kmeans2(data, start, iter=_ROUNDS, minit="matrix")
    return torch.from_numpy(found)


def _nearest(values: Tensor, centres: Tensor) -> Tensor:
    """The centre nearest to each value, by differences: a value that is a centre finds it."""
    return torch.cdist(values, centres, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
