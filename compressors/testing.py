"""The public conformance suite: what every compressor promises, as small checks.

    from embpress.compressors.testing import parametrize_with_checks

    @parametrize_with_checks(["tt:rank=4", MyCompressor])
    def test_conformance(subject, check):
        check(subject)

A check takes a `Subject`, a method with fixed knobs, and raises AssertionError where a promise is broken. The oracle of
pooling is `nn.functional.embedding_bag` on the table written out.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from embpress.compressors.base import Compressor
from embpress.compressors.budget import TableSpec
from embpress.compressors.collection import TableCollection
from embpress.compressors.errors import BudgetError
from embpress.compressors.ledger import OPTIMIZERS, held_bytes, tensors_of
from embpress.compressors.registry import for_budget, parse, smallest_bytes

N, D = 97, 16  # a prime number of rows: nothing factors by luck
SHAPES = ((1, 16), (2, 16), (N, D), (1009, 32))


@dataclass(frozen=True)
class Subject:
    """A compressor class with knobs, and the device it is checked on."""

    cls: type[Compressor]
    knobs: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    def make(self, n: int = N, dim: int = D, seed: int = 0, **options: Any) -> Compressor:
        """A table of `n × dim`, its initial values from `seed`."""
        return self.cls(n, dim, **self.knobs, **{"device": self.device, "generator": Generator().manual_seed(seed), **options})

    def ids(self, values: Sequence[int]) -> Tensor:
        """int64 ids on the device."""
        return torch.tensor(values, dtype=torch.int64, device=self.device)

    @property
    def double(self) -> dict[str, Any]:
        """Options for the widest dtype that the method has."""
        return {} if "float32" in self.cls.tags else {"dtype": torch.float64}

    def __str__(self) -> str:
        name = self.cls.spec_name or self.cls.__name__
        knobs = "".join(f":{key}={value}" for key, value in self.knobs.items())
        return name + knobs + ("" if self.device == "cpu" else f"@{self.device}")


def subject_of(method: str | type[Compressor] | Subject, device: str = "cpu") -> Subject:
    """A spec such as `"tt:rank=4"`, a class, or a subject."""
    if isinstance(method, Subject):
        return method
    if isinstance(method, str):
        spec = parse(method)
        return Subject(spec.cls, dict(spec.knobs), device)
    return Subject(method, {}, device)


def _bags(subject: Subject) -> tuple[Tensor, Tensor]:
    """Ids with repeats and both ends, in bags of every kind: empty first, middle and last, one id, many."""
    ids = subject.ids([0, N - 1, 3, 3, 3, 41, 0, 96, 5, 5, 0])
    return ids, subject.ids([0, 0, 2, 3, 3, 8, 11])


def _rejects(call: Callable[[], object], errors: tuple[type[Exception], ...], *words: str) -> None:
    """Asserts that `call` raises one of `errors`, with all words in the message."""
    try:
        call()
    except errors as error:
        missing = [word for word in words if word not in str(error)]
        assert not missing, f"the message {str(error)!r} does not name {missing}"
        return
    raise AssertionError(f"{' or '.join(e.__name__ for e in errors)} was not raised")


def _close(a: Tensor, b: Tensor, what: str) -> None:
    tolerance = 1e-10 if a.dtype == torch.float64 else 1e-5
    torch.testing.assert_close(a, b.to(a.dtype), rtol=tolerance * 10, atol=tolerance, msg=lambda m: f"{what}: {m}")


def _touch(values: Tensor, target: Tensor) -> None:
    """Backward of a loss whose gradient differs from row to row."""
    ((values - target) ** 2).sum().backward()


def _gradients(table: Compressor) -> dict[str, Tensor]:
    found = {}
    for name, parameter in table.named_parameters():
        if parameter.grad is not None:
            found[name] = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
    return found


# --- construction and lookups -----------------------------------------------------------------------------------------


def check_construction(subject: Subject) -> None:
    """Draws only from the generator: same seed, same table; another seed, another; the global state is untouched."""
    before = torch.get_rng_state()
    first, second, other = subject.make(seed=1), subject.make(seed=1), subject.make(seed=2)
    assert torch.equal(before, torch.get_rng_state()), "the global random state was used"
    assert torch.equal(first.to_dense(), second.to_dense()), "the same seed gave two tables"
    assert not torch.equal(first.to_dense(), other.to_dense()), "another seed gave the same table"


def check_repr(subject: Subject) -> None:
    """`repr` shows shape, size and ratio."""
    text = repr(subject.make())
    for word in (str(N), str(D), "serving_bytes=", "ratio="):
        assert word in text, f"{word!r} is not in {text!r}"


def check_lookup(subject: Subject) -> None:
    """Ids of any shape give rows; twice the same; the table is not changed by looking."""
    for n, dim in SHAPES:
        table = subject.make(n, dim).eval()
        state = {name: value.clone() for name, value in table.state_dict().items()}
        ids = subject.ids([[0, n - 1, n // 2], [n // 3, 0, 0]])
        rows = table.lookup(ids)
        assert rows.shape == (2, 3, dim), f"lookup of (2, 3) ids gave {tuple(rows.shape)}"
        assert torch.equal(rows, table.lookup(ids)), "two lookups differ"
        assert torch.isfinite(rows).all(), "a row is not finite"
        assert torch.equal(rows[1, 1], rows[0, 0]), "the same id gave two rows"
        assert table.lookup(ids[:0]).shape == (0, 3, dim), "an empty lookup has the wrong shape"
        assert table.lookup(ids[0, 0]).shape == (dim,), "the lookup of one id has the wrong shape"
        for name, value in table.state_dict().items():
            assert torch.equal(value, state[name]), f"a lookup changed {name}"


def check_to_dense(subject: Subject) -> None:
    """`to_dense` equals the lookups of all ids, and of the rows asked for."""
    for n, dim in SHAPES:
        table = subject.make(n, dim).eval()
        dense = table.to_dense()
        assert dense.shape == (n, dim), f"to_dense gave {tuple(dense.shape)}"
        assert not dense.requires_grad, "to_dense carries a gradient"
        _close(dense, table.lookup(torch.arange(n, device=subject.device)).detach(), "to_dense")
        rows = subject.ids([n - 1, 0, n // 2])
        _close(table.to_dense(rows), dense[rows], "to_dense(rows)")


def check_rows_differ(subject: Subject) -> None:
    """A table holds many rows, not one: ids are told apart."""
    dense = subject.make().to_dense()
    distinct = len(torch.unique(dense, dim=0))
    assert distinct > N // 20, f"only {distinct} of {N} rows differ"


def check_out_of_range(subject: Subject) -> None:
    """An id out of range is an IndexError that names the id and n."""
    table = subject.make()
    for bad in (-1, N, 2**31 - 1, 2**40):
        ids = subject.ids([0, bad])
        _rejects(lambda ids=ids: table.lookup(ids), (IndexError,), str(bad), str(N))
        _rejects(lambda ids=ids: table(ids, subject.ids([0])), (IndexError,), str(bad), str(N))
        _rejects(lambda ids=ids: table(ids.unsqueeze(0)), (IndexError,), str(bad), str(N))


def check_dtypes(subject: Subject) -> None:
    """int32 and int64 mean the same; other dtypes are refused by name."""
    table = subject.make().eval()
    ids, offsets = _bags(subject)
    wide = table(ids, offsets)
    assert torch.equal(wide, table(ids.int(), offsets.int())), "int32 and int64 differ"
    assert torch.equal(wide, table(ids.int(), offsets)), "int32 ids with int64 offsets differ"
    assert torch.equal(table.lookup(ids), table.lookup(ids.int())), "int32 and int64 lookups differ"
    for wrong in (ids.float(), ids.bool()):
        _rejects(lambda wrong=wrong: table(wrong, offsets), (TypeError,), str(wrong.dtype).removeprefix("torch."))


# --- pooling ----------------------------------------------------------------------------------------------------------


def _pooled(subject: Subject, mode: str, weights: Tensor | None, **options: Any) -> tuple[Tensor, Tensor]:
    table = subject.make(mode=mode, **subject.double, **options).eval()
    ids, offsets = _bags(subject)
    dense = table.to_dense()
    want = F.embedding_bag(ids, dense, offsets, mode=mode, per_sample_weights=weights, padding_idx=options.get("padding_idx"))
    got = table(ids, offsets, weights)
    assert got.shape == want.shape, f"{tuple(offsets.shape)} offsets gave {tuple(got.shape)}"
    return got.detach(), want


def check_sum(subject: Subject) -> None:
    """Sums over bags, empty bags zero."""
    got, want = _pooled(subject, "sum", None)
    _close(got, want, "sum")


def check_mean(subject: Subject) -> None:
    """Means over bags, empty bags zero."""
    got, want = _pooled(subject, "mean", None)
    _close(got, want, "mean")


def check_last_offset(subject: Subject) -> None:
    """Offsets with and without the last one mean the same bags."""
    ids, offsets = _bags(subject)
    without = subject.make().eval()(ids, offsets)
    table = subject.make(include_last_offset=True).eval()
    last = torch.cat([offsets, subject.ids([len(ids)])])
    _close(table(ids, last), without, "include_last_offset")


def check_empty_bags(subject: Subject) -> None:
    """Nothing but empty bags, and no bag at all."""
    none = subject.ids([])
    for mode in ("sum", "mean"):
        table = subject.make(mode=mode)
        zeros = table(none, subject.ids([0, 0, 0]))
        assert zeros.shape == (3, D), f"three empty bags gave {tuple(zeros.shape)}"
        assert not zeros.any(), "an empty bag is not zero"
        assert table(none, none).shape == (0, D), "no bag at all has the wrong shape"
        assert table(none.view(0, 4)).shape == (0, D), "a 2-D input without rows has the wrong shape"
        assert not table(none.view(3, 0)).any(), "2-D bags of length 0 are not zero"


def check_2d_input(subject: Subject) -> None:
    """A 2-D input is a bag a row, and takes no offsets."""
    for mode in ("sum", "mean"):
        table = subject.make(mode=mode).eval()
        dense = table.to_dense()
        for ids in (subject.ids([[0, 3, 96], [5, 5, 5]]), subject.ids([[7], [0], [96]])):
            _close(table(ids).detach(), F.embedding_bag(ids, dense, mode=mode), f"2-D {mode}")
    _rejects(lambda: table(subject.ids([[1]]), subject.ids([0])), (ValueError,), "offsets")


def check_weights(subject: Subject) -> None:
    """Per-sample weights with sum, their gradient too; refused with mean and in another shape."""
    ids, offsets = _bags(subject)
    table = subject.make(**subject.double).eval()
    dense = table.to_dense()
    weights = torch.linspace(-1, 2, len(ids), dtype=dense.dtype, device=subject.device)
    mine, oracle = weights.clone().requires_grad_(), weights.clone().requires_grad_()
    got = table(ids, offsets, mine)
    want = F.embedding_bag(ids, dense, offsets, mode="sum", per_sample_weights=oracle)
    _close(got.detach(), want.detach(), "weights")
    slope = torch.arange(want.numel(), dtype=dense.dtype, device=subject.device).view_as(want) / want.numel()
    (want * slope).sum().backward()
    (got * slope).sum().backward()
    assert mine.grad is not None, "the weights got no gradient"
    assert oracle.grad is not None
    _close(mine.grad, oracle.grad, "gradient of the weights")
    _close(table(ids.view(1, -1), None, weights.view(1, -1)).detach(), table(ids, offsets[:1], weights).detach(), "2-D weights")
    _rejects(lambda: table(ids, offsets, weights[:-1]), (ValueError,), "per_sample_weights")
    _rejects(lambda: subject.make(mode="mean")(ids, offsets, weights.float()), (ValueError,), "per_sample_weights", "mean")


def check_padding(subject: Subject) -> None:
    """Padding is ignored in sum, mean and weights, counted from either end, and gets no gradient."""
    for padding in (5, N - 1):
        for mode in ("sum", "mean"):
            got, want = _pooled(subject, mode, None, padding_idx=padding)
            _close(got, want, f"padding_idx={padding} with {mode}")
    weights = torch.linspace(-1, 2, 11, dtype=subject.double.get("dtype", torch.float32), device=subject.device)
    got, want = _pooled(subject, "sum", weights, padding_idx=5)
    _close(got, want, "padding with weights")
    assert subject.make(padding_idx=-1).padding_idx == N - 1, "a negative padding_idx counts from the end"
    table = subject.make(padding_idx=5)
    before = table.to_dense()
    out = table(subject.ids([[5, 5], [5, 5]]))
    assert not out.any(), "a bag of padding is not zero"
    if out.requires_grad:
        out.sum().backward()
    assert all(not g.any() for g in _gradients(table).values()), "padding got a gradient"
    assert torch.equal(before, table.to_dense()), "padding changed the table"


def check_bad_offsets(subject: Subject) -> None:
    """Offsets that do not start at 0, fall, pass the end, or are missing are refused."""
    table, ids = subject.make(), subject.ids([1, 2, 3])
    for offsets in ([1, 2], [0, 2, 1], [0, 4], [-1, 2]):
        _rejects(lambda offsets=offsets: table(ids, subject.ids(offsets)), (ValueError,), "offset")
    _rejects(lambda: table(ids), (ValueError,), "offsets")
    _rejects(lambda: table(ids, subject.ids([[0]])), (ValueError,), "offsets")
    _rejects(lambda: table(ids.view(1, 1, 3)), (ValueError,), "3 dimensions")
    closed = subject.make(include_last_offset=True)
    _rejects(lambda: closed(ids, subject.ids([0, 2])), (ValueError,), "last offset")


def check_refusals(subject: Subject) -> None:
    """What `nn.EmbeddingBag` has and compressed tables do not is refused by name."""
    for name, value in (("mode", "max"), ("max_norm", 1.0), ("scale_grad_by_freq", True)):
        _rejects(lambda name=name, value=value: subject.make(**{name: value}), (ValueError, TypeError), name)
    _rejects(lambda: subject.make(padding_idx=N), (ValueError,), "padding_idx")
    _rejects(lambda: subject.make(0, D), (ValueError,), "row")
    if "sparse" not in subject.cls.tags:
        _rejects(lambda: subject.make(sparse=True), (ValueError,), "sparse")


# --- training ---------------------------------------------------------------------------------------------------------


def check_gradients(subject: Subject) -> None:
    """Gradients equal finite differences in double, for sums, means and weights, with repeated ids."""
    if "fused" in subject.cls.tags or "float32" in subject.cls.tags:
        return  # declared: no .grad, or no double (check_fused, check_training)
    ids, offsets = subject.ids([0, N - 1, 3, 3, 41, 3]), subject.ids([0, 2, 2, 5])
    weights = torch.linspace(-1, 2, 6, dtype=torch.float64, device=subject.device, requires_grad=True)
    for mode, weight in (("sum", None), ("mean", None), ("sum", weights)):
        table = subject.make(mode=mode, dtype=torch.float64)
        leaves = [p for p in table.parameters() if p.requires_grad]
        assert leaves, "the table has no parameter to train"

        def pooled(*_: Tensor, table: Compressor = table, weight: Tensor | None = weight) -> Tensor:
            return table(ids, offsets, weight)

        inputs = [*leaves, *([weight] if weight is not None else [])]
        assert torch.autograd.gradcheck(pooled, inputs, fast_mode=True, atol=1e-6), "gradients differ"


def check_repeated_ids(subject: Subject) -> None:
    """An id three times in a batch gets three times the gradient, whether in one bag or in three."""
    if "fused" in subject.cls.tags:
        return  # declared: no .grad to compare
    found = []
    for ids in ([[3, 3, 3]], [[3], [3], [3]], [[3]]):
        table = subject.make(**subject.double)
        table(subject.ids(ids)).sum().backward()
        found.append(_gradients(table))
    one = found[2]
    assert one, "no parameter got a gradient"
    for several in found[:2]:
        for name, grad in several.items():
            _close(grad, 3 * one[name], f"gradient of {name}")


def check_sparse(subject: Subject) -> None:
    """Sparse gradients, where declared, equal the dense ones."""
    if "sparse" not in subject.cls.tags:
        return
    ids, offsets = _bags(subject)
    dense, sparse = subject.make(**subject.double), subject.make(sparse=True, **subject.double)
    for table in (dense, sparse):
        (table(ids, offsets) ** 2).sum().backward()
    assert any(p.grad is not None and p.grad.is_sparse for p in sparse.parameters()), "no gradient is sparse"
    for name, grad in _gradients(dense).items():
        _close(_gradients(sparse)[name], grad, f"gradient of {name}")


def check_fused(subject: Subject) -> None:
    """A fused table changes in the backward, only where it was looked up, and leaves no `.grad`."""
    if "fused" not in subject.cls.tags:
        return
    table = subject.make()
    before = table.to_dense()
    _touch(table(subject.ids([[3], [41]])), torch.ones(2, D, device=subject.device))
    changed = (table.to_dense() != before).any(1).nonzero().flatten().tolist()
    assert changed == [3, 41], f"rows {changed} changed, want 3 and 41"
    assert all(p.grad is None for p in table.parameters()), "a fused table has a .grad"


def check_training(subject: Subject) -> None:
    """Steps against the gradient bring looked-up rows to their targets."""
    table = subject.make()
    ids = subject.ids([0, 3, 41, 96])
    target = torch.linspace(-0.1, 0.1, 4 * D, device=subject.device).view(4, D)
    parameters = [p for p in table.parameters() if p.requires_grad]
    optimizer = torch.optim.Adagrad(parameters, lr=0.05) if "fused" not in subject.cls.tags else None
    start = float(((table.lookup(ids) - target) ** 2).sum().detach())
    for _ in range(200):
        _touch(table.lookup(ids), target)
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
    end = float(((table.lookup(ids) - target) ** 2).sum().detach())
    assert end < 0.6 * start, f"200 steps took the loss from {start:.4g} to {end:.4g} only"


# --- copies, serving, bytes -------------------------------------------------------------------------------------------


def check_state_dict(subject: Subject) -> None:
    """A state dict, through a file, gives bit-equal lookups in a table made with another seed."""
    source, target = subject.make(seed=1), subject.make(seed=2)
    file = io.BytesIO()
    torch.save(source.state_dict(), file)
    file.seek(0)
    target.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(source.to_dense(), target.to_dense()), "the loaded table differs"


def check_copies(subject: Subject) -> None:
    """deepcopy and pickle give bit-equal, independent tables."""
    source = subject.make()
    before = source.to_dense()
    for name, twin in (("deepcopy", copy.deepcopy(source)), ("pickle", pickle.loads(pickle.dumps(source)))):
        assert torch.equal(twin.to_dense(), before), f"the table of {name} differs"
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.add_(1)
        assert torch.equal(source.to_dense(), before), f"{name} shares memory with its source"
        assert not torch.equal(twin.to_dense(), before), f"{name} does not look up in its own parameters"


def check_fold(subject: Subject) -> None:
    """`fold()` serves equal lookups without gradients, keeps the pooling options, and folds to itself."""
    for mode in ("sum", "mean"):
        table = subject.make(mode=mode, padding_idx=5, include_last_offset=True).eval()
        folded = table.fold()
        ids, offsets = _bags(subject)
        last = torch.cat([offsets, subject.ids([len(ids)])])
        _close(folded(ids, last), table(ids, last).detach(), f"folded {mode}")
        _close(folded.to_dense(), table.to_dense(), "folded table")
        assert not any(p.requires_grad for p in folded.parameters()), "a folded table wants gradients"
        assert not folded.training, "a folded table is in training mode"
        _close(folded.fold().to_dense(), table.to_dense(), "folded twice")


def check_ledger(subject: Subject) -> None:
    """The ledger's bytes are those of real tensors, hidden ones too: served, trained, gradients, optimizer state."""
    table = subject.make(1009, 16)
    ledger = table.ledger()
    folded = held_bytes(table.fold())
    assert ledger.serving_bytes == folded, f"serving: the ledger says {ledger.serving_bytes}, the tensors hold {folded}"
    held = held_bytes(table)
    weights = sum(e.bytes for e in table._weights())
    assert weights == held, f"training weights: the ledger says {weights}, the tensors hold {held}"
    if "fused" in subject.cls.tags:
        return  # its state is among its own tensors, and there are no gradients
    table(torch.arange(1009, device=subject.device).view(-1, 1)).sum().backward()
    trained = [p for p in table.parameters() if p.requires_grad]
    grads = sum(p.grad.numel() * p.grad.element_size() for p in trained if p.grad is not None)
    assert ledger.training_bytes == held + grads, f"with gradients: {ledger.training_bytes}, the tensors hold {held + grads}"
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(trained, 0.1),
        "adagrad": lambda: torch.optim.Adagrad(trained, 0.1),
        "adam": lambda: torch.optim.Adam(trained, 0.1),
    }
    assert set(makers) <= set(OPTIMIZERS)
    for name, maker in makers.items():
        optimizer = maker()
        optimizer.step()
        real = sum(
            value.numel() * value.element_size()
            for state in optimizer.state.values()
            for key, value in state.items()
            if key != "step"
        )
        said = table.ledger(name).training_bytes - ledger.training_bytes
        assert said == real, f"{name} state: the ledger says {said}, the optimizer holds {real}"


def check_activations(subject: Subject) -> None:
    """What a forward keeps for its backward is in the ledger, within a factor of four."""
    table = subject.make(1009, 32)
    own = {t.untyped_storage().data_ptr() for t in tensors_of(table, set())}
    ids = torch.arange(512, device=subject.device).view(-1, 1)
    own.add(ids.untyped_storage().data_ptr())  # the caller's
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = table(ids)
    kept[out.untyped_storage().data_ptr()] = out.untyped_storage().nbytes()
    real = sum(kept.values())
    said = next(e.bytes for e in table.ledger(batch_size=512).training if e.name == "activations")
    assert real <= said <= 4 * real, f"activations: the ledger says {said}, a forward keeps {real}"


def check_serving_size(subject: Subject) -> None:
    """The size by arithmetic is the size of the table that is built."""
    for n, dim in SHAPES:
        said = subject.cls.serving_size(n, dim, **subject.knobs)
        real = subject.make(n, dim).ledger().serving_bytes
        assert said == real, f"{n} × {dim}: arithmetic says {said} bytes, the table has {real}"


def check_budget(subject: Subject) -> None:
    """A budget is kept and used, more bytes never make it smaller, and what is unreachable is said exactly."""
    cls = subject.cls
    if not hasattr(cls, "for_budget"):
        return
    fixed = {key: value for key, value in subject.knobs.items() if key not in cls.size_knobs}
    for n, dim in ((N, D), (5000, 32), (100_003, 16)):
        least = smallest_bytes(cls, n, dim, fixed)
        _rejects(lambda: for_budget(cls, n, dim, least - 1, fixed), (BudgetError,))  # noqa: B023
        full, last = 4 * n * dim, 0
        for size in sorted({least, *(max(least, int(full / ratio)) for ratio in (100, 30, 10, 4, 2, 1.1))}):
            used = cls.serving_size(n, dim, **for_budget(cls, n, dim, size, fixed))
            assert used <= size, f"{used} bytes for a budget of {size} ({n} × {dim})"
            assert used >= last, f"a larger budget made {n} × {dim} smaller"
            last = used
        table = cls(n, dim, **for_budget(cls, n, dim, least, fixed), generator=Generator().manual_seed(0))
        assert table.ledger().serving_bytes == least, "the smallest size is not the size of the smallest table"


# --- many tables ------------------------------------------------------------------------------------------------------


def _tables(subject: Subject, sizes: Sequence[int], dtype: torch.dtype | None = None) -> TableCollection:
    options = {"device": subject.device, "generator": Generator().manual_seed(0), "dtype": dtype}
    made = subject.cls.build_tables(
        [(n, D) for n in sizes], [subject.knobs] * len(sizes), [options] * len(sizes)  # type: ignore[list-item]
    )
    specs = [TableSpec(n, D, f"table {t}") for t, n in enumerate(sizes)]
    return TableCollection(specs, list(made), sum(4 * n * D for n in sizes))


def check_collection(subject: Subject) -> None:
    """Lookups in all tables at once equal those table by table, with ids and with bags; ids out of range name the table."""
    sizes = [N, 3, 1009]
    tables = _tables(subject, sizes)
    ids = torch.stack([torch.arange(8, device=subject.device) * 5 % n for n in sizes], dim=1)
    alone = torch.stack([table.lookup(ids[:, t]) for t, table in enumerate(tables.tables)], dim=1)
    _close(tables(ids).detach(), alone.detach(), "all tables at once")
    _close(tables(ids.int()).detach(), alone.detach(), "int32 ids")
    _close(tables(list(ids.unbind(1))).detach(), alone.detach(), "a list of ids")
    offsets = subject.ids([0, 3, 3, 7])
    bags = [(ids[:, 0], offsets), ids[:4, 1], (ids[:, 2], offsets)]
    want = [tables.tables[t](ids[:, t], offsets) for t in (0, 2)]
    got = tables(bags).detach()
    _close(got[:, 0], want[0].detach(), "bags in the first table")
    _close(got[:, 1], alone[:4, 1].detach(), "single ids beside bags")
    _close(got[:, 2], want[1].detach(), "bags in the last table")
    assert tables(ids[:0]).shape == (0, 3, D), "an empty batch has the wrong shape"
    bad = ids.clone()
    bad[4, 1] = 3
    _rejects(lambda: tables(bad), (IndexError,), "3", "table 1")


def check_collection_gradients(subject: Subject) -> None:
    """Gradients through all tables at once equal finite differences in double."""
    if "fused" in subject.cls.tags or "float32" in subject.cls.tags:
        return  # declared: no .grad, or no double
    tables = _tables(subject, [N, 3, 50], torch.float64)
    ids = subject.ids([[0, 0, 0], [96, 2, 49], [0, 2, 7]])
    leaves = [p for p in tables.parameters() if p.requires_grad]
    assert torch.autograd.gradcheck(lambda *_: tables(ids), leaves, fast_mode=True, atol=1e-6), "gradients differ"


def check_collection_copies(subject: Subject) -> None:
    """deepcopy, state dict and `fold()` of all tables give equal lookups; a copy is independent."""
    sizes = [N, 3, 1009]
    tables, other = _tables(subject, sizes), _tables(subject, sizes)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    ids = subject.ids([[0, 0, 0], [96, 2, 1008], [5, 1, 500]])
    before = tables(ids).detach().clone()
    assert not torch.equal(other(ids), before), "the tables do not look up in their parameters"
    other.load_state_dict(tables.state_dict())
    assert torch.equal(other(ids).detach(), before), "the loaded tables differ"
    twin = copy.deepcopy(tables)
    assert torch.equal(twin(ids).detach(), before), "the copied tables differ"
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert torch.equal(tables(ids).detach(), before), "a copy shares memory with its source"
    folded = tables.fold()
    _close(folded(ids), before, "folded tables")
    assert not any(p.requires_grad for p in folded.parameters()), "folded tables want gradients"


def check_collection_ledger(subject: Subject) -> None:
    """All tables' serving bytes are those of the tensors that the folded collection holds, shared memory once."""
    tables = _tables(subject, [N, 3, 1009])
    folded = tables.fold()
    routing = sum(
        b.numel() * b.element_size()
        for module in folded.modules()
        for name, b in module.named_buffers(recurse=False)
        if name in module._non_persistent_buffers_set  # constants derived from the shapes, which route ids to tables
    )
    held, said = held_bytes(folded) - routing, tables.serving_bytes
    assert said == held, f"the ledger says {said}, the tensors hold {held}"
    shares = sum(tables.table_bytes())
    assert abs(shares - said) <= len(tables.specs), f"the tables' shares add up to {shares} of {said} bytes"


CHECKS: tuple[Callable[[Subject], None], ...] = tuple(
    value for name, value in list(globals().items()) if name.startswith("check_") and callable(value)
)


def parametrize_with_checks(
    methods: Sequence[str | type[Compressor] | Subject],
    devices: Sequence[str] = ("cpu",),
    expected_failures: Mapping[str, Mapping[str, str]] | None = None,
) -> Any:
    """A pytest decorator for `def test(subject, check): check(subject)`: every check on every method and device.

    Args:
        methods: specs, classes or subjects.
        devices: such as `["cpu", "cuda"]`.
        expected_failures: method → {check's name: reason}; such a check must fail, or the test does.
    """
    import pytest

    parameters = []
    for device in devices:
        for method in methods:
            subject = subject_of(method, device)
            known = (expected_failures or {}).get(str(subject), {})
            unknown = set(known) - {check.__name__ for check in CHECKS}
            if unknown:
                raise ValueError(f"no such checks: {', '.join(sorted(unknown))}")
            for check in CHECKS:
                reason = known.get(check.__name__)
                marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
                parameters.append(pytest.param(subject, check, id=f"{subject}-{check.__name__}", marks=marks))
    return pytest.mark.parametrize(("subject", "check"), parameters)
