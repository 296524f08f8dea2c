"""Counter-based random numbers: the value for a key never depends on what was drawn before."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
Floats = NDArray[np.float64]


def mix(x: U64) -> U64:
    """The finalizer of splitmix64: a bijection of 64-bit numbers that looks random."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_of(*keys: int | NDArray[Any]) -> U64:
    """One 64-bit hash for each combination of non-negative integer keys, which broadcast: at least 1-D."""
    h = np.zeros(1, np.uint64)
    for key in keys:
        k = np.atleast_1d(np.asarray(key)).astype(np.uint64)
        h = mix((h ^ k) + np.uint64(0x9E3779B97F4A7C15))
    return h


def uniform(h: U64) -> Floats:
    """Hashes as numbers in [0, 1), 53 bits each."""
    return np.asarray((h >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def normal(h: U64) -> Floats:
    """Hashes as nearly normal numbers of mean 0 and variance 1 (sum of four 16-bit uniforms, within ±3.5)."""
    low = np.uint64(0xFFFF)
    total = (h & low) + ((h >> np.uint64(16)) & low) + ((h >> np.uint64(32)) & low) + (h >> np.uint64(48))
    return np.asarray((total.astype(np.float64) / 65536.0 - (2.0 - 2.0 / 65536.0)) * np.sqrt(3.0))
