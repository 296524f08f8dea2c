"""Tables of one width in FBGEMM's table-batched embedding (TBE), whose backward holds the optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from embpress.compressors.errors import InputError
from embpress.compressors.ledger import tensors_of

OPTIMIZERS = {"sgd": "EXACT_SGD", "adagrad": "EXACT_ADAGRAD", "rowwise_adagrad": "EXACT_ROWWISE_ADAGRAD"}


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


class TBE(nn.Module):
    """Rows of tables of one width, and a TBE that trains them.

    The TBE is made when something is to be trained, and given the tensors that are here at each call: whatever puts
    others in their place is heeded, and a copy that only reads never has one.

    Attributes:
        weights: `(Σ n D,)`.
        state: of the optimizer, `(Σ n D,)`, or row-wise `(Σ n,)`; None for plain gradient descent.
        away: rows and state are elsewhere, and their memory is let go of: see `let_go`.
    """

    weights: nn.Parameter
    state: Tensor | None

    def __init__(
        self, method: str, rows: Sequence[int], width: int, optimizer: str, learning_rate: float, device: Any
    ) -> None:
        super().__init__()
        self.method, self.rows, self.width = method, list(rows), width
        self.optimizer, self.learning_rate = optimizer, learning_rate
        reason = available(device or "cpu")
        if reason is not None:
            raise InputError(
                f"{method} needs FBGEMM, but {reason}; install embpress[cpu] or embpress[cuda] in the release that "
                "goes with your torch"
            )
        count = sum(self.rows)
        self.weights = nn.Parameter(torch.zeros(count * width, device=device))
        size = {"sgd": 0, "adagrad": count * width, "rowwise_adagrad": count}[optimizer]
        self.register_buffer("state", torch.zeros(size, device=device) if size else None)
        self.away = False

    def let_go(self) -> None:
        """Gives back the memory of rows and state, which are held elsewhere; until `take_back` nothing reads them."""
        for tensor in self._held():
            tensor.untyped_storage().resize_(0)
        self.away = True

    def take_back(self) -> None:
        """Takes memory for rows and state again, to be filled in."""
        for tensor in self._held():
            tensor.untyped_storage().resize_(tensor.nbytes)
        self.away = False

    def _held(self) -> list[Tensor]:
        return [self.weights.detach(), *([] if self.state is None else [self.state])]

    def wants_update(self) -> bool:
        """Whether a lookup now is followed by an update; all others read, as do those of tensors without memory.

        So do those of tensors that `torch.func.functional_call` gives, which get a gradient as in a full table.

        Raises:
            InputError: the TBE would train something else than the parameter that is here.
        """
        weights = self.weights
        if self.away:
            raise RuntimeError(f"{self.method}: the rows are divided among ranks; gather them before they are read")
        if not (weights.requires_grad and torch.is_grad_enabled()) or torch.compiler.is_exporting():
            return False
        if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():  # which a graph cannot ask
            return False
        if type(weights) is nn.Parameter:  # the only thing with memory of its own to update
            return not weights.is_meta
        if isinstance(weights, FakeTensor) or (type(weights) is Tensor and "weights" in self._parameters):
            return False
        raise InputError(
            f"{self.method} trains a plain parameter of its own, not what a parametrization, pruning or sharding puts "
            "in its place: use the method full"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(value, "device_mesh"):  # later there is no telling: a forward gets a plain parameter, freed after it
            raise InputError(
                f"{self.method} cannot be sharded: its backward updates all of its {name}, which are not there then; "
                "use the method full"
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
                    f"{self.method} cannot train in several processes (DistributedDataParallel): each would update its "
                    "own table by its own batches, and they would drift apart: use the method full"
                )
        sizes: dict[str, tuple[Tensor, int]] = {"weights": (self.weights, sum(self.rows) * self.width)}
        if self.state is not None:
            sizes["state"] = (self.state, sum(self.rows) * (1 if self.optimizer.startswith("rowwise") else self.width))
        for name, (tensor, size) in sizes.items():
            if tensor.dtype != torch.float32:
                dtype = tensor.dtype
                raise InputError(f"{self.method} trains in float32 only, its {name} is {dtype}: use the method full")
            if tensor.shape != (size,) or not tensor.is_contiguous() or tensor.device != self.weights.device:
                place = "contiguous and on the device of the weights"
                raise InputError(f"{self.method}: {name} must be ({size},), {place}")

    def _connected(self) -> Any:
        """The TBE, on the tensors that are here now."""
        tbe, device = self.__dict__.get("tbe"), self.weights.device
        if tbe is None or tbe.current_device != device:
            tbe = made(self.rows, self.width, self.optimizer, self.learning_rate, device)
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
def _not_traced(kernel: TBE, *inputs: Any) -> Tensor:
    out: Tensor = kernel(*inputs)
    return out


_REASON = "a TBE updates its table in the backward, which a graph cannot hold: use the method full"
vars(_not_traced).update(_torchdynamo_disable=True, _torchdynamo_disable_msg=_REASON)


def made(rows: Sequence[int], width: int, optimizer: str, learning_rate: float, device: torch.device) -> Any:
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
        optimizer=getattr(EmbOptimType, OPTIMIZERS[optimizer]),
        learning_rate=learning_rate,
        eps=1e-10,
        device=device,
    )
    tbe._parameters.pop("momentum1_host", None)  # which is no parameter
    tbe.trains_at = learning_rate
    return tbe
