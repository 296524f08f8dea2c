"""Packed pointers: every number of bits, positions across words, against a list of Python's integers."""

import pytest
import torch

from embpress.compressors.methods.cce.pointers import (
    hashed_pointers,
    no_pointers,
    packed_bytes,
    pointed,
    pointer_bits,
    put_pointers,
)


@pytest.mark.parametrize(
    ("k", "bits"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1024, 10), (1025, 11), (2**31 - 1, 31)]
)
def test_a_pointer_takes_as_many_bits_as_it_needs(k, bits):
    assert pointer_bits(k) == bits


@pytest.mark.parametrize("bits", range(32))
@pytest.mark.parametrize("parts", [1, 3])
def test_what_is_packed_comes_back(bits, parts):
    n = 205
    values = torch.randint(0, 1 << bits, (n, parts), generator=torch.Generator().manual_seed(bits))
    values[:3] = (1 << bits) - 1
    words = no_pointers(n * parts, bits)
    assert words.nbytes == packed_bytes(n * parts, bits) <= n * parts * bits / 8 + 12
    for start in range(0, n, 64):  # in pieces that do not end with words
        put_pointers(words, start * parts, values[start : start + 64].flatten(), bits)
    number = sum(value << place * bits for place, value in enumerate(values.flatten().tolist()))
    assert int.from_bytes(words.numpy().tobytes(), "little") == number
    ids = torch.tensor([[0, n - 1], [77, 77]])
    assert torch.equal(pointed(ids, parts, words, (1 << bits) - 1, bits, 0), values[ids])
    offset = torch.arange(parts) * 1000
    assert torch.equal(pointed(ids, parts, words, (1 << bits) - 1, bits, 1000), values[ids] + offset)


def test_pointers_start_evenly_and_apart():
    coefficients = torch.randint(1, 2**30, (4, 2), generator=torch.Generator().manual_seed(0))
    words = hashed_pointers(coefficients, 100_000, 10)
    first, second = pointed(torch.arange(100_000), 2, words, 15, 4, 0).unbind(1)
    joint = torch.bincount(first * 10 + second, minlength=100).double()
    assert len(joint) == 100
    assert 0.5 < float(((joint - 1000) ** 2 / 1000).sum() / 99) < 1.6
