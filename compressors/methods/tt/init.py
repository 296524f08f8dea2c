"""Initial values of tensor-train cores (TT-Rec, section 3.2 and Algorithm 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from embpress.compressors.errors import InputError, nearest
from embpress.compressors.init import fill


def _gaussian(core: Tensor, generator: Generator | None) -> None:
    core.normal_(generator=generator)


def _uniform(core: Tensor, generator: Generator | None) -> None:
    core.uniform_(-1, 1, generator=generator)


def _sampled_gaussian(core: Tensor, generator: Generator | None) -> None:
    """N(0, 1) given |x| >= 2, by inverting the distribution of the tail; the published code redraws until it fits."""
    tail = 0.5 * math.erfc(2 / math.sqrt(2))  # P(x >= 2)
    # in double: float32 would flush the far tail
    draw = torch.rand(core.shape, dtype=torch.float64, device=core.device, generator=generator)
    sign = torch.where(draw < 0.5, -1.0, 1.0)
    within = (draw * 2) % 1  # uniform again, independent of the sign
    core.copy_(sign * -torch.special.ndtri((1 - within) * tail))


# E[x^2] of N(0, 1) given |x| >= 2: 1 + 2 φ(2) / P(x >= 2)
_TAIL_VARIANCE = 1 + 2 * math.exp(-2) / math.sqrt(2 * math.pi) / (0.5 * math.erfc(2 / math.sqrt(2)))

# name: (draw, variance of one draw)
_DRAWS: dict[str, tuple[Callable[[Tensor, Generator | None], None], float]] = {
    "sampled-gaussian": (_sampled_gaussian, _TAIL_VARIANCE),
    "gaussian": (_gaussian, 1.0),
    "uniform": (_uniform, 1 / 3),
    "sampled-gaussian-fbtt": (_sampled_gaussian, 1.0),
}
INITS = tuple(_DRAWS)


def check_init(name: str) -> None:
    """Raises InputError for an initialisation that is not known."""
    if name not in _DRAWS:
        raise InputError(f"tt: no initialisation {name!r}{nearest(name, _DRAWS)}")


@torch.no_grad()
def init_cores(cores: Sequence[Tensor], num_embeddings: int, name: str, generator: Generator | None) -> None:
    """Fills the cores of one table.

    An entry of the table is a sum of `prod R` products of one element a core, so with core elements of variance `v` it
    has variance `v^d prod R`; each core is scaled such that this is `1 / (3n)`, a full table's. `sampled-gaussian-fbtt`
    is the published code's scale instead, which leaves out the ranks and the variance of the truncated draw: the
    table's standard deviation is then `13.8 √(R1 R2) / √(3n)` for three cores.

    Args:
        cores: `(p_k, R_{k-1}, q_k, R_k)` each.
        num_embeddings: rows n.
        name: one of `INITS`.
        generator: source of randomness.
    """
    check_init(name)
    draw, variance = _DRAWS[name]
    target = 1 / (3 * num_embeddings)
    if name != "sampled-gaussian-fbtt":
        target /= math.prod(core.shape[3] for core in cores)
    scale = math.sqrt(target ** (1 / len(cores)) / variance)
    for core in cores:
        fill(core, generator, lambda values: draw(values, generator))
        core.mul_(scale)
