"""A small call of every op, for promises that all of them keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from embpress.kernels import ops, reference
from embpress.kernels.recipes import Form, Part, Parts, Rule, Store, Table, encoded

PRIME = 2038074743
ROWS = (12, 7)  # of the two tables of every lookup


@dataclass(frozen=True)
class Example:
    """One call of an op in float64 on the CPU.

    Attributes:
        op: its name.
        name: the op and what is special.
        parameters: what it is differentiable in, none for ops on integers.
        ids: of the lookups, in range.
        call: `(parameters, ids, others)` → what the op returns.
        others: the rest of its tensors.
    """

    op: str
    name: str
    parameters: tuple[Tensor, ...]
    ids: Tensor
    call: Callable[[tuple[Tensor, ...], Any, dict[str, Tensor]], Any]
    others: dict[str, Tensor]

    def run(self, parameters: tuple[Tensor, ...] | None = None, ids: Any = None) -> Any:
        """What the op returns, with other parameters or other ids where they are given."""
        return self.call(
            self.parameters if parameters is None else parameters, self.ids if ids is None else ids, self.others
        )

    def of(self, convert: Callable[[Tensor], Tensor]) -> Example:
        """The same with every tensor converted."""
        return replace(
            self,
            parameters=tuple(map(convert, self.parameters)),
            ids=convert(self.ids),
            others={name: convert(tensor) for name, tensor in self.others.items()},
        )

    def to(self, target: Any) -> Example:
        """On a device; or of a dtype, its parameters only."""
        if not isinstance(target, torch.dtype):
            return self.of(lambda tensor: tensor.to(target))
        return replace(self, parameters=tuple(each.to(target) for each in self.parameters))

    def leaves(self) -> tuple[Tensor, ...]:
        """Copies of the parameters that want gradients."""
        return tuple(each.detach().clone().requires_grad_() for each in self.parameters)


def examples() -> Iterator[Example]:
    """Examples of every op: all ways of pooling and of putting parts together, padding, caches."""
    yield from lookups()
    yield from integer_ops()


def lookups() -> Iterator[Example]:
    """Examples of the ops that are differentiable."""
    g = Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=g)

    ids = torch.tensor([[3, 6], [0, 0], [11, 5], [3, 6]])
    rows = torch.tensor(ROWS)
    known = {"row_offsets": rows.cumsum(0) - rows, "rows": rows}

    for sign in (False, True):
        coefficients = torch.randint(1, PRIME, (6 if sign else 3,), generator=g)
        yield Example(
            "robe_lookup",
            f"robe_lookup{', sign' if sign else ''}",
            (normal(40),),
            ids,
            lambda p, i, o: ops.robe_lookup(p[0], i, o["coefficients"], **_of(o, "row_offsets", "rows"), z=3, dim=8),
            {**known, "coefficients": coefficients},
        )
    yield from _robe_bags(known, normal, g)
    digits = {"coefficients": [[[1, 4]]] * 2, "base": [[0, 4]] * 2, "sizes": [[4, 3], [4, 2]]}
    hashes = {"coefficients": torch.randint(1, PRIME, (2, 4, 2), generator=g), "base": [[0, 4]] * 2, "sizes": [[3]] * 2}
    for combine in reference.COMBINE:
        for kind, constants in (("digits", digits), ("hashes", hashes)):
            yield Example(
                "compositional_lookup",
                f"compositional_lookup, {combine} of {kind}",
                (normal(14, 4),),
                ids,
                lambda p, i, o, combine=combine: ops.compositional_lookup(p[0], i, **o, combine=combine),
                {
                    "row_offsets": torch.tensor([0, 7]),
                    "rows": rows,
                    **{name: torch.as_tensor(value) for name, value in constants.items()},
                },
            )
    yield Example(
        "mlet_lookup",
        "mlet_lookup",
        (normal(19, 5), normal(2, 5, 3)),
        ids,
        lambda p, i, o: ops.mlet_lookup(p[0], p[1], i, **o),
        known,
    )
    yield from _bags(known, {name: torch.as_tensor(value) for name, value in digits.items()}, normal)
    yield from _trains(ids, normal)


def _robe_bags(known: dict[str, Tensor], normal: Callable[..., Tensor], g: Generator) -> Iterator[Example]:
    flat, offsets = torch.tensor([3, 11, 3, 0, 6, 5]), torch.tensor([0, 2, 2, 4, 5, 6, 6])
    for name, sign, mean in (("sums", True, False), ("means", False, True), ("weights", True, False)):

        def call(p: tuple[Tensor, ...], i: Any, o: dict[str, Tensor], mean: bool = mean) -> Tensor:
            return ops.robe_bags(p[0], i, weights=p[1] if len(p) > 1 else None, **o, z=3, dim=8, mean=mean)

        coefficients = torch.randint(1, PRIME, (6 if sign else 3,), generator=g)
        others = {**known, "coefficients": coefficients, "offsets": offsets}
        own = (normal(40), normal(6)) if name == "weights" else (normal(40),)
        yield Example("robe_bags", f"robe_bags, {name}", own, flat, call, others)


def _bags(known: dict[str, Tensor], digits: dict[str, Tensor], normal: Callable[..., Tensor]) -> Iterator[Example]:
    """Bags of both tables, an empty one, one of several ids, ids that come twice; the last id is the second table's."""
    flat, offsets = torch.tensor([3, 11, 3, 0, 6, 5]), torch.tensor([0, 2, 2, 4, 5, 6, 6])
    parts = {**digits, "row_offsets": torch.tensor([0, 7]), "rows": known["rows"], "offsets": offsets}
    for name, combine, mean, weighted in (
        ("sums of products", "mult", False, False),
        ("means of sums", "add", True, False),
        ("weighted chunks", "concat", False, True),
    ):
        yield Example(
            "compositional_bags",
            f"compositional_bags, {name}",
            (normal(14, 4), *([normal(6)] if weighted else [])),
            flat,
            lambda p, i, o, combine=combine, mean=mean: ops.compositional_bags(
                p[0], i, weights=p[1] if len(p) > 1 else None, **o, combine=combine, mean=mean
            ),
            parts,
        )
    for name, mean, weighted in (("sums", False, False), ("means", True, False), ("weighted sums", False, True)):
        yield Example(
            "mlet_bags",
            f"mlet_bags, {name}",
            (normal(19, 5), normal(2, 5, 3), *([normal(6)] if weighted else [])),
            flat,
            lambda p, i, o, mean=mean: ops.mlet_bags(
                p[0], p[1], i, weights=p[2] if len(p) > 2 else None, **o, mean=mean
            ),
            {**known, "offsets": offsets},
        )


def _trains(ids: Tensor, normal: Callable[..., Tensor]) -> Iterator[Example]:
    cores = tuple(normal(*shape) for shape in ((3, 1, 2, 3), (4, 3, 2, 1), (2, 1, 2, 2), (4, 2, 2, 1)))
    flat, offsets = torch.tensor([3, 11, 3, 0, 6, 5]), torch.tensor([0, 2, 2, 4, 5, 6, 6])
    held = torch.tensor([3, -1, 0])
    cache = {"index": reference.cache_index(held, 8), "held": held}
    options: dict[str, Any] = {"num_embeddings": ROWS, "num_cores": 2}

    def example(
        name: str, own: Tensor, others: dict[str, Tensor], extra: tuple[Tensor, ...] = (), **more: Any
    ) -> Example:
        def call(p: tuple[Tensor, ...], i: Any, o: dict[str, Tensor]) -> Tensor:
            caches = []
            if "index" in o:
                caches = [o["index"], o["held"], p[4], o["held"][:0].int(), o["held"][:0], p[4][:0]]
            weights = p[-1] if name.startswith("weights") else None
            return ops.tt_embedding_bag(list(p[:4]), i, o.get("offsets"), weights, caches=caches, **options, **more)

        return Example("tt_embedding_bag", f"tt_embedding_bag, {name}", (*cores, *extra), own, call, others)

    yield example("one id a bag", ids, {})
    yield example("several ids a bag", torch.cat([ids, ids], 1)[:, [0, 2, 1, 3]], {})
    yield example("store", ids, {}, store=True)
    yield example("bags", flat, {"offsets": offsets[:-1]}, include_last_offset=False)
    yield example("mean of padded bags", flat, {"offsets": offsets}, mean=True, padding_idx=(3, -1))
    yield example("weights", flat, {"offsets": offsets}, (normal(6),))
    yield example(
        "weights of a padded cache", flat, {"offsets": offsets, **cache}, (normal(3, 4), normal(6)), padding_idx=(11, 6)
    )
    yield example("cache", ids, cache, (normal(3, 4),))


def integer_ops() -> Iterator[Example]:
    """Examples of the ops on integers."""
    rows = torch.tensor(ROWS)
    held = torch.tensor([3, -1, 0])
    index = reference.cache_index(held, 8)
    yield Example(
        "check_ids",
        "check_ids",
        (),
        torch.tensor([[3, 6], [11, 0]]),
        lambda p, i, o: ops.check_ids(i, **o),
        {"rows": rows, "row_offsets": rows.cumsum(0) - rows},
    )
    yield Example(
        "check_ids",
        "check_ids of flat ids",
        (),
        torch.tensor([3, 11, 6]),
        lambda p, i, o: ops.check_ids(i, **o),
        {"rows": rows, "tables": torch.tensor([0, 0, 1])},
    )
    yield Example(
        "check_offsets",
        "check_offsets",
        (),
        torch.tensor([0, 2, 2]),
        lambda p, i, o: ops.check_offsets(i, 5, include_last_offset=False),
        {},
    )
    yield Example("cache_index", "cache_index", (), held, lambda p, i, o: ops.cache_index(i, 8), {})
    yield Example(
        "cache_find",
        "cache_find",
        (),
        torch.tensor([[0, 3], [5, 7]]),
        lambda p, i, o: ops.cache_find(o["index"], o["held"], i),
        {"index": index, "held": held},
    )

    def count(p: Any, ids: Any, others: dict[str, Tensor]) -> list[Tensor]:
        counts = {name: tensor.clone() for name, tensor in others.items()}
        ops.count_ids(counts["keys"], counts["counts"], counts["used"], ids)
        return list(counts.values())

    yield Example(
        "take_columns",
        "take_columns",
        (),
        torch.tensor([[3, 9, 5], [0, 1, 2]]),
        lambda p, i, o: ops.take_columns(i, o["columns"]),
        {"columns": torch.tensor([2, 0])},
    )
    yield Example(
        "join_columns",
        "join_columns",
        (),
        torch.tensor([2, 0, 1]),
        lambda p, i, o: ops.join_columns([o["one"], o["two"]], i),
        {"one": torch.linspace(-1, 1, 20).view(2, 2, 5), "two": torch.linspace(1, 2, 10).view(2, 1, 5)},
    )
    codes = torch.arange(40, dtype=torch.uint8).view(10, 4)
    yield Example(
        "coded_rows",
        "coded_rows",
        (),
        torch.tensor([[3, 9], [0, 1]]),
        lambda p, i, o: ops.coded_rows(o["codes"], o["ranges"], i, bits=4, width=8, kind="column"),
        {"codes": codes, "ranges": torch.linspace(-1, 1, 16).view(1, 2, 8).bfloat16()},
    )

    take = [Part(Store(Form.FLOAT32, 0), Rule.DIGIT, *numbers) for numbers in ((4, 0, (1,)), (4, 4, (4,)))]
    recipe = encoded([Table(t, n, -1, Parts(tuple(take), 1)) for t, n in enumerate(ROWS)])
    yield Example(
        "recipe_lookup",
        "recipe_lookup",
        (),
        torch.tensor([[3, 6], [11, 1]]),
        lambda p, i, o: ops.recipe_lookup(i, arrays=[o["kept"]], recipe=o["recipe"], tables=2, dim=3),
        {"kept": torch.linspace(-1, 1, 24).view(8, 3), "recipe": torch.tensor(recipe)},
    )

    def update(p: Any, ids: Any, others: dict[str, Tensor]) -> Tensor:
        changed = {name: tensor.clone() for name, tensor in others.items()}
        parameter, total, grads = (changed[name] for name in ("parameter", "total", "grads"))
        ops.update_rows(parameter, total, ids, grads, learning_rate=0.1)
        return torch.stack([parameter, total])

    made = torch.linspace(-1, 1, 24, dtype=torch.float64).view(8, 3)
    others = {"parameter": made, "total": made.square(), "grads": made[:4] * 2}
    yield Example("update_rows", "update_rows", (), torch.tensor([5, 1, 5, 0]), update, others)

    def update_each(p: Any, ids: Any, others: dict[str, Tensor]) -> Tensor:
        changed = {name: tensor.clone() for name, tensor in others.items()}
        parameters, totals, grads = ([changed[f"{kind} {i}"] for i in (0, 1)] for kind in ("one", "total", "grad"))
        ops.update_dense(parameters, totals, grads, learning_rate=0.1)
        return torch.cat([each.flatten() for each in (*parameters, *totals)])

    cube = made.view(2, 3, 4)
    ones = {"one 0": made, "total 0": made.square(), "grad 0": made * 2}
    others = {"one 1": cube, "total 1": made[:2, 0] + 2, "grad 1": -cube}
    yield Example("update_dense", "update_dense", (), torch.tensor([]), update_each, {**ones, **others})

    counts = {"keys": torch.full((8,), -1), "counts": torch.zeros(8, dtype=torch.int64), "used": torch.tensor(0)}
    yield Example("count_ids", "count_ids", (), torch.tensor([5, 1, 5]), count, counts)


def _of(tensors: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: tensors[name] for name in names}
