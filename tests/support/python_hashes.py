"""Hashes by Python's integers, which nothing can overflow."""

PRIME = 2038074743


def rounds(x, coefficients):
    """Two rounds of `x ← (a x + b) mod P; x ← x xor (x >> 15)`."""
    a, b, c, d = coefficients
    x = (x * a + b) % PRIME
    x = ((x ^ (x >> 15)) * c + d) % PRIME
    return x ^ (x >> 15)
