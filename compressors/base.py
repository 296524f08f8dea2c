"""`Compressor`: the contract of one compressed table."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Generator, Tensor, nn
from typing_extensions import Self

from embpress.compressors.arrays import Array
from embpress.compressors.bags import as_bags, check_form, integers, own_output
from embpress.compressors.cells import Cells, taken
from embpress.compressors.configuration import Configured
from embpress.compressors.errors import InputError
from embpress.compressors.frozen import frozen
from embpress.compressors.guard import shown
from embpress.compressors.integers import Constants, Integers
from embpress.compressors.ledger import Entry, Ledger, optimizer_bytes
from embpress.compressors.member import Member
from embpress.compressors.options import TableOptions
from embpress.compressors.tags import Tags
from embpress.compressors.widths import narrower
from embpress.kernels import ops

# to_dense works through this many rows at a time
_CHUNK = 1 << 16
MAX_ROWS = 1 << 40


class Compressor(Configured, Member):
    """One embedding table of `num_embeddings` rows of width `embedding_dim`, held in less memory.

    Called like `nn.EmbeddingBag`. A method subclasses it, registers itself and implements `reset_parameters` and either
    `_lookup` or a `group` that answers for many tables at once; everything else has a default.

    Class attributes:
        tags: what the method can do besides.
        size_knobs: keywords that fix the size, so that a ratio or a budget has nothing left to decide.
        wiring: keywords that whoever builds several tables sets; no choice of a user's.
        row_parameters: parameters of one row an id or slot: they have row-wise optimizer state, and sparse gradients.
        lookup_op: the op that answers lookups, if any.
    """

    tags: ClassVar[Tags] = Tags()
    size_knobs: ClassVar[tuple[str, ...]] = ()
    wiring: ClassVar[tuple[str, ...]] = ()
    row_parameters: ClassVar[tuple[str, ...]] = ()
    lookup_op: ClassVar[str] = ""
    # of `nn.EmbeddingBag`'s, which libraries read
    max_norm: ClassVar[float | None] = None
    norm_type: ClassVar[float] = 2.0
    scale_grad_by_freq: ClassVar[bool] = False
    modifiers: ClassVar[tuple[str, ...]] = ()  # what wraps the method, as written in a spec
    spec_name: ClassVar[str] = ""  # set by @register

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "_lookup" in vars(cls) and "group" not in vars(cls) and cls.group is not None:
            raise TypeError(
                f"{cls.__name__} overrides _lookup, which {cls.group.__name__} would not ask: give it a group of its "
                "own, or group = None and all of _lookup"
            )

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
        num_embeddings, embedding_dim = self.whole_sizes(num_embeddings, embedding_dim)
        if num_embeddings > MAX_ROWS:
            raise InputError(f"{name}: a table has at most 2^40 rows, got {shown(num_embeddings)}")
        if mode not in ("sum", "mean"):
            raise InputError(f"{name}: mode={mode!r} is not supported, only 'sum' and 'mean' are")
        if padding_idx is not None:
            if isinstance(padding_idx, bool) or not hasattr(padding_idx, "__index__"):
                raise TypeError(f"{name}: padding_idx is a whole number, got {padding_idx!r}")
            padding_idx = operator.index(padding_idx)
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise InputError(f"{name}: padding_idx={padding_idx} is out of range for {num_embeddings} rows")
            padding_idx %= num_embeddings
        if sparse and not self.tags.sparse_gradients:
            raise InputError(f"{name}: sparse=True is not supported, its gradients are dense")
        if dtype is not None and not dtype.is_floating_point:
            raise InputError(f"{name}: dtype={str(dtype).removeprefix('torch.')} is not a floating point type")
        if dtype is not None and not self.tags.has(dtype):
            known = ", ".join(str(one).removeprefix("torch.") for one in self.tags.dtypes)
            raise InputError(f"{name}: only {known} is supported, got {dtype}")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.mode = mode
        self.include_last_offset = include_last_offset
        self.padding_idx = padding_idx
        self.sparse = sparse
        self.integers = Integers(rows=[self.num_embeddings], row_offsets=[0])
        if padding_idx is not None:
            self.integers["padding"] = [padding_idx]
        self.constants = Constants()  # what a method computes with and nobody learns
        self._adopted = {}

    @classmethod
    def whole_sizes(cls, num_embeddings: int, embedding_dim: int) -> tuple[int, int]:
        """Rows and width as Python's integers, NumPy's are taken; TypeError for anything else, InputError below 1."""
        for size in (num_embeddings, embedding_dim):
            if isinstance(size, bool) or not hasattr(size, "__index__"):
                raise TypeError(f"{cls.__name__}: rows and width are whole numbers, got {size!r}")
        rows, dim = operator.index(num_embeddings), operator.index(embedding_dim)
        if rows < 1 or dim < 1:
            raise InputError(f"{cls.__name__}: a table needs at least one row and one column, got {rows} × {dim}")
        return rows, dim

    # --- what a method implements -------------------------------------------------------------------------------------

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draws the initial values, from `generator` only."""
        raise TypeError(f"{type(self).__name__} does not define reset_parameters(generator)")

    def _lookup(self, ids: Tensor) -> Tensor:
        """Rows of checked ids: `(N,)` int64 → `(N, D)`; by default the group's answer."""
        if self.group is None:
            raise TypeError(f"{type(self).__name__} defines neither _lookup(ids) nor a group")
        return self.alone.rows(ids.unsqueeze(1)).squeeze(1)

    def _activation_bytes(self, batch_size: int) -> int:
        """Bytes that a forward of `batch_size` lookups makes and keeps for its backward: by default ids and rows."""
        return batch_size * (8 + self.embedding_dim * self.itemsize)

    def _activation_bytes_of_bags(self, batch_size: int) -> int:
        """The same where the lookups come with offsets."""
        return self._activation_bytes(batch_size)

    def _serving(self) -> list[Entry]:
        """Ledger entries of the folded module: by default all tensors."""
        return self._weights()

    def arrays(self) -> tuple[Array, ...]:
        """The arrays that lookups in the folded table read, from whose rows its group's `assemble` makes rows.

        Raises:
            InputError: the method does not say, so that what serves it in fewer bits cannot serve it.
        """
        raise InputError(f"{self.spec_name or type(self).__name__} does not say which arrays its lookups read")

    def cells(self, ids: Tensor) -> Cells:
        """Which stored cells make the rows of checked ids `(N,)` int64: by default what the group's `assemble` takes.

        Raises:
            InputError: the method does not say.
        """
        return taken(self, ids)

    def assembly_key(self) -> tuple[Any, ...]:
        """What must agree, beside `group_key` and widths, among tables whose rows one `assemble` puts together."""
        return ()

    def _drop_training_state(self) -> None:
        """Lets go of what only training needs: called on the copies that `fold` makes; by default there is nothing."""

    @property
    def backend(self) -> str:
        """What answers lookups here: `native` (compiled op), `reference` (our op in plain PyTorch), `torch`, …"""
        return ops.backend(self.lookup_op, self.device.type) if self.lookup_op else "torch"

    def uncompressed(self, ids: Tensor) -> Tensor | None:
        """Which ids, int64 of any shape, are answered from rows kept as they are; None where none ever is."""
        return None

    def begin_training(self, steps: int, epochs: int) -> None:
        """Says before the first step how long training will be; who does not train in epochs leaves it out.

        Args:
            steps: optimizer steps in all, `maintain` is called once in each; at least 1.
            epochs: how many passes over the data these are; at least 1.
        """

    def maintain(self, step: int | None = None) -> dict[str, Tensor]:
        """Rows of parameters that hold something else since the last call, by the parameter's name.

        Called after a backward and before the optimizer's step, which then starts the state of these rows anew; only
        methods tagged `maintain` have such rows.
        """
        return {}

    # --- the promise --------------------------------------------------------------------------------------------------

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """Pooled lookups with `nn.EmbeddingBag`'s semantics.

        Args:
            input: int32 or int64 ids, `(N,)` with offsets or `(B, L)` without.
            offsets: `(B,)` starts of the bags, or `(B + 1,)` with `include_last_offset`.
            per_sample_weights: the input's shape, the table's dtype; with mode `sum`.

        Returns:
            `(B, D)`; an empty bag gives zeros. With `include_last_offset` ids behind the last offset are left out.

        Raises:
            IndexError: an id out of range. ValueError, TypeError: arguments that do not fit together.
        """
        check_form(input, offsets, per_sample_weights, mode=self.mode, include_last_offset=self.include_last_offset)
        ids, bounds, weights, extra = as_bags(input, offsets, per_sample_weights, self.include_last_offset)
        out = self.alone.forward(ids, bounds, weights)  # not by a call, which costs what a small batch costs
        return own_output(out[:-extra] if extra else out, out.shape[0] - extra, self.embedding_dim)

    def lookup(self, ids: Tensor) -> Tensor:
        """Rows of ids: `(*)` int32 or int64 → `(*, D)`, differentiable; IndexError for an id out of range."""
        flat = integers(ids, "ids").reshape(-1, 1)
        return self.alone.checked_rows(flat).view(*ids.shape, self.embedding_dim)

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
            owner = self._owner(name)
            if self.tags.fused_update:
                continue  # no gradient, and its state is among its own tensors
            if parameter.requires_grad:
                # a dense gradient is as large as what it is of; a sparse one has each lookup's rows
                adds_up = self.sparse and batch_size is not None and name in self.row_parameters
                together = None if owner is None or adds_up else ~owner
                size = self._gradient_bytes(name, parameter, batch_size)
                training.append(Entry(f"gradient of {name}", size, together))
            # only a table of rows has row-wise state; other parameters keep one number an element
            rows = parameter.shape[0] if name in self.row_parameters else parameter.numel()
            state = optimizer_bytes(optimizer, parameter.numel(), rows, parameter.element_size())
            if state:
                training.append(Entry(f"{optimizer} state of {name}", state, owner and (owner << 1)))
        if batch_size is not None:
            training.append(Entry("activations", self._activation_bytes(batch_size)))
        return Ledger(self._serving(), training)

    def fold(self) -> Compressor:
        """The module to serve: equal lookups, no gradients. It shares memory with this one where it can."""
        folded: Compressor = frozen(self)._disown().requires_grad_(False)
        folded._drop_training_state()
        return folded

    @classmethod
    def folds_apart(cls) -> bool:
        """Whether `fold` makes something else of each table, so that their group does not go on as it is."""
        return cls.fold is not Compressor.fold

    # --- sizes by arithmetic ------------------------------------------------------------------------------------------

    @classmethod
    def unavailable(cls, device: torch.device | str = "cpu") -> str | None:
        """Why the method cannot be used on a device, in words; None where it can."""
        return None

    @classmethod
    def serving_size(cls, num_embeddings: int, embedding_dim: int, **knobs: Any) -> int:
        """Serving bytes in float32 of the table these knobs make, by arithmetic alone."""
        meta = cls(num_embeddings, embedding_dim, device="meta", **knobs)
        return meta.ledger().serving_bytes

    @classmethod
    def model_width(cls, embedding_dim: int, ratio: float) -> int:
        """The width at which a method trains the whole model when a ratio is asked for.

        `⌊D / r⌋` for methods tagged `saves_by_width` (BudgetError below 1), for all others the model's own.
        """
        return narrower(cls.spec_name, embedding_dim, ratio) if cls.tags.saves_by_width else embedding_dim

    @classmethod
    def build_tables(
        cls, shapes: Sequence[tuple[int, int]], knobs: Sequence[dict[str, Any]], options: Sequence[TableOptions]
    ) -> Iterator[Self]:
        """Makes the tables of a model one after another; a method that shares memory between tables overrides it."""
        for (n, dim), own, option in zip(shapes, knobs, options):
            yield cls(n, dim, **own, **option)

    @classmethod
    def fit_tables(
        cls, weights: Sequence[Any], knobs: Sequence[dict[str, Any]], options: Sequence[TableOptions]
    ) -> tuple[list[Self], list[float]]:
        """Tables near trained ones and their relative errors, as `build_tables` makes fresh ones; by `from_dense`.

        A method that shares memory between tables overrides it.
        """
        start: Any = cls
        fitted = [start.from_dense(weight, **own, **option) for weight, own, option in zip(weights, knobs, options)]
        return [table for table, _ in fitted], [error for _, error in fitted]

    @classmethod
    def tuned_knobs(cls, embedding_dim: int, **fixed: Any) -> Mapping[str, tuple[Any, ...]]:
        """Knobs that change no size and that have to be tuned for each data set, with other values than their own.

        Values are numbers or text, the most promising first; by default there are none.

        Args:
            embedding_dim: the width that the tables are built with.
            **fixed: knobs that a spec says.
        """
        return {}

    @classmethod
    def knob_names(cls) -> dict[str, inspect.Parameter]:
        """The method's own keywords: constructor keywords besides those of `TableOptions`."""
        own = inspect.signature(cls.__init__).parameters.items()
        standard = set(TableOptions.__annotations__)
        return {name: p for name, p in own if p.kind is inspect.Parameter.KEYWORD_ONLY and name not in standard}

    def knobs(self) -> dict[str, Any]:
        """The method's own keywords as resolved, for records and `repr`."""
        values = {name: getattr(self, name, None) for name in self.knob_names()}
        return {name: value for name, value in values.items() if not isinstance(value, Tensor)}

    def __prepare_scriptable__(self) -> None:
        raise InputError(f"torch.jit.script cannot take {type(self).__name__}: use torch.export, or torch.jit.trace")

    # --- helpers of methods, groups and the suite ---------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(iter(self._own_parameters().values())).device

    @property
    def row_dtype(self) -> torch.dtype:
        """Of the rows that come out, and of the weights of bags."""
        return next(iter(self.parameters_by_name().values())).dtype

    @property
    def itemsize(self) -> int:
        """Bytes of one parameter element."""
        return next(iter(self._own_parameters().values())).element_size()

    def group_key(self) -> tuple[Any, ...]:
        """Tables of equal keys can be answered together; methods add what their group's one call cannot vary."""
        kinds = frozenset((p.dtype, p.requires_grad) for p in self.parameters_by_name().values())
        return type(self), self.embedding_dim, self.mode, self.sparse, self.device, kinds

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """The parameters that this table learns in, those included that a group owns (whole, not its part)."""
        adopted = {name: cast(nn.Parameter, self.whole(name)) for name in self._adopted if self._learns_in(name)}
        return dict(self.named_parameters()) | adopted

    def _own_parameters(self) -> dict[str, Tensor]:
        own: dict[str, Tensor] = dict(self.named_parameters())
        return own | {name: self.own(name) for name in self._adopted if self._learns_in(name)}

    def _owner(self, name: str) -> int | None:
        return id(self.whole(name)) if self.tags.shared_memory and "." not in name else None

    def _weights(self) -> list[Entry]:
        named = {**self._own_parameters(), **dict(self.named_buffers())}
        named |= {name: self.own(name) for name in self._adopted if name not in named}
        entries = [
            Entry(name, t.numel() * t.element_size(), self._owner(name), t.element_size() * t.is_floating_point())
            for name, t in named.items()
        ]
        shared = [entry.owner for entry in entries if entry.owner is not None]
        # tables that share an array share the constants that go with it
        owners = (hash((shared[0], name)) if shared else None for name in self.constants)
        return entries + [
            Entry(name, self.constants.nbytes(name), owner) for name, owner in zip(self.constants, owners)
        ]

    def _gradient_bytes(self, name: str, parameter: Tensor, batch_size: int | None) -> int:
        if self.sparse and batch_size is not None and name in self.row_parameters:
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
