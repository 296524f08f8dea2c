"""Calls that reach every op: tables of each method on random shapes, forward and backward; and the ops of caches.

python tests/support/op_calls.py --device cuda --seeds 3     runs them once each, for a tool that watches the device
"""

from __future__ import annotations

import argparse
import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from embpress.compressors import TableCollection, TableConfig, create
from embpress.kernels import ops
from embpress.kernels.recipes import Form, Part, Parts, Rule, Store, Table, encoded

# a method with little knobs, so that every way through its op is taken
METHODS = (
    "tt:rank=4",
    "tt:rank=5:num_cores=2",
    "tt:rank=3:num_cores=4",
    "tt:rank=16:store=true",
    "tt:rank=4:cache_rows=8:warmup=1000000",
    "robe:z=4",
    "robe:z=3:sign=true",
    "robe:z=1",
    "hash",
    "hash:parts=4",
    "qr",
    "qr:op=concat",
    "qr:op=add:parts=3:c=3",
    "mlet:k=80",
    "full",
)
# what the op of tensor trains has on CUDA alone: two routes, by the batch, and tensor cores
ROUTES, TENSOR_CORES = ("fused", "grouped"), ("tt:rank=20:math=tf32", "tt:rank=20:math=split-tf32")


@dataclass(frozen=True)
class TableCall:
    """A module of tables on the CPU in float32, and inputs for it; `(B, F)` ids alone where `fixed`.

    Attributes:
        name: the method and the form of the input.
        module: tables, called with `inputs`.
        inputs: ids, and offsets where there are bags.
        fixed: the host need not look at the inputs, so that the call can be captured in a CUDA graph.
    """

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    fixed: bool

    def on(self, device: str, dtype: torch.dtype = torch.float32) -> TableCall:
        """A copy on a device, of that dtype."""
        module = copy.deepcopy(self.module).to(device=device, dtype=dtype)
        return TableCall(self.name, module, tuple(tensor.to(device) for tensor in self.inputs), self.fixed)

    def forward(self) -> Tensor:
        """Rows or bags, `(B, F, D)` or `(B, D)`."""
        out: Tensor = self.module(*self.inputs)
        return out

    def gradients(self) -> dict[str, Tensor]:
        """Forward and backward of a sum with uneven weights: gradients by parameter, written out where sparse."""
        self.module.zero_grad()
        out = self.forward()
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype, device=out.device)
        out.backward(weights.view(out.shape))
        grads = {name: p.grad for name, p in self.module.named_parameters() if p.grad is not None}
        return {name: grad.to_dense() if grad.is_sparse else grad for name, grad in grads.items()}


def table_calls(seed: int, methods: tuple[str, ...] = METHODS) -> Iterator[TableCall]:
    """For every method a table with one id a lookup, one with bags, and a collection of tables; sizes by the seed."""
    generator = Generator().manual_seed(seed)

    def pick(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    for spec in methods:
        n, dim, batch = pick(40, 5000), 4 * pick(1, 17), pick(1, 700)
        yield TableCall(spec, _table(spec, n, dim, generator), (_ids((batch, 1), n, generator),), True)
        lengths = torch.randint(0, 5, (batch,), generator=generator)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)[:-1]])
        ids = _ids((int(lengths.sum()),), n, generator)
        yield TableCall(f"{spec}, bags", _table(spec, n, dim, generator), (ids, offsets), False)
        sizes = [pick(40, 3000) for _ in range(3)]
        tables = TableCollection.build(
            [TableConfig(rows, dim) for rows in sizes], spec, min_rows=2, sparse=False, generator=generator
        )
        columns = torch.stack([_ids((batch,), rows, generator) for rows in sizes], dim=1)
        yield TableCall(f"{spec}, three tables", tables, (columns,), True)


def _table(spec: str, n: int, dim: int, generator: Generator) -> nn.Module:
    table = create(spec, n, dim, generator=generator)
    if getattr(table, "cache", None) is not None:
        table.fill_cache(torch.arange(0, n, 7)[: table.cache_rows])
    return table


def _ids(shape: tuple[int, ...], n: int, generator: Generator) -> Tensor:
    """Ids of which the low ones are frequent, both ends among them where there is room."""
    ids = (torch.rand(shape, generator=generator) ** 3 * n).long()
    for place, end in zip(range(ids.numel()), (n - 1, 0)):
        ids.view(-1)[place] = end
    return ids


@dataclass(frozen=True)
class PlainCall:
    """An op without gradient: `run(device)` gives what it returned or changed, on the CPU."""

    name: str
    run: Callable[[str], list[Tensor]]


def plain_calls(seed: int) -> Iterator[PlainCall]:
    """The ops on integers, and those on numbers that float32 holds exactly here."""
    generator = Generator().manual_seed(seed)
    ids = torch.randperm(10**6, generator=generator)[: 1 + seed % 900] * 7919
    wanted = torch.cat([ids, ids + 1])
    slots = 1 << (2 * len(ids)).bit_length()

    def indexed(device: str) -> list[Tensor]:
        index = ops.cache_index(ids.to(device), slots)
        return [index.cpu(), ops.cache_find(index, ids.to(device), wanted.to(device)).cpu()]

    def counted(device: str) -> list[Tensor]:
        keys = torch.full((slots,), -1, device=device)
        counts = torch.zeros(slots, dtype=torch.int64, device=device)
        used = torch.zeros((), dtype=torch.int64, device=device)
        ops.count_ids(keys, counts, used, torch.cat([ids, ids[::2]]).to(device))
        order = keys.argsort()  # which slot an id gets may depend on the order of threads
        return [keys[order].cpu(), counts[order].cpu(), used.cpu()]

    rows = torch.tensor([10**6, 10**7])

    def checked(device: str) -> list[Tensor]:
        pairs, bounds = wanted[: len(wanted) // 2 * 2].view(-1, 2) % 10**6, torch.arange(0, len(ids) + 1, 1)
        found = ops.check_ids(pairs.to(device), rows.to(device), row_offsets=rows.to(device))
        return [found.cpu(), ops.check_offsets(bounds.to(device), len(ids)).cpu()]

    def in_columns(device: str) -> list[Tensor]:
        pairs = wanted[: len(wanted) // 2 * 2].view(-1, 2).to(device)
        parts = [pairs[:, :1].double().unsqueeze(-1), pairs.double().unsqueeze(-1)]
        joined = ops.join_columns(parts, torch.tensor([1, 2, 0], device=device))
        return [ops.take_columns(pairs, torch.tensor([1, 0, 1], device=device)).cpu(), joined.cpu()]

    low, whole = ids % 50, torch.randint(-8, 8, (len(ids), 4), generator=generator).float()

    def updated(device: str) -> list[Tensor]:
        parameter = torch.arange(200.0).view(50, 4).to(device)
        ops.update_rows(parameter, None, low.to(device), whole.to(device), learning_rate=0.25)
        ops.update_rows(parameter, None, None, parameter.clone(), learning_rate=0.25)
        return [parameter.cpu()]

    def all_updated(device: str) -> list[Tensor]:
        parameters = [torch.arange(200.0).view(50, 4).to(device), torch.arange(6.0).view(3, 1, 2).to(device)]
        totals = [torch.ones(50, 4, device=device), torch.ones(3, device=device)]
        ops.update_dense(parameters, totals, [each.clone() for each in parameters], learning_rate=0.25)
        ops.update_dense(parameters, [], [each.clone() for each in parameters], learning_rate=0.25)
        return [each.cpu() for each in (*parameters, *totals)]

    def decoded(device: str) -> list[Tensor]:
        codes = torch.arange(150, dtype=torch.uint8).view(50, 3).to(device)
        ranges = torch.tensor([[[-1.0] * 6, [0.5] * 6]], device=device).bfloat16()
        return [ops.coded_rows(codes, ranges, low[:, None].to(device), bits=4, width=6, kind="column").cpu()]

    def by_recipe(device: str) -> list[Tensor]:
        made = Parts((Part(Store(Form.FLOAT32, 0), Rule.DIGIT, 8, 0, (1,)),))
        known = {"recipe": torch.tensor(encoded([Table(0, 50, -1, made)]), device=device), "tables": 1, "dim": 3}
        rows = torch.arange(24.0, device=device).view(8, 3)
        return [ops.recipe_lookup(low[:, None].to(device), arrays=[rows], **known).cpu()]

    def of_rows(device: str) -> list[Tensor]:
        found = []
        for method in ("hash:k=20", "mlet:k=20"):
            table = create(method, 50, 4, sparse=True, device=device, generator=Generator().manual_seed(seed))
            rows, offsets = low.to(device), torch.arange(0, len(low), 3, device=device)
            (table.lookup(rows).square().sum() + table(rows, offsets).square().sum()).backward()
            found += [each.grad.to_dense().cpu() for each in table.parameters()]
        return found

    yield PlainCall("gradients of rows", of_rows)
    yield PlainCall("recipe_lookup", by_recipe)
    yield PlainCall("check_ids and check_offsets", checked)
    yield PlainCall("take_columns and join_columns", in_columns)
    yield PlainCall("update_rows", updated)
    yield PlainCall("update_dense", all_updated)
    yield PlainCall("coded_rows", decoded)
    yield PlainCall("cache_index and cache_find", indexed)
    yield PlainCall("count_ids", counted)


def main() -> None:
    """Every call once a seed."""
    parser = argparse.ArgumentParser(description="Calls every op forward and backward on random shapes.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    done = 0
    for seed in range(options.seeds):
        for route in ROUTES:
            os.environ["EMBPRESS_TT_ROUTE"] = route
            trains = tuple(method for method in METHODS if method.startswith("tt"))
            methods = METHODS if route == ROUTES[0] else (*trains, *TENSOR_CORES)
            for call in table_calls(seed, methods):
                assert all(bool(grad.isfinite().all()) for grad in call.on(options.device).gradients().values())
                done += 1
        for plain in plain_calls(seed):
            plain.run(options.device)
            done += 1
    print(f"{done} calls on {options.device}")


if __name__ == "__main__":
    main()
