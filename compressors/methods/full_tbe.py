"""Full tables on FBGEMM's table-batched embedding (TBE): one call for all tables, the optimizer in the backward."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F
from typing_extensions import Self, Unpack

from embpress.compressors.arrays import Array, Take
from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError, nearest
from embpress.compressors.group import TableGroup
from embpress.compressors.init import uniform_
from embpress.compressors.ledger import Entry, tensors_of
from embpress.compressors.methods.full import Full
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import register
from embpress.compressors.tags import Tags
from embpress.compressors.trained_table import copied

_OPTIMIZERS = {"sgd": "EXACT_SGD", "adagrad": "EXACT_ADAGRAD", "rowwise_adagrad": "EXACT_ROWWISE_ADAGRAD"}


def available(device: torch.device | str = "cpu") -> str | None:
    """Why `fbgemm_gpu` cannot be used on a device, or None where it can."""
    try:
        import fbgemm_gpu.split_table_batched_embeddings_ops_training  # noqa: F401
    except Exception as error:  # a release for another torch fails with OSError and worse
        return f"fbgemm_gpu does not import here ({type(error).__name__}: {error})".splitlines()[0]
    cuda = torch._C._dispatch_has_kernel_for_dispatch_key("fbgemm::bounds_check_indices", "CUDA")
    if torch.device(device).type == "cuda" and not cuda:
        return "the fbgemm_gpu that is installed has no CUDA kernels (fbgemm-gpu-cpu?)"
    return None


class _TBE(nn.Module):
    """Rows of tables of one width, and a TBE that trains them.

    The TBE is made when something is to be trained, and given the tensors that are here at each call: whatever puts
    others in their place is heeded, and a copy that only reads never has one.

    Attributes:
        weights: `(Σ n D,)`.
        state: of the optimizer, `(Σ n D,)`, or row-wise `(Σ n,)`; None for plain gradient descent.
    """

    weights: nn.Parameter
    state: Tensor | None

    def __init__(self, rows: Sequence[int], width: int, optimizer: str, learning_rate: float, device: Any) -> None:
        super().__init__()
        self.rows, self.width, self.optimizer, self.learning_rate = list(rows), width, optimizer, learning_rate
        reason = available(device or "cpu")
        if reason is not None:
            raise InputError(
                f"full-tbe needs FBGEMM, but {reason}; install embpress[cpu] or embpress[cuda] in the release that "
                "goes with your torch"
            )
        count = sum(self.rows)
        self.weights = nn.Parameter(torch.zeros(count * width, device=device))
        size = {"sgd": 0, "adagrad": count * width, "rowwise_adagrad": count}[optimizer]
        self.register_buffer("state", torch.zeros(size, device=device) if size else None)

    def wants_update(self) -> bool:
        """Whether a lookup now is followed by an update; all others read, as do those of tensors without memory.

        So do those of tensors that `torch.func.functional_call` gives, which get a gradient as in a full table.

        Raises:
            InputError: the TBE would train something else than the parameter that is here.
        """
        weights = self.weights
        if not (weights.requires_grad and torch.is_grad_enabled()) or torch.compiler.is_exporting():
            return False
        if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():  # which a graph cannot ask
            return False
        if type(weights) is nn.Parameter:  # the only thing with memory of its own to update
            return not weights.is_meta
        if isinstance(weights, FakeTensor) or (type(weights) is Tensor and "weights" in self._parameters):
            return False
        raise InputError(
            "full-tbe trains a plain parameter of its own, not what a parametrization, pruning or sharding puts in its "
            "place: use the method full"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(value, "device_mesh"):  # later there is no telling: a forward gets a plain parameter, freed after it
            raise InputError(
                f"full-tbe cannot be sharded: its backward updates all of its {name}, which are not there then; use "
                "the method full"
            )
        super().__setattr__(name, value)

    def forward(self, ids: Tensor, offsets: Tensor, weights: Tensor | None, mean: bool) -> Tensor:
        """Bags of all tables, table after table, which the backward updates: `(B, Σ D)`.

        Raises:
            InputError: several processes, which would drift apart; other numbers than float32.
        """
        if torch.compiler.is_compiling():
            return _not_traced(self, ids, offsets, weights, mean)
        self._check()
        tbe = self._connected()
        tbe.pooling_mode = type(tbe.pooling_mode).MEAN if mean else type(tbe.pooling_mode).SUM
        return tbe(ids, offsets, per_sample_weights=weights)

    def _check(self) -> None:
        """Raises InputError where an update would go wrong without a word."""
        if dist.is_available() and dist.is_initialized():
            ddp: Any = nn.parallel.DistributedDataParallel
            if dist.get_world_size() > 1 or ddp._get_active_ddp_module() is not None:
                raise InputError(
                    "full-tbe cannot train in several processes (DistributedDataParallel): each would update its own "
                    "table by its own batches, and they would drift apart: use the method full"
                )
        sizes: dict[str, tuple[Tensor, int]] = {"weights": (self.weights, sum(self.rows) * self.width)}
        if self.state is not None:
            sizes["state"] = (self.state, sum(self.rows) * (1 if self.optimizer.startswith("rowwise") else self.width))
        for name, (tensor, size) in sizes.items():
            if tensor.dtype != torch.float32:
                raise InputError(f"full-tbe trains in float32 only, its {name} is {tensor.dtype}: use the method full")
            if tensor.shape != (size,) or not tensor.is_contiguous() or tensor.device != self.weights.device:
                raise InputError(f"full-tbe: {name} must be ({size},), contiguous and on the device of the weights")

    def _connected(self) -> Any:
        """The TBE, on the tensors that are here now."""
        tbe, device = self.__dict__.get("tbe"), self.weights.device
        if tbe is None or tbe.current_device != device:
            tbe = _made(self.rows, self.width, self.optimizer, self.learning_rate, device)
            self.__dict__["tbe"] = tbe  # not a child: only the rows and their state are saved
        if self.learning_rate != tbe.trains_at:
            tbe.set_learning_rate(self.learning_rate)
            tbe.trains_at = self.learning_rate
        # not by nn.Module's own access, which takes longer than a small batch
        if device.type == "cuda":
            tbe._buffers["weights_dev"] = self.weights.detach()
        else:
            tbe._parameters["weights_host"] = self.weights
        if self.state is not None:
            tbe._buffers["momentum1_dev" if device.type == "cuda" else "momentum1_host"] = self.state
        return tbe

    def bookkeeping_bytes(self) -> int:
        """Bytes of the TBE's own small tensors; none where there is no memory."""
        if self.weights.is_meta or isinstance(self.weights, FakeTensor):
            return 0
        mine = [t.untyped_storage().data_ptr() for t in (self.weights, self.state) if t is not None]
        theirs = [t.untyped_storage() for t in tensors_of(self._connected(), set())]
        sizes = {storage.data_ptr(): storage.nbytes() for storage in theirs}
        return sum(size for pointer, size in sizes.items() if pointer not in mine)

    def table(self, t: int) -> Tensor:
        """The rows of table t, a view `(n, D)`."""
        start = sum(self.rows[:t])
        return self.weights.detach().view(-1, self.width)[start : start + self.rows[t]]

    def state_of(self, t: int) -> Tensor:
        """The optimizer's state of table t, a view `(n, D)` or `(n, 1)`; `(n, 0)` where there is none."""
        start, whole = sum(self.rows[:t]), sum(self.rows)
        state = self.weights.new_empty(whole, 0) if self.state is None else self.state.view(whole, -1)
        return state.detach()[start : start + self.rows[t]]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "tbe"}


@torch._disable_dynamo  # torch.compiler.disable is the same, but imports all of the compiler here
def _not_traced(kernel: _TBE, *inputs: Any) -> Tensor:
    out: Tensor = kernel(*inputs)
    return out


_REASON = "full-tbe updates its table in the backward, which a graph cannot hold: use the method full"
vars(_not_traced).update(_torchdynamo_disable=True, _torchdynamo_disable_msg=_REASON)


def _made(rows: Sequence[int], width: int, optimizer: str, learning_rate: float, device: torch.device) -> Any:
    """A TBE, whose rows and state are to be replaced; `trains_at` is its learning rate."""
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    cuda = device.type == "cuda"
    place = (EmbeddingLocation.DEVICE, ComputeDevice.CUDA) if cuda else (EmbeddingLocation.HOST, ComputeDevice.CPU)
    tbe: Any = SplitTableBatchedEmbeddingBagsCodegen(
        [(n, width, *place) for n in rows],
        optimizer=getattr(EmbOptimType, _OPTIMIZERS[optimizer]),
        learning_rate=learning_rate,
        eps=1e-10,
        device=device,
    )
    tbe._parameters.pop("momentum1_host", None)  # which is no parameter
    tbe.trains_at = learning_rate
    return tbe


class _TBEGroup(TableGroup):
    """All tables in one TBE, which takes over from the tables' own."""

    tables: Sequence[FullTBE]

    def __init__(self, tables: Iterable[Compressor], names: Sequence[str] = (), *, alone: bool = False) -> None:
        super().__init__(tables, names, alone=alone)
        self.integers["row_offsets"] = [sum(table.kernel.rows[: table.position]) for table in self.tables]

    @torch.no_grad()
    def _take_over(self, tables: list[Compressor]) -> None:
        first = self.first
        rows = [table.num_embeddings for table in tables]
        self.kernel = _TBE(rows, first.embedding_dim, first.optimizer, first.learning_rate, first.device)
        self.kernel.requires_grad_(first.kernel.weights.requires_grad)
        for t, table in enumerate(self.tables):
            self.kernel.table(t).copy_(table.weight)
            self.kernel.state_of(t).copy_(table.kernel.state_of(table.position))
            del table._modules["kernel"]
            object.__setattr__(table, "kernel", self.kernel)
            table.__dict__.pop("_alone", None)
            table.position = t

    def forward(self, ids: Tensor, offsets: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        if weights is not None and weights.dtype != (own := self.first.kernel.weights.dtype):  # TBE would cast them
            raise TypeError(f"weights must be {own}, as {self.names[0]} is, got {weights.dtype}")
        return super().forward(ids, offsets, weights)

    def rows(self, ids: Tensor) -> Tensor:
        kernel = self.first.kernel
        if not kernel.wants_update():
            return F.embedding(ids + self.integers.on(ids.device, "row_offsets"), kernel.weights.view(-1, kernel.width))
        offsets = torch.arange(ids.numel() + 1, device=ids.device)
        return self._updating(ids.t().reshape(-1), offsets, None)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        kernel, mode = self.first.kernel, self.first.mode
        if kernel.wants_update():
            return self._updating(ids, offsets, weights)
        ids = ids + self.integers.on(ids.device, "row_offsets")[self._tables_of(offsets, ids.shape[0])]
        rows = kernel.weights.view(-1, kernel.width)
        return self._by_bag(
            F.embedding_bag(ids, rows, offsets, mode=mode, per_sample_weights=weights, include_last_offset=True)
        )

    def assemble(self, ids: Tensor, tables: Tensor, take: Take) -> Tensor:
        return take("weight", ids)

    def _updating(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        """Bags `(B, T, D)` by the TBE; those of one of its tables alone among empty ones of the others."""
        table, kernel = self.first, self.first.kernel
        count, tables = (offsets.shape[0] - 1) // self.count, len(kernel.rows)
        others = tables != self.count
        if others:
            after = (tables - 1 - table.position) * count
            offsets = torch.cat([offsets.new_zeros(table.position * count), offsets, offsets[-1:].expand(after)])
        out = kernel(ids.long(), offsets, weights, table.mode == "mean").view(count, tables, kernel.width)
        return out[:, table.position : table.position + 1] if others else out


@register("full-tbe")
class FullTBE(Compressor):
    """A full table held by FBGEMM's TBE; its backward updates the table itself, there is no `.grad`.

    float32, width a multiple of 4. It folds to a plain full table. Where no update is wanted (no gradients, a frozen
    table, tensors without memory) it is read as a plain full table is. It trains in one process, uncompiled, and only
    parameters of its own: all else is refused by an `InputError` that says why. The learning rate can be set while it
    trains.

    Args:
        optimizer: `sgd`, `adagrad` or `rowwise_adagrad`.
        learning_rate: of that optimizer.
    """

    tags: ClassVar[Tags] = Tags(
        fused_update=True, uncompressed=True, from_dense=True, baseline=True, dtypes=(torch.float32,)
    )
    group = _TBEGroup
    get_extra_state = nn.Module.get_extra_state  # it has nothing but rows
    set_extra_state = nn.Module.set_extra_state
    kernel: _TBE

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        optimizer: str = "adagrad",
        learning_rate: float = 0.02,
        **options: Unpack[TableOptions],
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        if optimizer not in _OPTIMIZERS:
            raise InputError(f"full-tbe: no optimizer {optimizer!r}{nearest(optimizer, _OPTIMIZERS)}")
        if embedding_dim % 4:
            raise InputError(f"full-tbe: FBGEMM's TBE needs a width that is a multiple of 4, got {embedding_dim}")
        self.position = 0  # among the tables of the kernel
        self.kernel = _TBE([num_embeddings], embedding_dim, optimizer, learning_rate, options.get("device"))
        self.reset_parameters(options.get("generator"))

    @property
    def backend(self) -> str:
        """`fbgemm`."""
        return "fbgemm"

    @property
    def optimizer(self) -> str:
        """Of all tables that are in one TBE."""
        return self.kernel.optimizer

    @property
    def learning_rate(self) -> float:
        """Of all tables that are in one TBE; it can be set while they train."""
        return self.kernel.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self.kernel.learning_rate = rate

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """That of the TBE, which holds the rows of all tables that are in it."""
        return dict(self.kernel.named_parameters())

    def group_key(self) -> tuple[Any, ...]:
        """One TBE has one optimizer."""
        return *super().group_key(), self.optimizer, self.learning_rate

    @property
    def weight(self) -> Tensor:
        """The table, a view `(n, D)` to read: no gradient goes through it."""
        return self.kernel.table(self.position)

    @property
    def device(self) -> torch.device:
        """Device of the table."""
        return self.kernel.weights.device

    @property
    def itemsize(self) -> int:
        """4: the table is float32."""
        return 4

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """`U(-1/√n, 1/√n)`, the padding row zero; the optimizer starts anew."""
        self.kernel.state_of(self.position).zero_()
        bound = 1 / math.sqrt(self.num_embeddings)
        uniform_(self.weight, -bound, bound, generator)
        if self.padding_idx is not None:
            self.weight[self.padding_idx] = 0

    @classmethod
    def from_dense(cls, weight: Any, **knobs: Any) -> tuple[Self, float]:
        """A copy in float32 of a trained table `(n, D)`, see `DenseRows`, and its relative error."""
        return copied(cls, weight, knobs)

    def arrays(self) -> tuple[Array, ...]:
        """Its rows."""
        return (Array("weight", self.num_embeddings, self.embedding_dim, table=True),)

    def fold(self) -> Full:
        """The same rows as a plain full table."""
        return Full.serving(self, self.weight)

    def _activation_bytes(self, batch_size: int) -> int:
        # TBE keeps ids, offsets and a few counters of its own besides the rows
        return batch_size * (16 + 4 * self.embedding_dim) + 64

    def _serving(self) -> list[Entry]:
        return [Entry("weight", 4 * self.num_embeddings * self.embedding_dim, itemsize=4)]

    def _weights(self) -> list[Entry]:
        size = self.num_embeddings * self.embedding_dim
        entries = [Entry("weight", 4 * size)]
        if (state := self.kernel.state) is not None:
            own = self.kernel.state_of(self.position)
            entries.append(Entry(f"{self.optimizer} state of weight", own.numel() * state.element_size()))
        return [*entries, Entry("TBE bookkeeping", self.kernel.bookkeeping_bytes(), owner=id(self.kernel))]

    @classmethod
    def unavailable(cls, device: torch.device | str = "cpu") -> str | None:
        """Why FBGEMM cannot be used on a device, or None where it can."""
        return available(device)

    @classmethod
    def serving_size(cls, num_embeddings: int, embedding_dim: int, **knobs: Any) -> int:
        """`4 n D` bytes."""
        return 4 * num_embeddings * embedding_dim
