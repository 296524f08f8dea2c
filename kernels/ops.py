"""The ops: schema, fake kernel, autograd and a typed wrapper each.

The plain PyTorch reference is registered as `CompositeExplicitAutograd`; a compiled library adds CPU and CUDA
implementations of the same schemas, which the dispatcher then prefers. Nothing here asks what is compiled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import Library, register_autograd, register_fake

from embpress.kernels import reference

_library = Library("embpress", "FRAGMENT")
_library.define(
    "tt_embedding_bag(Tensor[] cores, Tensor indices, Tensor? offsets, Tensor? per_sample_weights, int num_cores, "
    "bool mean) -> Tensor"
)
_library.define(
    "tt_embedding_bag_backward(Tensor grad, Tensor[] cores, Tensor indices, Tensor? offsets, "
    "Tensor? per_sample_weights, int num_cores, bool mean) -> (Tensor[], Tensor)"
)
_library.define("robe_lookup(Tensor memory, Tensor ids, Tensor coefficients, int z, int dim) -> Tensor")
_library.define("robe_lookup_backward(Tensor grad, Tensor ids, Tensor coefficients, int size, int z) -> Tensor")
NAMES = ("tt_embedding_bag", "tt_embedding_bag_backward", "robe_lookup", "robe_lookup_backward")
for _name in NAMES:
    _library.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")


def backend(op: str, device: str = "cpu") -> str:
    """Which implementation of `op` answers on `device`: `"native"` (compiled) or `"reference"` (plain PyTorch)."""
    native = torch._C._dispatch_has_kernel_for_dispatch_key(f"embpress::{op}", device.upper())
    return "native" if native else "reference"


# --- TT-Rec -----------------------------------------------------------------------------------------------------------


def tt_embedding_bag(
    cores: list[Tensor],
    indices: Tensor,
    offsets: Tensor | None = None,
    per_sample_weights: Tensor | None = None,
    *,
    num_cores: int,
    mean: bool = False,
) -> Tensor:
    """Pooled lookups in `T` tensor-train tables at once (TT-Rec, Equation 4).

    Args:
        cores: `T * num_cores` tensors, table after table; core k of a table is `(p_k, R_{k-1}, q_k, R_k)`, i.e. the
            paper's `G_k` with the row digit first, so that a digit's slice is contiguous. The tables' shapes may
            differ, their width `D = prod q_k` may not.
        indices: `(N,)` int64, table after table, valid ids only.
        offsets: `(T * B + 1,)` int64: bag b of table t is `indices[offsets[t B + b] : offsets[t B + b + 1]]`. None:
            one id a bag, `N = T * B`.
        per_sample_weights: `(N,)` of the cores' dtype, for sums.
        num_cores: 2, 3 or 4.
        mean: mean instead of sum.

    Returns:
        `(B, T, D)`, differentiable in the cores and the weights.
    """
    return torch.ops.embpress.tt_embedding_bag.default(cores, indices, offsets, per_sample_weights, num_cores, mean)


@register_fake("embpress::tt_embedding_bag")
def _(cores: Any, indices: Any, offsets: Any, per_sample_weights: Any, num_cores: int, mean: bool) -> Tensor:
    tables = len(cores) // num_cores
    bags = (indices.shape[0] if offsets is None else offsets.shape[0] - 1) // tables
    dim = 1
    for core in cores[:num_cores]:
        dim *= core.shape[2]
    return cores[0].new_empty(bags, tables, dim)


@register_fake("embpress::tt_embedding_bag_backward")
def _(
    grad: Any, cores: Any, indices: Any, offsets: Any, per_sample_weights: Any, num_cores: int, mean: bool
) -> tuple[list[Tensor], Tensor]:
    size = 0 if per_sample_weights is None else indices.shape[0]
    return [torch.empty_like(core) for core in cores], grad.new_empty(size)


def _tt_setup(ctx: Any, inputs: Any, output: Any) -> None:
    cores, indices, offsets, per_sample_weights, ctx.num_cores, ctx.mean = inputs
    ctx.save_for_backward(indices, offsets, per_sample_weights, *cores)


def _tt_backward(ctx: Any, grad: Tensor) -> Any:
    indices, offsets, per_sample_weights, *cores = ctx.saved_tensors
    core_grads, weight_grad = torch.ops.embpress.tt_embedding_bag_backward.default(
        grad, cores, indices, offsets, per_sample_weights, ctx.num_cores, ctx.mean
    )
    return core_grads, None, None, None if per_sample_weights is None else weight_grad, None, None


register_autograd("embpress::tt_embedding_bag", _tt_backward, setup_context=_tt_setup)


# --- ROBE -------------------------------------------------------------------------------------------------------------


def robe_lookup(memory: Tensor, ids: Tensor, coefficients: Tensor, *, z: int, dim: int) -> Tensor:
    """Rows of tables that share one flat array (ROBE-Z).

    Chunk j of row x is `memory[h : h + z]` with `h = ((x R3 + j R2 + R1) mod P) mod (size - z + 1)`; the last chunk is
    cut where `dim` is no multiple of `z`. The backward returns a dense gradient and computes the hashes anew.

    Args:
        memory: `(size,)`, `size >= z`.
        ids: `(N,)` int64, global: the rows of the tables before already added; below 2038074743.
        coefficients: `(3,)` int64 `R1, R2, R3`, or `(6,)` where three more hash a random sign for every element.
        z: chunk size, `1 <= z <= dim`.
        dim: row width `D`.

    Returns:
        `(N, dim)`, differentiable in `memory`.
    """
    return torch.ops.embpress.robe_lookup.default(memory, ids, coefficients, z, dim)


@register_fake("embpress::robe_lookup")
def _(memory: Any, ids: Any, coefficients: Any, z: int, dim: int) -> Tensor:
    return memory.new_empty(ids.shape[0], dim)


@register_fake("embpress::robe_lookup_backward")
def _(grad: Any, ids: Any, coefficients: Any, size: int, z: int) -> Tensor:
    return grad.new_empty(size)


def _robe_setup(ctx: Any, inputs: Any, output: Any) -> None:
    memory, ids, coefficients, ctx.z, _ = inputs
    ctx.size = memory.shape[0]
    ctx.save_for_backward(ids, coefficients)


def _robe_backward(ctx: Any, grad: Tensor) -> Any:
    ids, coefficients = ctx.saved_tensors
    return (
        torch.ops.embpress.robe_lookup_backward.default(grad, ids, coefficients, ctx.size, ctx.z),
        None,
        None,
        None,
        None,
    )


register_autograd("embpress::robe_lookup", _robe_backward, setup_context=_robe_setup)
