"""Checks of pooling; their oracle is `nn.functional.embedding_bag` on the table written out."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from embpress.compressors.testing.subject import D, N, Subject, bags, close, gradients, rejects


def _pooled(subject: Subject, mode: str, weights: Tensor | None, **options: Any) -> tuple[Tensor, Tensor]:
    table = subject.make(mode=mode, **subject.double, **options).eval()
    ids, offsets = bags(subject)
    dense = table.to_dense()
    want = F.embedding_bag(
        ids, dense, offsets, mode=mode, per_sample_weights=weights, padding_idx=options.get("padding_idx")
    )
    got = table(ids, offsets, weights)
    assert got.shape == want.shape, f"{tuple(offsets.shape)} offsets gave {tuple(got.shape)}"
    return got.detach(), want


def check_sum(subject: Subject) -> None:
    """Sums over bags, empty bags zero."""
    got, want = _pooled(subject, "sum", None)
    close(got, want, "sum")


def check_mean(subject: Subject) -> None:
    """Means over bags, empty bags zero."""
    got, want = _pooled(subject, "mean", None)
    close(got, want, "mean")


def check_last_offset(subject: Subject) -> None:
    """Offsets with and without the last one mean the same bags."""
    ids, offsets = bags(subject)
    without = subject.make().eval()(ids, offsets)
    table = subject.make(include_last_offset=True).eval()
    last = torch.cat([offsets, subject.ids([len(ids)])])
    close(table(ids, last), without, "include_last_offset")
    short = table(subject.ids([5, 6, 7, 8]), subject.ids([0, 1, 3]))
    close(short, subject.make().eval()(subject.ids([5, 6, 7]), subject.ids([0, 1])), "ids behind the last offset")


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
            close(table(ids).detach(), F.embedding_bag(ids, dense, mode=mode), f"2-D {mode}")
    rejects(lambda: table(subject.ids([[1]]), subject.ids([0])), (ValueError,), "offsets")


def check_weights(subject: Subject) -> None:
    """Per-sample weights with sum, their gradient too; refused with mean and in another shape."""
    ids, offsets = bags(subject)
    table = subject.make(**subject.double).eval()
    dense = table.to_dense()
    weights = torch.linspace(-1, 2, len(ids), dtype=dense.dtype, device=subject.device)
    mine, oracle = weights.clone().requires_grad_(), weights.clone().requires_grad_()
    got = table(ids, offsets, mine)
    want = F.embedding_bag(ids, dense, offsets, mode="sum", per_sample_weights=oracle)
    close(got.detach(), want.detach(), "weights")
    slope = torch.arange(want.numel(), dtype=dense.dtype, device=subject.device).view_as(want) / want.numel()
    (want * slope).sum().backward()
    (got * slope).sum().backward()
    assert mine.grad is not None, "the weights got no gradient"
    assert oracle.grad is not None
    close(mine.grad, oracle.grad, "gradient of the weights")
    close(
        table(ids.view(1, -1), None, weights.view(1, -1)).detach(),
        table(ids, offsets[:1], weights).detach(),
        "2-D weights",
    )
    rejects(lambda: table(ids, offsets, weights[:-1]), (ValueError,), "per_sample_weights")
    rejects(
        lambda: subject.make(mode="mean")(ids, offsets, weights.float()), (ValueError,), "per_sample_weights", "mean"
    )


def check_padding(subject: Subject) -> None:
    """Padding is ignored in sum, mean and weights, counted from either end, and gets no gradient."""
    for padding in (5, N - 1):
        for mode in ("sum", "mean"):
            got, want = _pooled(subject, mode, None, padding_idx=padding)
            close(got, want, f"padding_idx={padding} with {mode}")
    weights = torch.linspace(-1, 2, 11, dtype=subject.double.get("dtype", torch.float32), device=subject.device)
    got, want = _pooled(subject, "sum", weights, padding_idx=5)
    close(got, want, "padding with weights")
    assert subject.make(padding_idx=-1).padding_idx == N - 1, "a negative padding_idx counts from the end"
    table = subject.make(padding_idx=5)
    before = table.to_dense()
    out = table(subject.ids([[5, 5], [5, 5]]))
    assert not out.any(), "a bag of padding is not zero"
    if out.requires_grad:
        out.sum().backward()
    assert all(not g.any() for g in gradients(table).values()), "padding got a gradient"
    assert torch.equal(before, table.to_dense()), "padding changed the table"


def check_bad_offsets(subject: Subject) -> None:
    """Offsets that do not start at 0, fall, pass the end, or are missing are refused."""
    table, ids = subject.make(), subject.ids([1, 2, 3])
    for offsets in ([1, 2], [0, 2, 1], [0, 4], [-1, 2]):
        rejects(partial(table, ids, subject.ids(offsets)), (ValueError,), "offset")
    rejects(lambda: table(ids), (ValueError,), "offsets")
    rejects(lambda: table(ids, subject.ids([[0]])), (ValueError,), "offsets")
    rejects(lambda: table(ids.view(1, 1, 3)), (ValueError,), "3 dimensions")
    closed = subject.make(include_last_offset=True)
    rejects(lambda: closed(ids, subject.ids([0, 4])), (ValueError,), "offset")


def check_refusals(subject: Subject) -> None:
    """What `nn.EmbeddingBag` has and compressed tables do not is refused by name."""
    refused: dict[str, Any] = {"mode": "max", "max_norm": 1.0, "scale_grad_by_freq": True}
    for name, value in refused.items():
        rejects(partial(subject.make, **{name: value}), (ValueError, TypeError), name)
    rejects(lambda: subject.make(padding_idx=N), (ValueError,), "padding_idx")
    rejects(lambda: subject.make(0, D), (ValueError,), "row")
    if not subject.cls.tags.sparse_gradients:
        rejects(lambda: subject.make(sparse=True), (ValueError,), "sparse")
