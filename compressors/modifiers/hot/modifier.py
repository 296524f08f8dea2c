"""`+hot`: the most frequent rows of a table are rows of their own, the method inside answers for the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from embpress.compressors.arrays import Array
from embpress.compressors.base import Compressor
from embpress.compressors.configuration import Configured
from embpress.compressors.errors import InputError
from embpress.compressors.guard import whole
from embpress.compressors.integers import Later
from embpress.compressors.ledger import Entry, Ledger, optimizer_bytes
from embpress.compressors.modifiers.base import Modifier
from embpress.compressors.modifiers.hot.group import HotGroup
from embpress.compressors.modifiers.hot.moves import Moves, without_rows
from embpress.compressors.registry import register_modifier
from embpress.compressors.row_cache import RowCounter, exchange

if TYPE_CHECKING:
    from embpress.compressors.trained_table import DenseRows

FRACTION = 0.01  # of the rows, where nothing is said
_BLOCK = 1 << 16  # rows of a trained table at a time


@register_modifier("hot")
class Hot(Modifier):
    """The k most frequent rows are `hot_rows (k, D)`, learned as they are; the table inside never sees their ids.

    By default ids are taken to be numbered by falling frequency, as they are in click data read here: the first k are
    hot, and nothing says so but k. With `counts` or `online` the ids of the hot rows are part of the table, 8 bytes
    each. Hot rows start as the table inside has them, so that the table starts, and is paired with others, as it would
    without them; rows that enter later start likewise.

    Args:
        table: what it wraps.
        fraction: share of the rows that are hot, at least one; default 0.01 where `rows` is not given.
        rows: how many are hot; a smaller table is hot altogether.
        online: count ids in training, and make the most frequent ones hot as they change, as TT-Rec does with its
            cache (Yin et al. 2021, section 4.2). Call `maintain` after each backward, so that rows which enter start
            with fresh optimizer state.
        warmup: with `online`, training steps before rows enter for the first time.
        refresh: with `online`, training steps from one change of the hot rows to the next.
        counts: how often each id is in the training data, `(n,)`; ties go to the smaller id.
    """

    wiring: ClassVar[tuple[str, ...]] = ("counts",)
    stacked: ClassVar[tuple[str, ...]] = ("hot_rows",)
    get_extra_state = Configured.get_extra_state
    set_extra_state = Configured.set_extra_state
    group = HotGroup
    counter: RowCounter | None

    def __init__(
        self,
        table: Compressor,
        *,
        fraction: float | None = None,
        rows: int | None = None,
        online: bool = False,
        warmup: int = 100,
        refresh: int = 1000,
        counts: Tensor | None = None,
    ) -> None:
        super().__init__(table)
        if table.tags.fused_update:
            raise InputError(f"hot: {table.spec_name} updates itself, which hot rows beside it would not")
        if fraction is not None and rows is not None:
            raise InputError("hot: give fraction or rows, not both")
        if fraction is not None and not 0 < fraction <= 1:
            raise InputError(f"hot: fraction={fraction:g} must lie above 0 and not above 1")
        if warmup < 1 or refresh < 1:
            raise InputError(f"hot: warmup={warmup} and refresh={refresh} must be at least one training step")
        if online and counts is not None:
            raise InputError("hot: give counts, or let online=true count")
        n = self.num_embeddings
        share = max(1, round((FRACTION if fraction is None else fraction) * n))
        self._knobs: dict[str, Any] = {"fraction": fraction} if rows is None and fraction is not None else {}
        self._knobs |= {} if rows is None else {"rows": rows}
        self._knobs |= {"online": True, "warmup": warmup, "refresh": refresh} if online else {}
        self._set_up(share if rows is None else min(n, whole(rows, "hot: rows", 1)), online or counts is not None)
        if counts is not None:
            self.constants.put("hot_ids", self._most(counts))
        device = table.device
        if online:
            self.constants.put("hot_ids", Later(self.rows, lambda: torch.full((self.rows,), n, device="cpu")))
            self.constants.put("hot_slots", Later(self.rows, lambda: torch.arange(self.rows, device="cpu")))
            self.counter = RowCounter(self.rows, warmup=warmup, refresh=refresh, device=device)
        self.hot_rows = nn.Parameter(torch.zeros(self.rows, self.embedding_dim, device=device, dtype=table.row_dtype))
        self._start()

    def _set_up(self, rows: int, indexed: bool) -> None:
        self.rows, self.indexed = rows, indexed
        self.integers["hot"], self.integers["starts"], self.integers["bases"] = [rows], [0], [0]
        self.counter, self.moves = None, Moves()
        self._entered: list[Tensor] = []

    def _most(self, counts: Tensor) -> Tensor | Later:
        n = self.num_embeddings
        if not isinstance(counts, Tensor) or counts.shape != (n,):
            what = tuple(counts.shape) if isinstance(counts, Tensor) else type(counts).__name__
            raise InputError(f"hot: counts must be a tensor ({n},), one number a row, got {what}")

        def most() -> Tensor:
            return counts.detach().cpu().argsort(descending=True, stable=True)[: self.rows].sort().values

        return Later(self.rows, most) if self.table.device.type == "meta" else most()

    def check_not_sharded(self, name: str, value: Any) -> None:
        """Raises InputError where `fully_shard` replaces rows that others may enter: they would be lost."""
        if name == "hot_rows" and self.learns and type(value).__name__ == "DTensor":
            raise InputError("hot rows that are chosen in training cannot be sharded: train without online=true")

    def __setattr__(self, name: str, value: Any) -> None:
        if "counter" in self.__dict__ or "counter" in self.__dict__.get("_modules", ()):
            self.check_not_sharded(name, value)
        super().__setattr__(name, value)

    @property
    def learns(self) -> bool:
        """Whether training chooses the hot rows."""
        return self.counter is not None

    def own_knobs(self) -> dict[str, Any]:
        """As given."""
        return self._knobs

    @property
    def tags(self) -> Any:  # type: ignore[override]
        """Those of the table inside; hot rows that are chosen in training are maintained."""
        return replace(self.table.tags, maintain=True) if self.learns else self.table.tags

    @property
    def row_parameters(self) -> tuple[str, ...]:  # type: ignore[override]
        """Hot rows are rows, as those of the table inside may be."""
        return *self.table.row_parameters, "hot_rows"

    def group_key(self) -> tuple[Any, ...]:
        """Tables whose hot rows are found and learned alike, however many."""
        rows = self.own("hot_rows")
        own = self.indexed, self.learns, rows.dtype, rows.requires_grad, rows.device
        return type(self), *own, *self.table.group_key()

    # --- which rows ---------------------------------------------------------------------------------------------------

    def index(self, device: torch.device, name: str) -> Tensor:
        """This table's part of the ids of hot rows, ascending, counted from the group's base, or of their slots."""
        if "hot_rows" not in self._adopted:
            return self.constants.on(device, name)
        start = self.integers.values("starts")[0]
        owner: HotGroup = self.__dict__["_group"]
        return owner.constants.on(device, name)[start : start + self.rows]

    def hot_ids(self) -> Tensor:
        """The ids that have rows of their own, ascending, int64 on the CPU; n stands for none."""
        if not self.indexed:
            return torch.arange(self.rows, device="cpu")
        return self.index(torch.device("cpu"), "hot_ids") - self.integers.values("bases")[0]

    def uncompressed(self, ids: Tensor) -> Tensor:
        """Which ids are hot, or uncompressed inside."""
        group: Any = self.alone
        hot = (group.slots(ids.reshape(-1, 1)) >= 0).view(ids.shape)
        inside = self.table.uncompressed(ids)
        return hot if inside is None else hot | inside

    @torch.no_grad()
    def _start(self) -> None:
        """Hot rows as the table inside has them."""
        rows, ids = self.own("hot_rows"), self.hot_ids() if not self.learns else None
        if ids is None:
            rows.zero_()
        elif rows.device.type != "meta":
            rows.copy_(self.table.lookup(ids.to(rows.device)))

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draws those of the table inside, as whose rows the hot ones start."""
        super().reset_parameters(generator)
        if self.counter is not None:
            self.counter.reset()
            self._keep(torch.full((self.rows,), -1, device="cpu"))
            self._entered = []
        self._start()

    @torch.no_grad()
    def start_from(self, weight: DenseRows) -> None:
        """Takes the hot rows of a trained table, exactly."""
        super().start_from(weight)
        rows, ids = self.own("hot_rows"), self.hot_ids()
        if self.learns:
            return  # none is hot yet
        for start in range(0, self.num_embeddings, _BLOCK):
            first, last = torch.searchsorted(ids, torch.tensor([start, start + _BLOCK])).tolist()
            if last > first:
                block = weight[start : start + _BLOCK]
                rows[first:last] = block[(ids[first:last] - start).to(block.device)].to(rows)

    # --- chosen in training -------------------------------------------------------------------------------------------

    def _keep(self, held: Tensor) -> None:
        """Writes down which id is in each slot, `(k,)` int64 on the CPU, -1 for none."""
        ids, slots = held.masked_fill(held < 0, self.num_embeddings).sort(stable=True)
        cpu = torch.device("cpu")
        self.index(cpu, "hot_ids").copy_(ids + self.integers.values("bases")[0])
        self.index(cpu, "hot_slots").copy_(slots)

    def refresh(self) -> None:
        """Before a training step's lookups: lets the most frequent rows in, where it is time."""
        if self.counter is not None and self.counter.due():
            self.fill(self.counter.most(self.rows))

    @torch.no_grad()
    def fill(self, wanted: Tensor) -> None:
        """Lets distinct ids `(K,)` int64 in, `K <= k`; others leave as far as their room is needed."""
        if not self.learns:
            raise InputError("hot: which rows are hot is fixed, but with online=true")
        held = torch.full((self.rows,), -1, device="cpu")
        ids = self.hot_ids()
        held[self.index(torch.device("cpu"), "hot_slots")] = ids.masked_fill(ids == self.num_embeddings, -1)
        slots, entering = exchange(held, wanted.cpu())
        if not len(slots):
            return
        held[slots] = entering
        self._keep(held)
        rows, whole_rows = self.own("hot_rows").data, self.whole("hot_rows")
        slots = slots.to(rows.device)
        # a graph may still wait for its backward, which does not read these values
        rows[slots] = self.table.lookup(entering.to(rows.device))
        self.moves = self.moves.move(slots)
        slots = slots + self.row_offset_in("hot_rows")
        if whole_rows.grad is not None:
            whole_rows.grad = without_rows(whole_rows.grad, slots)
        self._entered.append(slots)

    def count(self, ids: Tensor) -> None:
        """After a training step's lookups of ids `(N,)`."""
        assert self.counter is not None
        self.counter.count(ids if self.padding_idx is None else ids.masked_fill(ids == self.padding_idx, -1))

    def maintain(self, step: int | None = None) -> dict[str, Tensor]:
        """Rows that have entered since the last call, and those of the table inside; see `Compressor.maintain`."""
        entered, self._entered = self._entered, []
        return super().maintain(step) | ({"hot_rows": torch.cat(entered).unique()} if entered else {})

    # --- what it holds ------------------------------------------------------------------------------------------------

    def configuration(self) -> dict[str, Any]:
        """What tells these hot rows from others."""
        shape = {"num_embeddings": self.num_embeddings, "embedding_dim": self.embedding_dim, "rows": self.rows}
        return {"modifier": self.modifier_name, **shape, "ids": "given" if self.indexed else "first"} | (
            {"online": True} if self.learns else {}
        )

    def data(self) -> Tensor | None:
        """The ids of the hot rows, ascending; and of rows that are chosen in training the slots."""
        if not self.indexed:
            return None
        ids = self.hot_ids()
        return torch.cat([ids, self.index(ids.device, "hot_slots")]) if self.learns else ids

    def take_data(self, data: Tensor) -> None:
        """Takes over which rows were hot."""
        ids, cpu = data[: self.rows], torch.device("cpu")
        if bool((ids.diff() < 0).any()) or not 0 <= int(ids[0]) <= int(ids[-1]) <= self.num_embeddings:
            raise InputError("the state dict says that rows are hot which are none")
        self.index(cpu, "hot_ids").copy_(ids + self.integers.values("bases")[0])
        if self.learns:
            self.index(cpu, "hot_slots").copy_(data[self.rows :])
            self.moves = self.moves.move(torch.arange(self.rows))

    def array(self, name: str) -> Tensor:
        """The hot rows, or of the table inside."""
        return self.whole(name) if name == "hot_rows" else super().array(name)

    def replace_array(self, name: str, parameter: nn.Parameter) -> None:
        """The hot rows, or of the table inside."""
        if name == "hot_rows":
            self._parameters[name] = parameter
        else:
            super().replace_array(name, parameter)

    def arrays(self) -> tuple[Array, ...]:
        """Those of the table inside, and the hot rows."""
        return *self.table.arrays(), Array("hot_rows", self.rows, self.embedding_dim, moves=self.learns)

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """Those of the table inside by their names there, and the hot rows."""
        return {**super().parameters_by_name(), "hot_rows": self.whole("hot_rows")}  # type: ignore[dict-item]

    def _own_parameters(self) -> dict[str, Tensor]:
        return {**super()._own_parameters(), "hot_rows": self.own("hot_rows")}

    def ledger(self, optimizer: str | None = None, batch_size: int | None = None) -> Ledger:
        """See `Compressor.ledger`."""
        made, rows = super().ledger(optimizer, batch_size), self.own("hot_rows")
        kept = 0
        if batch_size is not None:
            # where ids are, which are hot, and bounds of their bags: the table inside answers bags
            kept = 64 * batch_size + self.table._activation_bytes_of_bags(batch_size)
            kept -= self.table._activation_bytes(batch_size)
        training = [replace(e, bytes=e.bytes + kept) if e.name == "activations" else e for e in made.training]
        training += self._hot_entries(training=True)
        if rows.requires_grad:
            training.append(Entry("gradient of hot_rows", self._gradient_bytes("hot_rows", rows, batch_size)))
            state = optimizer_bytes(optimizer, rows.numel(), self.rows, rows.element_size())
            training += [Entry(f"{optimizer} state of hot_rows", state)] if state else []
        return Ledger(made.serving, training)

    def _hot_entries(self, training: bool) -> list[Entry]:
        rows = self.own("hot_rows")
        entries = [Entry("hot_rows", rows.nbytes, itemsize=rows.element_size())]
        entries += [Entry("hot_ids", 8 * self.rows)] if self.indexed else []
        if training and self.counter is not None:
            entries.append(Entry("hot_slots", 8 * self.rows))
            entries += [Entry(f"counter.{name}", buffer.nbytes) for name, buffer in self.counter.named_buffers()]
        return entries

    def _weights(self) -> list[Entry]:
        return super()._weights() + self._hot_entries(training=True)

    def _serving(self) -> list[Entry]:
        return super()._serving() + self._hot_entries(training=False)

    # --- serving ------------------------------------------------------------------------------------------------------

    def fold(self) -> Compressor:
        """Hot rows around what the table inside folds to, in the order of their ids."""
        return self.served(self.table.fold())

    def served(self, inside: Compressor) -> Hot:
        """These hot rows around a folded table."""
        made = type(self).__new__(type(self))
        Modifier.__init__(made, inside)
        made._knobs = self._knobs
        made._set_up(self.rows, self.indexed)
        rows = self.own("hot_rows").detach()
        if self.indexed:
            made.constants.put("hot_ids", self.hot_ids())
        if self.learns:
            rows = rows[self.index(rows.device, "hot_slots")]
        made.hot_rows = nn.Parameter(rows, requires_grad=False)
        return made.eval()

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """See `Compressor.forward`."""
        return Compressor.forward(self, input, offsets, per_sample_weights)

    def lookup(self, ids: Tensor) -> Tensor:
        """See `Compressor.lookup`."""
        return Compressor.lookup(self, ids)

    def _lookup(self, ids: Tensor) -> Tensor:
        return Compressor._lookup(self, ids)
