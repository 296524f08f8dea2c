"""Full tables on FBGEMM's table-batched embedding (TBE): one call for all tables, the optimizer in the backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self, Unpack

from embpress.compressors.base import Compressor, TableOptions
from embpress.compressors.errors import InputError, nearest
from embpress.compressors.group import TableGroup
from embpress.compressors.init import uniform_
from embpress.compressors.ledger import Entry, tensors_of
from embpress.compressors.methods.full import Full
from embpress.compressors.registry import register
from embpress.compressors.tags import Tags

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
    """A TBE behind plain parameters: `weights (Σ n D,)` and, for Adagrad, `state`; a copy makes all else anew."""

    weights: nn.Parameter
    state: nn.Parameter
    tbe: Any

    def __init__(
        self, shapes: Sequence[tuple[int, int]], optimizer: str, learning_rate: float, mean: bool, device: Any
    ) -> None:
        super().__init__()
        self.arguments = (list(shapes), optimizer, learning_rate, mean, str(device or "cpu"))
        self._connect()

    def _connect(self) -> None:
        """Makes the TBE; parameters that are here already replace its own."""
        shapes, optimizer, learning_rate, mean, device = self.arguments
        reason = available(device)
        if reason is not None:
            raise InputError(
                f"full-tbe needs FBGEMM, but {reason}; install embpress[cpu] or embpress[cuda] in the release that "
                "goes with your torch"
            )
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice,
            SplitTableBatchedEmbeddingBagsCodegen,
        )

        cuda = torch.device(device).type == "cuda"
        place = (EmbeddingLocation.DEVICE, ComputeDevice.CUDA) if cuda else (EmbeddingLocation.HOST, ComputeDevice.CPU)
        tbe = SplitTableBatchedEmbeddingBagsCodegen(
            [(n, dim, *place) for n, dim in shapes],
            optimizer=getattr(EmbOptimType, _OPTIMIZERS[optimizer]),
            learning_rate=learning_rate,
            eps=1e-10,
            pooling_mode=PoolingMode.MEAN if mean else PoolingMode.SUM,
            device=torch.device(device),
        )
        where = "dev" if cuda else "host"
        mine = {"weights": f"weights_{where}"}
        if optimizer != "sgd":  # of which CUDA's TBE keeps one number that says nothing
            mine["state"] = f"momentum1_{where}"
        for name, theirs in mine.items():
            found = getattr(tbe, theirs)
            if name in self._parameters:
                setattr(tbe, theirs, self._parameters[name])
            else:
                parameter = found if isinstance(found, nn.Parameter) else nn.Parameter(found, requires_grad=False)
                setattr(self, name, parameter)
        object.__setattr__(self, "tbe", tbe)  # not a child: only the two parameters are state

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """What `to` and its kin go through: another device needs another TBE."""
        before = self.weights.device
        super()._apply(fn, recurse)
        if self.weights.device != before:
            self.arguments = (*self.arguments[:-1], str(self.weights.device))
            self._connect()
        return self

    def bookkeeping_bytes(self) -> int:
        """Bytes of the TBE's own small tensors."""
        mine = [p.untyped_storage().data_ptr() for p in self.parameters()]
        theirs = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors_of(self.tbe, set())}
        return sum(size for pointer, size in theirs.items() if pointer not in mine)

    def table(self, t: int) -> Tensor:
        """The rows of table t, a view `(n, D)`."""
        first = sum(n * dim for n, dim in self.arguments[0][:t])
        n, dim = self.arguments[0][t]
        return self.weights.detach()[first : first + n * dim].view(n, dim)

    def forward(self, ids: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Bags of all tables, table after table: `(B, Σ D)`."""
        return self.tbe(ids, offsets, per_sample_weights=weights)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "tbe"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._connect()


class _TBEGroup(TableGroup):
    """All tables in one TBE, which takes over from the tables' own."""

    tables: Sequence[FullTBE]

    def _take_over(self, tables: list[Compressor]) -> None:
        first = self.first
        shapes = [(table.num_embeddings, table.embedding_dim) for table in tables]
        self.kernel = _TBE(shapes, first.optimizer, first.learning_rate, first.mode == "mean", first.device)
        for t, table in enumerate(self.tables):
            self.kernel.table(t).copy_(table.kernel.table(table.position))
            del table._modules["kernel"]
            object.__setattr__(table, "kernel", self.kernel)
            table.position = t

    def rows(self, ids: Tensor) -> Tensor:
        table = self.first
        if self._of_another():
            return F.embedding(ids, table.weight)
        offsets = torch.arange(ids.numel() + 1, device=ids.device)
        return table.kernel(ids.t().reshape(-1).long(), offsets).view(*ids.shape, table.embedding_dim)

    def bags(self, ids: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        if self._of_another():
            return super().bags(ids, offsets, weights)
        table, count = self.first, (offsets.shape[0] - 1) // self.count
        return table.kernel(ids.long(), offsets, weights).view(count, self.count, table.embedding_dim)

    def _of_another(self) -> bool:
        """Whether this is one table of another group's TBE: lookups in that train, alone it can only be read."""
        return self.first.kernel not in self.first.children() and "kernel" not in self._modules


@register("full-tbe")
class FullTBE(Compressor):
    """A full table held by FBGEMM's TBE; its backward updates the table itself, there is no `.grad`.

    float32, width a multiple of 4. It folds to a plain full table.

    Args:
        optimizer: `sgd`, `adagrad` or `rowwise_adagrad`.
        learning_rate: of that optimizer.
    """

    tags: ClassVar[Tags] = Tags(fused_update=True, uncompressed=True, dtypes=(torch.float32,))
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
        self.optimizer, self.learning_rate, self.position = optimizer, learning_rate, 0
        self.kernel = _TBE(
            [(num_embeddings, embedding_dim)], optimizer, learning_rate, self.mode == "mean", options.get("device")
        )
        self.reset_parameters(options.get("generator"))

    @property
    def backend(self) -> str:
        """`fbgemm`."""
        return "fbgemm"

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """Those of the TBE."""
        return dict(self.kernel.named_parameters())

    def group_key(self) -> tuple[Any, ...]:
        """One TBE has one optimizer."""
        return *super().group_key(), self.optimizer, self.learning_rate

    @property
    def weight(self) -> Tensor:
        """The table, a view `(n, D)`."""
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
        """`U(-1/√n, 1/√n)`, the padding row zero."""
        bound = 1 / math.sqrt(self.num_embeddings)
        uniform_(self.weight, -bound, bound, generator)
        if self.padding_idx is not None:
            self.weight[self.padding_idx] = 0

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
        if "state" in self.kernel._parameters:
            whole = sum(n * dim for n, dim in self.kernel.arguments[0])
            state = self.kernel.state
            entries.append(
                Entry(f"{self.optimizer} state of weight", state.numel() * state.element_size() * size // whole)
            )
        return [*entries, Entry("TBE bookkeeping", self.kernel.bookkeeping_bytes(), owner=id(self.kernel))]

    @classmethod
    def unavailable(cls, device: torch.device | str = "cpu") -> str | None:
        """Why FBGEMM cannot be used on a device, or None where it can."""
        return available(device)

    @classmethod
    def serving_size(cls, num_embeddings: int, embedding_dim: int, **knobs: Any) -> int:
        """`4 n D` bytes."""
        return 4 * num_embeddings * embedding_dim
