"""`Compressor`: the contract of one compressed table."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypedDict

import torch
from torch import Generator, Tensor, nn
from typing_extensions import Self

from embpress.compressors.bags import Bags, as_int64, canonical, check_ids
from embpress.compressors.errors import InputError
from embpress.compressors.ledger import Entry, Ledger, optimizer_bytes
from embpress.kernels.reference import pool

# to_dense works through this many rows at a time
_CHUNK = 1 << 16
# arguments of `nn.EmbeddingBag` that compressed tables do not have, with the values that ask for nothing
REFUSED: dict[str, float | bool | None] = {"max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False}


class TableOptions(TypedDict, total=False):
    """Keywords that every compressor takes besides its own.

    Attributes:
        mode: `"sum"` (default; `nn.EmbeddingBag`'s is mean) or `"mean"`.
        include_last_offset: offsets carry the end of the last bag.
        padding_idx: ids equal to it are ignored in bags.
        sparse: sparse gradients, where the method is tagged `sparse`.
        device, dtype: of the parameters.
        generator: the only source of randomness of the initial values.
    """

    mode: str
    include_last_offset: bool
    padding_idx: int | None
    sparse: bool
    device: torch.device | str | None
    dtype: torch.dtype | None
    generator: Generator | None


class Compressor(nn.Module):
    """One embedding table of `num_embeddings` rows of width `embedding_dim`, held in less memory.

    Called like `nn.EmbeddingBag`. A method subclasses it, registers itself and implements `_lookup` and
    `reset_parameters`; everything else has a default.

    Class attributes:
        tags: what the method declares: `sparse` (sparse gradients), `shared` (one memory for all tables of a model),
            `fused` (updates itself in the backward, no `.grad`), `float32` (no other dtype).
        size_knobs: keywords that fix the size, so that a ratio or a budget has nothing left to decide.
        merged: parameters whose rows a group stacks over all its tables.
    """

    tags: ClassVar[frozenset[str]] = frozenset()
    size_knobs: ClassVar[tuple[str, ...]] = ()
    merged: ClassVar[tuple[str, ...]] = ()
    spec_name: ClassVar[str] = ""  # set by @register

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        mode: str = "sum",
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        sparse: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if num_embeddings < 1 or embedding_dim < 1:
            raise InputError(
                f"{name}: a table needs at least one row and one column, got {num_embeddings} × {embedding_dim}"
            )
        if mode not in ("sum", "mean"):
            raise InputError(f"{name}: mode={mode!r} is not supported, only 'sum' and 'mean' are")
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise InputError(f"{name}: padding_idx={padding_idx} is out of range for {num_embeddings} rows")
            padding_idx %= num_embeddings
        if sparse and "sparse" not in self.tags:
            raise InputError(f"{name}: sparse=True is not supported, its gradients are dense")
        if "float32" in self.tags and dtype not in (None, torch.float32):
            raise InputError(f"{name}: only float32 is supported, got {dtype}")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.mode = mode
        self.include_last_offset = include_last_offset
        self.padding_idx = padding_idx
        self.sparse = sparse
        # what a group owns: name → (first row, rows), or None where all of it is meant
        self._adopted: dict[str, tuple[int, int] | None] = {}

    # --- what a method implements -------------------------------------------------------------------------------------

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draws the initial values, from `generator` only."""
        raise TypeError(f"{type(self).__name__} does not define reset_parameters(generator)")

    def _lookup(self, ids: Tensor) -> Tensor:
        """Rows of checked ids: `(N,)` int64 → `(N, D)`."""
        raise TypeError(f"{type(self).__name__} does not define _lookup(ids)")

    def _bag(self, bags: Bags) -> Tensor:
        """Pooled rows of canonical bags, `(B, D)`; a method with a pooling op of its own overrides it."""
        return pool(self._lookup(bags.ids), bags.offsets, bags.weights, self.mode == "mean")

    def _activation_bytes(self, batch_size: int) -> int:
        """Bytes that a forward of `batch_size` lookups makes and keeps for its backward: by default ids and rows."""
        return batch_size * (8 + self.embedding_dim * self.itemsize)

    def _serving(self) -> list[Entry]:
        """Ledger entries of the folded module: by default all tensors."""
        return self._weights()

    def _drop_training_state(self) -> None:
        """Lets go of what only training needs: called on the copies that `fold` makes; by default there is nothing."""

    # --- the promise --------------------------------------------------------------------------------------------------

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """Pooled lookups with `nn.EmbeddingBag`'s semantics.

        Args:
            input: int32 or int64 ids, `(N,)` with offsets or `(B, L)` without.
            offsets: `(B,)` starts of the bags, or `(B + 1,)` with `include_last_offset`.
            per_sample_weights: the input's shape, the table's dtype; with mode `sum`.

        Returns:
            `(B, D)`; an empty bag gives zeros.

        Raises:
            IndexError: an id out of range. ValueError, TypeError: arguments that do not fit together.
        """
        return self._bag(
            canonical(
                input,
                offsets,
                per_sample_weights,
                num_embeddings=self.num_embeddings,
                mode=self.mode,
                include_last_offset=self.include_last_offset,
                padding_idx=self.padding_idx,
            )
        )

    def lookup(self, ids: Tensor) -> Tensor:
        """Rows of ids: `(*)` int32 or int64 → `(*, D)`, differentiable; IndexError for an id out of range."""
        flat = as_int64(ids, "ids").reshape(-1)
        check_ids(flat, self.num_embeddings)
        return self._lookup(flat).view(*ids.shape, self.embedding_dim)

    @torch.no_grad()
    def to_dense(self, rows: Tensor | None = None) -> Tensor:
        """The table, or some of its rows, written out: `(n, D)` or `(len(rows), D)`, made in chunks."""
        if rows is None:
            rows = torch.arange(self.num_embeddings, device=self.device)
        return torch.cat([self.lookup(part) for part in rows.split(_CHUNK)]) if len(rows) else self.lookup(rows)

    def ledger(self, optimizer: str | None = None, batch_size: int | None = None) -> Ledger:
        """Bytes of everything, by name.

        Args:
            optimizer: `sgd`, `adagrad`, `rowwise_adagrad` or `adam`; None counts no optimizer state.
            batch_size: lookups in a batch, for activations and sparse gradients; None leaves activations out.
        """
        training = self._weights()
        for name, parameter in self._own_parameters().items():
            owner = self._owner(name, parameter)
            if "fused" in self.tags:
                continue  # no gradient, and its state is among its own tensors
            if parameter.requires_grad:
                training.append(
                    Entry(f"gradient of {name}", self._gradient_bytes(parameter, batch_size), owner and ~owner)
                )
            # only a table of rows has row-wise state; other parameters keep one number an element
            rows = parameter.shape[0] if parameter.dim() == 2 else parameter.numel()
            state = optimizer_bytes(optimizer, parameter.numel(), rows, parameter.element_size())
            if state:
                training.append(Entry(f"{optimizer} state of {name}", state, owner and (owner << 1)))
        if batch_size is not None:
            training.append(Entry("activations", self._activation_bytes(batch_size)))
        return Ledger(self._serving(), training)

    def fold(self) -> Compressor:
        """The module to serve: equal lookups, no gradients. It shares memory with this one where it can."""
        folded: Compressor = frozen(self)._disown()
        folded._drop_training_state()
        return folded

    # --- sizes by arithmetic ------------------------------------------------------------------------------------------

    @classmethod
    def serving_size(cls, num_embeddings: int, embedding_dim: int, **knobs: Any) -> int:
        """Serving bytes in float32 of the table these knobs make, by arithmetic alone."""
        meta = cls(num_embeddings, embedding_dim, device="meta", **knobs)
        return meta.ledger().serving_bytes

    @classmethod
    def model_width(cls, embedding_dim: int, ratio: float) -> int:
        """The width at which a method trains the whole model when a ratio is asked for: by default the model's own."""
        return embedding_dim

    @classmethod
    def build_tables(
        cls, shapes: Sequence[tuple[int, int]], knobs: Sequence[dict[str, Any]], options: Sequence[TableOptions]
    ) -> Iterator[Self]:
        """Makes the tables of a model one after another; a method that shares memory between tables overrides it."""
        for (n, dim), own, option in zip(shapes, knobs, options):
            yield cls(n, dim, **own, **option)

    @classmethod
    def knob_names(cls) -> dict[str, inspect.Parameter]:
        """The method's own keywords: constructor keywords besides those of `TableOptions`."""
        parameters = inspect.signature(cls.__init__).parameters
        standard = set(TableOptions.__annotations__)
        return {
            name: p
            for name, p in parameters.items()
            if p.kind is inspect.Parameter.KEYWORD_ONLY and name not in standard
        }

    def knobs(self) -> dict[str, Any]:
        """The method's own keywords as resolved, for records and `repr`."""
        values = {name: getattr(self, name, None) for name in self.knob_names()}
        return {name: value for name, value in values.items() if not isinstance(value, Tensor)}

    # --- helpers of methods, groups and the suite ---------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(iter(self._own_parameters().values())).device

    @property
    def itemsize(self) -> int:
        """Bytes of one parameter element."""
        return next(iter(self._own_parameters().values())).element_size()

    def row_offset_in(self, name: str) -> int:
        """Where this table's rows start in parameter `name`: 0 unless a group stacked its tables."""
        rows = self._adopted.get(name)
        return 0 if rows is None else rows[0]

    def own_rows(self, name: str) -> Tensor:
        """This table's rows of parameter `name`, a view."""
        tensor: Tensor = getattr(self, name)
        rows = self._adopted.get(name)
        return tensor if rows is None else tensor[rows[0] : rows[0] + rows[1]]

    def adopt(self, name: str, tensor: Tensor, row_offset: int | None = None) -> None:
        """Makes `name` refer to a parameter or buffer that a group owns; it is then none of this module's any more.

        `row_offset` says where this table's rows start in it; None means that all of it is this table's.
        """
        rows = getattr(self, name).shape[0]
        del (self._parameters if name in self._parameters else self._buffers)[name]
        object.__setattr__(self, name, tensor)
        self._adopted[name] = None if row_offset is None else (row_offset, rows)

    def _disown(self) -> Self:
        """Makes this table stand alone again, on the same memory."""
        for name, rows in list(self._adopted.items()):
            tensor = self.own_rows(name)
            object.__delattr__(self, name)
            del self._adopted[name]
            if isinstance(tensor, nn.Parameter) or rows is not None:
                self.register_parameter(name, nn.Parameter(tensor.detach(), requires_grad=tensor.requires_grad))
            else:
                self.register_buffer(name, tensor)
        return self

    def _own_parameters(self) -> dict[str, Tensor]:
        own: dict[str, Tensor] = dict(self.named_parameters())
        return own | {
            name: self.own_rows(name) for name in self._adopted if isinstance(getattr(self, name), nn.Parameter)
        }

    def _owner(self, name: str, tensor: Tensor) -> int | None:
        return id(getattr(self, name)) if "shared" in self.tags and "." not in name else None

    def _weights(self) -> list[Entry]:
        named = {**self._own_parameters(), **dict(self.named_buffers())}
        named |= {name: self.own_rows(name) for name in self._adopted if name not in named}
        return [Entry(name, t.numel() * t.element_size(), self._owner(name, t)) for name, t in named.items()]

    def _gradient_bytes(self, parameter: Tensor, batch_size: int | None) -> int:
        if self.sparse and batch_size is not None and parameter.dim() == 2:
            # a sparse gradient holds one row and one int64 index for every lookup
            return batch_size * (parameter.shape[1] * parameter.element_size() + 8)
        return parameter.numel() * parameter.element_size()

    def extra_repr(self) -> str:
        """Shape, knobs, size and ratio."""
        full = 4 * self.num_embeddings * self.embedding_dim
        serving = max(1, self.ledger().serving_bytes)
        knobs = "".join(f", {name}={value!r}" for name, value in self.knobs().items())
        padding = f", padding_idx={self.padding_idx}" if self.padding_idx is not None else ""
        return (
            f"{self.num_embeddings}, {self.embedding_dim}{knobs}, mode={self.mode!r}{padding}, "
            f"serving_bytes={serving}, ratio={full / serving:.3g}"
        )


def frozen(module: Any) -> Any:
    """A copy without gradients, in eval mode, whose tensors are those of `module`."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    for part in module.modules():
        # parameters that a group owns are plain attributes of its tables
        for value in vars(part).values():
            if isinstance(value, nn.Parameter):
                memo.setdefault(id(value), nn.Parameter(value.detach(), requires_grad=False))
    memo.update({id(b): b for b in module.buffers()})
    return copy.deepcopy(module, memo).eval()
