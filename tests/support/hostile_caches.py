"""Ops on caches whose memory holds anything: an answer or a sentence, never a crash and never a search without end.

python tests/support/hostile_caches.py --device cpu --rounds 300
"""

from __future__ import annotations

import argparse
from collections import Counter

import torch
from torch import Generator, Tensor

from embpress.kernels import ops, reference
from embpress.kernels.errors import EmbpressError

ROWS, SLOTS, COUNT_SLOTS, DIM = 12, 16, 64, 4


class Garbage:
    """Memory as `to_empty` or somebody's checkpoint may leave it."""

    def __init__(self, seed: int) -> None:
        self.generator = Generator().manual_seed(seed)

    def pick(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.generator))

    def __call__(self, like: Tensor) -> Tensor:
        """A tensor of that shape and dtype: one value everywhere, small numbers, any numbers, or floats' bits."""
        info, kind = torch.iinfo(like.dtype), self.pick(5)
        if kind == 0:
            value = (0, -1, 1, info.max, info.min)[self.pick(5)]
            return torch.full_like(like, value)
        if kind == 1:
            return torch.randint(-2, 20, like.shape, generator=self.generator).to(like.dtype)
        if kind == 2:
            floats = torch.randn(like.shape, generator=self.generator, dtype=torch.float64)
            return (floats if like.dtype == torch.int64 else floats.float()).view(like.dtype)
        if kind == 3:  # sound but for one place
            found = like.clone()
            if found.numel():
                found.view(-1)[self.pick(found.numel())] = (0, 7, -5, info.max, info.min)[self.pick(5)]
            return found
        bits = torch.randint(-(2**62), 2**62, like.shape, generator=self.generator) * 2
        return bits if like.dtype == torch.int64 else (bits >> 32).to(like.dtype)

    def some(self, **tensors: Tensor) -> dict[str, Tensor]:
        """The tensors, each as it is or garbage."""
        return {name: tensor.clone() if self.pick(2) else self(tensor) for name, tensor in tensors.items()}


def main() -> None:
    """Every op `rounds` times; prints how often there was an answer and how often a sentence."""
    parser = argparse.ArgumentParser(description="Gives ops on caches memory that holds anything.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    ended: Counter[str] = Counter()
    for seed in range(options.rounds):
        for attempt in (index, find, count, lookup):
            try:
                attempt(Garbage(seed), options.device)
                ended[f"{attempt.__name__}: answered"] += 1
            except EmbpressError as error:
                ended[f"{attempt.__name__}: refused"] += "\n" not in str(error)
    print(dict(ended))


def sound() -> tuple[Tensor, Tensor]:
    """Ids of a cache, two places free, and their index."""
    held = torch.tensor([5, -1, 0, 11, 3, -1, 7])
    return held, reference.cache_index(held, SLOTS)


def index(garbage: Garbage, device: str) -> None:
    """An index of any ids finds each of them."""
    held = garbage(sound()[0]).to(device)
    made = ops.cache_index(held, SLOTS)
    found = ops.cache_find(made, held, held)
    assert bool((held[found[held >= 0].long()] == held[held >= 0]).all())


def find(garbage: Garbage, device: str) -> None:
    """What is found in any index of any ids is the id."""
    held, made = sound()
    known = {name: each.to(device) for name, each in garbage.some(index=made, held=held).items()}
    wanted = garbage(torch.arange(20)).to(device)
    found = ops.cache_find(known["index"], known["held"], wanted).long()
    assert bool((found >= -1).all())
    assert bool((known["held"][found[found >= 0]] == wanted[found >= 0]).all())


def count(garbage: Garbage, device: str) -> None:
    """Counting in any table changes nothing but the table."""
    zeros = torch.zeros(COUNT_SLOTS, dtype=torch.int64)
    keys, counts, used = zeros - 1, zeros.clone(), torch.tensor(0)
    ops.count_ids(keys, counts, used, torch.arange(0, 50, 3))
    known = {name: each.to(device) for name, each in garbage.some(keys=keys, counts=counts, used=used).items()}
    ids = garbage(torch.arange(40)).to(device)
    ops.count_ids(known["keys"], known["counts"], known["used"], ids if garbage.pick(2) else ids.int())


def lookup(garbage: Garbage, device: str) -> None:
    """Every row is the cores' own, or one that the cache has for this id."""
    held, made = sound()
    generator = garbage.generator
    cores = [torch.randn(shape, generator=generator).to(device) for shape in ((3, 1, 2, 3), (4, 3, 2, 1))]
    values = torch.randn(len(held), DIM, generator=generator).to(device)
    known = {name: each.to(device) for name, each in garbage.some(index=made, held=held).items()}
    ids = torch.randint(ROWS, (30, 1), generator=generator).to(device)
    leaves = [each.requires_grad_() for each in (*cores, values)]

    def call(caches: list[Tensor]) -> Tensor:
        found: Tensor = ops.tt_embedding_bag(
            cores, ids, num_embeddings=(ROWS,), caches=caches, num_cores=2, store=bool(garbage.pick(2))
        )
        return found

    out = call([known["index"], known["held"], values])
    grads = torch.autograd.grad(out.sum(), leaves)
    assert all(bool(grad.isfinite().all()) for grad in grads)
    plain = call([])
    for row, own, (id,) in zip(out, plain, ids.tolist()):
        cached = values[known["held"] == id]
        assert torch.allclose(row, own) or bool((cached == row).all(1).any()), id


if __name__ == "__main__":
    main()
