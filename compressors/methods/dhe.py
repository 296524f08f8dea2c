"""Deep hash embeddings: k hashes of an id through an MLP, no table (Kang et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.group import TableGroup
from embpress.compressors.init import normal_, uniform_
from embpress.compressors.methods.hashing import draw_coefficients
from embpress.compressors.options import TableOptions
from embpress.compressors.own_dtype import own_dtype
from embpress.compressors.registry import register
from embpress.compressors.tags import Tags
from embpress.compressors.tiles import tiles
from embpress.kernels.arguments import compute_dtype
from embpress.kernels.reference import ROBE_PRIME, pair_hash

_TRANSFORMS = ("uniform", "gaussian")
_MIN_HIDDEN = 4
_MAX_K = 1024  # the paper's number of hashes
_MISH_SQUARE = 0.4524  # E[mish(z)²] for a standard normal z
_CONSTANTS = 8 * 4 * 2  # bytes of the coefficients


class _DHEGroup(TableGroup):
    """One batched product a layer for all tables."""

    tables: Sequence[DHE]

    def rows(self, ids: Tensor) -> Tensor:
        coefficients = self._constants(ids.device)["coefficients"]
        return self.first.decoded(ids.t().long(), coefficients, self._weights()).transpose(0, 1)

    def lookups(self, ids: Tensor, tables: Tensor) -> Tensor:
        return self.assemble(ids.long(), tables, self.take(tables))

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        tiled = tiles(ids, tables, self.count)
        weights = {}
        for array in self.first.arrays():
            rows = torch.arange(array.rows, device=ids.device)
            ends = torch.tensor(array.parts, device=ids.device).cumsum(0)
            segments = torch.searchsorted(ends, rows, right=True)
            every = rows.expand(tiled.tables.shape[0], -1)
            weights[array.name] = take(array.name, every, segments, tables=tiled.tables)
        coefficients = self._constants(ids.device)["coefficients"][tiled.tables]
        return self.first.decoded(tiled.ids, coefficients, weights).flatten(0, 1)[tiled.place]

    def _weights(self) -> dict[str, Tensor]:
        """Weights of all tables, `(T, …)`."""
        table = self.first
        names = table.stacked
        if self.count == 1:
            return {name: table.own(name).unsqueeze(0) for name in names}
        return {name: table.whole(name).unflatten(0, (self.count, -1)) for name in names}


@register("dhe")
class DHE(Compressor):
    """Row `i` is an MLP's answer to `k` hashes of `i`: nothing is kept for an id, and a lookup is a forward pass.

    The paper's "dense hash encoding": k universal hashes, mapped evenly to [-1, 1], or two by two to normal numbers by
    the Box-Muller transform. The hashes are `pair_hash(i, 0 … k - 1)`, whose eight coefficients count; the paper keeps
    two a hash, and takes them modulo 10^6 where these go to 2^31. Its "deep embedding network": `layers` layers of
    equal width with normalisation and Mish, then a linear one to width D. Every table has a network of its own.

    The paper normalises by batch. Here a layer is normalised over its own features (layer normalisation): with batch
    statistics a row would depend on the other ids of its batch while training, and on their running averages when
    served, and would be no function of its id.

    Args:
        hidden: width of the layers, at least 4 (two numbers, normalised, are always 1 and -1); default: what takes a
            tenth of the table's bytes.
        k: hashes; default four times the width, at most 1024, which is the paper's.
        layers: hidden layers, at least 1; the paper finds 5 best where a network has millions of weights.
        transform: of hashes to inputs: `uniform` or `gaussian`, which the paper finds to be equal.
    """

    tags: ClassVar[Tags] = Tags(for_budget=True)
    size_knobs: ClassVar[tuple[str, ...]] = ("hidden",)
    stacked: ClassVar[tuple[str, ...]] = ("inner", "norms", "outer")
    group = _DHEGroup

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        hidden: int | None = None,
        k: int | None = None,
        layers: int = 2,
        transform: str = "uniform",
        **options: Unpack[TableOptions],
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        _check(k, layers, transform)
        n, dim = self.num_embeddings, self.embedding_dim
        if hidden is None:
            hidden = _widest(dim, max(4 * n * dim // 10, _bytes(_MIN_HIDDEN, k, layers, dim)), k, layers)
        if hidden < _MIN_HIDDEN:
            raise InputError(f"dhe: hidden={hidden}, at least {_MIN_HIDDEN} are needed: fewer, normalised, say little")
        self.hidden, self.k, self.layers, self.transform = hidden, _hashes(hidden, k), layers, transform
        where = {"device": options.get("device"), "dtype": options.get("dtype")}
        # the layers' matrices one below the other; bias, gain and shift of each; the last matrix and its bias
        self.inner = nn.Parameter(torch.empty(self.k + (layers - 1) * hidden, hidden, **where))  # type: ignore[arg-type]
        self.norms = nn.Parameter(torch.empty(3 * layers, hidden, **where))  # type: ignore[arg-type]
        self.outer = nn.Parameter(torch.empty(hidden + 1, dim, **where))  # type: ignore[arg-type]
        generator = None if self.inner.is_meta else options.get("generator")  # on meta nothing is drawn
        self.constants.put("coefficients", draw_coefficients((4, 2), generator, n, dim))
        self.reset_parameters(options.get("generator"))

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Layers from `U(±1/√inputs)`; the last one so that rows start with a full table's variance, `1/(3n)`."""
        inner, norms, outer = (self.own(name) for name in self.stacked)
        for part in self._layers(inner):
            bound = 1 / math.sqrt(part.shape[0])
            uniform_(part, -bound, bound, generator)
        norms.zero_()
        norms[1::3] = 1
        normal_(outer, 0, 1 / math.sqrt(3 * self.num_embeddings * self.hidden * _MISH_SQUARE), generator)
        outer[-1] = 0

    def encoded(self, ids: Tensor, coefficients: Tensor, dtype: torch.dtype) -> Tensor:
        """Inputs of the networks: ids `(T, B)` int64, coefficients `(T, 4, 2)` → `(T, B, k)`."""
        gaussian = self.transform == "gaussian"
        numbers = torch.arange(self.k + self.k % 2 if gaussian else self.k, device=ids.device)
        hashes = pair_hash(ids.unsqueeze(-1), numbers, coefficients.unsqueeze(1)).to(dtype)
        if not gaussian:
            return hashes * (2 / ROBE_PRIME) - 1
        radius, angle = ((hashes + 1) / (ROBE_PRIME + 1)).clamp(max=1).chunk(2, dim=-1)
        radius, angle = (-2 * radius.log()).sqrt(), 2 * math.pi * angle
        return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)[..., : self.k]

    def decoded(self, ids: Tensor, coefficients: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """Rows of checked ids `(T, B)` int64 by the networks' weights `(T, …)`, `(T, B, D)`."""
        dtype = weights["inner"].dtype
        wide = compute_dtype(dtype)
        inner, norms, outer = (weights[name].to(wide) for name in self.stacked)
        with own_dtype(ids.device):
            x = self.encoded(ids, coefficients, wide)
            for matrix, vectors in zip(self._layers(inner), norms.split(3, dim=1)):
                bias, gain, shift = (vector.unsqueeze(1) for vector in vectors.unbind(1))
                x = F.layer_norm(torch.baddbmm(bias, x, matrix), (self.hidden,))
                x = F.mish(torch.addcmul(shift, x, gain))
            return torch.baddbmm(outer[:, -1:], x, outer[:, :-1]).to(dtype)

    def _layers(self, inner: Tensor) -> tuple[Tensor, ...]:
        """The layers' matrices."""
        return inner.split([self.k, *[self.hidden] * (self.layers - 1)], dim=-2)

    def arrays(self) -> tuple[Array, ...]:
        """Matrices, where every layer and the last bias have ranges of their own, and the vectors of the norms."""
        layers, hidden = self.layers, self.hidden
        parts = (self.k, *[hidden] * (layers - 1))
        return (
            Array("inner", sum(parts), hidden, segments=parts),
            Array("norms", 3 * layers, hidden, ranges="row"),
            Array("outer", hidden + 1, self.embedding_dim, segments=(hidden, 1)),
        )

    def assembly_key(self) -> tuple[Any, ...]:
        """One call has networks of one shape."""
        return self.hidden, self.k, self.layers, self.transform

    def group_key(self) -> tuple[Any, ...]:
        """What one call cannot vary."""
        return *super().group_key(), *self.assembly_key()

    def _activation_bytes(self, batch_size: int) -> int:
        # inputs, and of each layer what goes into the normalisation, comes out of it, and goes in and out of Mish
        kept = self.k + self.layers * (4 * self.hidden + 2) + self.embedding_dim
        wide = compute_dtype(self.row_dtype).itemsize
        return batch_size * (8 + kept * wide + self.embedding_dim * self.itemsize) + self._wide_bytes(wide)

    def _wide_bytes(self, wide: int) -> int:
        """Weights in the type that is computed with, where it is another."""
        weights = sum(parameter.numel() for parameter in self._own_parameters().values())
        return weights * wide if wide != self.itemsize else 0

    @classmethod
    def for_budget(
        cls, n: int, dim: int, size: int, *, k: int | None = None, layers: int = 2, transform: str = "uniform"
    ) -> dict[str, int]:
        """The widest network within `size` bytes, whose weights and coefficients count."""
        _check(k, layers, transform)
        smallest = _bytes(_MIN_HIDDEN, k, layers, dim)
        if size < smallest:
            raise BudgetError(f"dhe cannot make a network of width {dim} in {size} bytes", smallest)
        return {"hidden": _widest(dim, size, k, layers)}


def _check(k: int | None, layers: int, transform: str) -> None:
    if k is not None and not 1 <= k < 1 << 20:
        raise InputError(f"dhe: k={k} hashes, between 1 and {(1 << 20) - 1:,} are possible")
    if layers < 1:
        raise InputError(f"dhe: layers={layers}, at least one is needed")
    if transform not in _TRANSFORMS:
        raise InputError(f"dhe: transform={transform!r} is not one of {', '.join(_TRANSFORMS)}")


def _hashes(hidden: int, k: int | None) -> int:
    return min(_MAX_K, 4 * hidden) if k is None else k


def _bytes(hidden: int, k: int | None, layers: int, dim: int) -> int:
    """Of a table in float32."""
    inner = _hashes(hidden, k) + (layers - 1) * hidden
    return 4 * ((inner + 3 * layers) * hidden + (hidden + 1) * dim) + _CONSTANTS


def _widest(dim: int, size: int, k: int | None, layers: int) -> int:
    """The largest hidden width within `size` bytes, which hold the smallest one."""
    low, high = _MIN_HIDDEN, _MIN_HIDDEN + 1
    while _bytes(high, k, layers, dim) <= size:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _bytes(middle, k, layers, dim) <= size else (low, middle)
    return low
