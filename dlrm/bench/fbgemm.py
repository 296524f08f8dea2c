"""FBGEMM's table-batched embeddings (TBE) of one table on the CPU, in float32 with SGD in the backward and in codes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from embpress.dlrm.bench.baselines import NotMeasured

_STEP, _LO = 1e-5, -1e-3  # of the codes' ranges: small values, none of them denormal


def trained(rows: int, dim: int, learning_rate: float, device: torch.device) -> nn.Module:
    """`SplitTableBatchedEmbeddingBagsCodegen` of one table `(rows, dim)`, sums, exact SGD fused into the backward.

    Called with ids `(N,)` int64 and offsets `(B + 1,)`.

    Raises:
        NotMeasured: FBGEMM is not here, or the device is no CPU.
    """
    _on_cpu(device)
    try:
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice,
            SplitTableBatchedEmbeddingBagsCodegen,
        )
    except Exception as error:  # a release for another torch fails with OSError and worse
        raise _absent(error) from None
    tbe: Any = SplitTableBatchedEmbeddingBagsCodegen(
        [(rows, dim, EmbeddingLocation.HOST, ComputeDevice.CPU)],
        optimizer=EmbOptimType.EXACT_SGD,
        learning_rate=learning_rate,
        device=device,
    )
    bound = rows**-0.5
    tbe.init_embedding_weights_uniform(-bound, bound)  # memory that was never written is read from one page
    made: nn.Module = tbe
    return made


def served(rows: int, dim: int, bits: int, device: torch.device) -> nn.Module:
    """`IntNBitTableBatchedEmbeddingBagsCodegen` of one table `(rows, dim)` in 8 or 4 bits, which answers in float32.

    Called with ids `(N,)` int64 and offsets `(B + 1,)`. Its codes are random, each row has a range of its own.

    Raises:
        NotMeasured: FBGEMM is not here, or the device is no CPU.
    """
    _on_cpu(device)
    try:
        from fbgemm_gpu.split_embedding_configs import SparseType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
        from fbgemm_gpu.split_table_batched_embeddings_ops_inference import IntNBitTableBatchedEmbeddingBagsCodegen
    except Exception as error:
        raise _absent(error) from None
    kind = {8: SparseType.INT8, 4: SparseType.INT4}[bits]
    tbe: Any = IntNBitTableBatchedEmbeddingBagsCodegen(
        [("", rows, dim, kind, EmbeddingLocation.HOST)], device=device, output_dtype=SparseType.FP32
    )
    tbe.fill_random_weights()
    for codes, ranges in tbe.split_embedding_weights():
        codes.random_()
        ranges.copy_(torch.tensor([_STEP, _LO], dtype=torch.float16).view(torch.uint8).expand_as(ranges))
    made: nn.Module = tbe
    return made


def rows_with_ranges(rows: int, dim: int, bits: int) -> Tensor:
    """Random codes in the format of torch's quantized embedding bags: uint8 `(rows, bytes)`, a row's range behind it.

    Step and lo are float32 with 8 bits, float16 with fewer.
    """
    own = torch.tensor([_STEP, _LO], dtype=torch.float32 if bits == 8 else torch.float16).view(torch.uint8)
    width = dim * bits // 8
    table = torch.empty(rows, width + len(own), dtype=torch.uint8)
    table.random_()
    table[:, width:] = own
    return table


def _on_cpu(device: torch.device) -> None:
    if device.type != "cpu":
        raise NotMeasured("FBGEMM is measured on the CPU only")


def _absent(error: Exception) -> NotMeasured:
    return NotMeasured(f"fbgemm_gpu does not import here ({type(error).__name__})")
