"""Checks of copies, folded tables, bytes and budgets."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from embpress.compressors.base import Compressor
from embpress.compressors.errors import BudgetError
from embpress.compressors.fitted import from_dense
from embpress.compressors.ledger import OPTIMIZERS, held_bytes, tensors_of
from embpress.compressors.modifiers.base import Modifier
from embpress.compressors.sizes import for_budget, serving_size, split_budget
from embpress.compressors.testing.subject import SHAPES, D, N, Subject, bags, close, rejects


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
    """`fold()` serves equal lookups without gradients, keeps the pooling options, and folds to itself.

    What a modifier says `fold()` alone applies does not show before.
    """
    for mode in ("sum", "mean"):
        table = subject.make(mode=mode, padding_idx=5, include_last_offset=True).eval()
        folded = table.fold()
        ids, offsets = bags(subject)
        last = torch.cat([offsets, subject.ids([len(ids)])])
        error = subject.served_error
        close(folded(ids, last), table(ids, last).detach(), f"folded {mode}", 4 * error)  # bags of several rows
        close(folded.to_dense(), table.to_dense(), "folded table", error)
        assert not any(p.requires_grad for p in folded.parameters()), "a folded table wants gradients"
        assert not folded.training, "a folded table is in training mode"
        assert torch.equal(folded.fold().to_dense(), folded.to_dense()), "folded twice is another table"
        if isinstance(table, Modifier) and table.at_fold:
            assert torch.equal(table.to_dense(), table.table.to_dense()), "a modifier of serving shows before fold()"


def check_ledger(subject: Subject) -> None:
    """The ledger's bytes are those of real tensors, hidden ones too: served, trained, gradients, optimizer state."""
    table = subject.make(1009, 16)
    ledger = table.ledger()
    folded = held_bytes(table.fold())
    assert ledger.serving_bytes == folded, f"serving: the ledger says {ledger.serving_bytes}, the tensors hold {folded}"
    held = held_bytes(table)
    weights = sum(e.bytes for e in table._weights())
    assert weights == held, f"training weights: the ledger says {weights}, the tensors hold {held}"
    if subject.cls.tags.fused_update:
        return  # its state is among its own tensors, and there are no gradients
    table(torch.arange(1009, device=subject.device).view(-1, 1)).sum().backward()
    trained = [p for p in table.parameters() if p.requires_grad]
    grads = sum(p.grad.numel() * p.grad.element_size() for p in trained if p.grad is not None)
    assert ledger.training_bytes == held + grads, (
        f"with gradients: {ledger.training_bytes}, the tensors hold {held + grads}"
    )
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(trained, 0.1),
        "adagrad": lambda: torch.optim.Adagrad(trained, 0.1),
        "adam": lambda: torch.optim.Adam(trained, 0.1),
    }
    assert set(makers) <= set(OPTIMIZERS)
    by_name = table.parameters_by_name()
    wanted = {  # one number a row of a table of rows, one an element of all else
        name: p.element_size() * (p.shape[0] if name in table.row_parameters else p.numel())
        for name, p in by_name.items()
        if p.requires_grad
    }
    said = table.ledger("rowwise_adagrad").training_bytes - ledger.training_bytes
    assert said == sum(wanted.values()), f"rowwise_adagrad state: the ledger says {said}, not {wanted}"
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
    known = {t.untyped_storage().data_ptr() for t in tensors_of(table, set())}
    ids = torch.arange(512, device=subject.device).view(-1, 1)
    known.add(ids.untyped_storage().data_ptr())  # the caller's
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
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
        said = _size(subject, n, dim, subject.knobs)
        real = subject.make(n, dim).ledger().serving_bytes
        assert said == real, f"{n} × {dim}: arithmetic says {said} bytes, the table has {real}"


def check_tags(subject: Subject) -> None:
    """What the tags declare is there, and what is there is declared."""
    tags = subject.cls.tags
    for name in ("for_budget", "split_budget", "from_dense"):
        declared = getattr(tags, name.replace("split_", "splits_"))
        assert hasattr(subject.cls, name) == declared, f"tags.{name} is {declared}, which the class is not"
    overridden = subject.cls.maintain is not Compressor.maintain
    assert overridden == tags.maintain, f"tags.maintain is {tags.maintain}, which the class is not"
    assert (subject.cls.model_width(2, 2.0) != 2) == tags.saves_by_width, "tags.saves_by_width and model_width disagree"
    table = subject.make()
    known = table.parameters_by_name()
    assert table.backend, "nothing is said to answer lookups"
    method = subject.cls(N, D, **subject.knobs)
    for name in method.stacked:
        assert isinstance(getattr(method, name, None), Tensor), f"there is no {name} to stack"
    rows = {name for name in known if name in table.row_parameters}
    for name in rows:
        assert known[name].dim() == 2, f"{name} is no matrix of rows"


def _size(subject: Subject, n: int, dim: int, knobs: dict[str, Any]) -> int:
    if subject.modifiers:
        return serving_size(subject.spec, n, dim, knobs)
    return subject.cls.serving_size(n, dim, **knobs)


def check_budget(subject: Subject) -> None:
    """A budget is kept and used, more bytes never make it smaller, and what is unreachable is said exactly."""
    cls = subject.cls
    if not cls.tags.for_budget:
        return
    fixed = {key: value for key, value in subject.knobs.items() if key not in cls.size_knobs}
    spec = replace(Subject(cls, fixed, modifiers=subject.modifiers), device="cpu")

    def solve(n: int, dim: int, size: int) -> dict[str, Any]:
        if spec.modifiers:
            return for_budget(spec.spec, n, dim, size)
        return {**fixed, **cls.for_budget(n, dim, size, **fixed)}  # type: ignore[attr-defined]

    for n, dim in ((N, D), (5000, 32), (100_003, 16)):
        try:
            solve(n, dim, 0)
            raise AssertionError("a budget of 0 bytes was met")
        except BudgetError as error:
            smallest = error.smallest
        rejects(partial(solve, n, dim, smallest - 1), (BudgetError,))
        full, last = 4 * n * dim, 0
        for size in sorted({smallest, *(max(smallest, int(full / ratio)) for ratio in (100, 30, 10, 4, 2, 1.1))}):
            used = _size(subject, n, dim, solve(n, dim, size))
            assert used <= size, f"{used} bytes for a budget of {size} ({n} × {dim})"
            assert used >= last, f"a larger budget made {n} × {dim} smaller"
            last = used
        table = subject.wrap(cls(n, dim, **solve(n, dim, smallest), generator=Generator().manual_seed(0)))
        assert table.ledger().serving_bytes == smallest, "the smallest size is not the size of the smallest table"


def check_split(subject: Subject) -> None:
    """A method that splits a budget keeps to it, more bytes never make tables smaller, and one table gets all of it."""
    cls = subject.cls
    if not cls.tags.splits_budget:
        return
    shapes = ((N, D), (1009, D), (5, D), (20_011, D))
    fixed = {key: value for key, value in subject.knobs.items() if key not in cls.size_knobs}
    spec = replace(subject, knobs=fixed)

    def split(shapes: Sequence[tuple[int, int]], size: int) -> list[dict[str, Any]]:
        if subject.modifiers:
            return split_budget(spec.spec, shapes, size)
        return [{**fixed, **own} for own in cls.split_budget(shapes, size, **fixed)]  # type: ignore[attr-defined]

    def total(knobs: list[dict[str, Any]]) -> int:
        return sum(_size(subject, n, dim, own) for (n, dim), own in zip(shapes, knobs, strict=True))

    try:
        split(shapes, 0)
        raise AssertionError("a budget of 0 bytes was met")
    except BudgetError as error:
        smallest = error.smallest
    rejects(partial(split, shapes, smallest - 1), (BudgetError,))
    assert total(split(shapes, smallest)) == smallest, "the smallest size is not the size of the smallest tables"
    full, last = sum(4 * n * dim for n, dim in shapes), 0
    for size in sorted(max(smallest, int(full / ratio)) for ratio in (30, 10, 4, 2, 1.1)):
        used = total(split(shapes, size))
        assert used <= size, f"{used} bytes for a budget of {size}"
        assert used >= last, "a larger budget made the tables smaller"
        last = used
    if not subject.modifiers:
        n, dim = shapes[-1]
        alone = {**fixed, **cls.for_budget(n, dim, n * dim, **fixed)}  # type: ignore[attr-defined]
        assert split(shapes[-1:], n * dim) == [alone], "one table has other knobs than for_budget gives it"


def check_from_dense(subject: Subject) -> None:
    """`from_dense`, where there is one, makes a trainable table and reports the error that it has, served too."""
    if not subject.cls.tags.from_dense:
        return
    make = subject.cls.from_dense  # type: ignore[attr-defined]
    for n, dim in SHAPES:
        weight = torch.randn(n, dim, generator=Generator().manual_seed(0)).to(subject.device)
        table, error = make(weight, mode="mean", **subject.knobs)
        assert type(table) is subject.cls, f"from_dense made a {type(table).__name__}"
        assert (table.num_embeddings, table.embedding_dim, table.mode) == (n, dim, "mean"), "shape or options differ"
        assert table.device == weight.device, f"the weight is on {weight.device}, the table on {table.device}"
        assert all(p.requires_grad and p.dtype == weight.dtype for p in table.parameters()), "not trainable as it is"
        real = _error(table, weight)
        assert abs(error - real) <= 1e-6 + 1e-4 * real, f"{n} × {dim}: the error is {real}, from_dense says {error}"
        assert real <= 1 + 1e-6, f"{n} × {dim}: no table at all would be nearer"
        if subject.modifiers:
            table, error = from_dense(subject.spec, weight, mode="mean")
            assert type(table) is subject.modifiers[-1].cls, f"from_dense made a {type(table).__name__}"
            real = _error(table.fold(), weight)
            assert abs(error - real) <= 1e-6 + 1e-4 * real, f"{n} × {dim}: served with {real}, from_dense says {error}"


def _error(table: Compressor, weight: Tensor) -> float:
    return float((table.to_dense().double() - weight.double()).norm() / weight.double().norm())
