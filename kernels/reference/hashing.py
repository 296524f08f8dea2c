"""Universal hash functions."""

from __future__ import annotations

from torch import Tensor

# ROBE's prime (Desai et al., the published implementation): the largest id space is 2038074742.
ROBE_PRIME = 2038074743


def robe_hash(ids: Tensor, chunk: Tensor | int, coefficients: Tensor, slots: int) -> Tensor:
    """ROBE's universal hash `((x R3 + j R2 + R1) mod P) mod slots`, coefficients `(R1, R2, R3)` int64.

    No product overflows int64: `x, R < 2^31`, so `x R3 < 2^62`, and `j R2 + R1` stays below `2^42` for `j < 2^10`.
    """
    r1, r2, r3 = coefficients[0], coefficients[1], coefficients[2]
    return (ids * r3 + (chunk * r2 + r1)) % ROBE_PRIME % slots


def part_hash(ids: Tensor, coefficients: Tensor) -> Tensor:
    """Two rounds of a universal hash: ids `(..., 1)` below 2^31, coefficients `(..., 4, l)` → `(..., l)` below 2^31.

    Products stay below 2^62.
    """
    a, b, c, d = coefficients.unbind(-2)
    x = (ids * a + b) % ROBE_PRIME
    x = ((x ^ (x >> 15)) * c + d) % ROBE_PRIME
    return x ^ (x >> 15)


def pair_hash(ids: Tensor, numbers: Tensor, coefficients: Tensor) -> Tensor:
    """Hashes of an id and a number: ids `(..., 1)` below 2^31, numbers `(m,)` below 2^20 → `(..., m)` below 2^31.

    `coefficients (..., 4, 2)` are those of two `part_hash`: of the id, and of what that gives plus the number. However
    many numbers there are, eight coefficients make all hashes.
    """
    return part_hash(part_hash(ids, coefficients[..., :1]) + numbers, coefficients[..., 1:])
