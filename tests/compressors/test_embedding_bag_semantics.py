"""Every method pools as `F.embedding_bag` does on the table written out, gradients too; the rest is refused by name."""

import itertools
import re
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from embpress.compressors import InputError, available, create, method

N, D = 23, 8
VARIANTS = ("tt:rank=3:num_cores=2", "tt:rank=4:cache_rows=6:warmup=1:refresh=1", "robe:z=5:sign=true", "qr:op=concat")
METHODS = [*(name for name in available() if method(name).unavailable() is None), *VARIANTS]
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGERS = tuple(itertools.product((torch.int32, torch.int64), repeat=2))  # of ids and of offsets
PADDING = (None, 5, -1)

every_method = pytest.mark.parametrize("spec", METHODS)
both_modes = pytest.mark.parametrize("mode", ["sum", "mean"])


def tags(spec):
    return method(spec.partition(":")[0]).tags


def dtypes_of(spec):
    return [dtype for dtype in DTYPES if tags(spec).has(dtype)]


def make(spec, dtype=torch.float32, n=N, dim=D, **options):
    return create(spec, n, dim, dtype=dtype, generator=torch.Generator().manual_seed(3), **options)


@dataclass(frozen=True)
class Bags:
    """Ids and where bags start, as `nn.EmbeddingBag` takes them without `include_last_offset`; and what they are."""

    what: str
    ids: torch.Tensor
    offsets: torch.Tensor | None = None
    beyond: int = 0  # ids at the end that belong to no bag where the last offset is given

    def arguments(self, integers=(torch.int64, torch.int64), last=False):
        """Ids and offsets in these dtypes."""
        ids = self.ids.to(integers[0])
        if self.offsets is None:
            return ids, None
        if not last:
            return ids[: len(ids) - self.beyond], self.offsets.to(integers[1])
        end = torch.tensor([len(ids) - self.beyond])
        return ids, torch.cat([self.offsets, end]).to(integers[1])


def jagged(what, *bags, beyond=()):
    """1-D ids and offsets of these bags."""
    lengths = [len(bag) for bag in bags]
    ids = [one for bag in (*bags, beyond) for one in bag]
    return Bags(
        what,
        torch.tensor(ids, dtype=torch.int64),
        torch.tensor(list(itertools.accumulate(lengths, initial=0))[:-1], dtype=torch.int64),
        len(beyond),
    )


LAST = N - 1
MIXED = (
    jagged("empty bags at both ends", [], [0, 5, LAST], [], [], [7], [7, 7, 5, 2, 7], []),
    jagged("ids behind the last offset", [4, 5], [LAST, 1, 1], beyond=[9, 5, LAST]),
    jagged("one id a bag", [3], [5], [LAST], [5], [3]),
    Bags("2-D", torch.tensor([[0, 5, LAST], [5, 5, 5], [8, 1, 8], [LAST, LAST, 2]])),
    Bags("2-D, one id a bag", torch.tensor([[6], [5], [LAST], [0], [6]])),
)
NOTHING = (
    jagged("no bag"),
    jagged("empty bags alone", [], [], []),
    jagged("empty bags with ids behind them", [], [], beyond=[4]),
    Bags("2-D without rows", torch.zeros(0, 3, dtype=torch.int64)),
    Bags("2-D without columns", torch.zeros(4, 0, dtype=torch.int64)),
)
ONLY_PADDING = (
    jagged("padding alone", [5, 5], [], [5]),
    Bags("2-D padding", torch.full((2, 3), 5)),
    Bags("2-D padding, one id a bag", torch.full((3, 1), 5)),
)


def oracle(rows, bags, mode, padding, weights=None):
    """`F.embedding_bag` on rows in float64; without the last offset, to which torch's kernels give two meanings."""
    ids, offsets = bags.arguments()
    if ids.numel() == 0:
        return rows.new_zeros(ids.shape[0] if offsets is None else len(offsets), rows.shape[1])
    if weights is not None and ids.dim() == 1:
        weights = weights[: len(ids)]
    return F.embedding_bag(ids, rows, offsets, mode=mode, padding_idx=padding, per_sample_weights=weights)


def close(got, want, what, size=1.0):
    """Equal up to the rounding of `got` in numbers as large as `size`."""
    eps = torch.finfo(got.dtype).eps
    error = float((got.detach().double() - want.detach()).abs().max()) if got.numel() else 0.0
    assert got.shape == want.shape, f"{what}: {tuple(got.shape)} instead of {tuple(want.shape)}"
    assert error <= 40 * eps * max(size, float(want.detach().abs().max()) if want.numel() else 0.0), f"{what}: {error}"


def slope_of(want):
    """A gradient of the output that differs from element to element."""
    return torch.linspace(-1, 1, max(1, want.numel()), dtype=torch.float64)[: want.numel()].view_as(want)


def gradients(table):
    for name, parameter in table.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
    return [parameter.grad.to_dense().double() for parameter in table.parameters()]


def through_lookup(table, rows_grad):
    """What a gradient of the rows `(n, D)` is in the parameters, by `lookup` alone, that pools nothing."""
    parameters = list(table.parameters())
    rows = table.lookup(torch.arange(table.num_embeddings))
    found = torch.autograd.grad(rows, parameters, rows_grad.to(rows.dtype), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g.to_dense() for p, g in zip(parameters, found)]


def compare(table, bags, integers, last, weights=None):
    """One call, its gradient in the parameters and that of the weights, against the oracle."""
    what = f"{bags.what}, {integers}, last={last}, padding={table.padding_idx}, weighted={weights is not None}"
    rows = table.to_dense().double().requires_grad_()
    mine = theirs = None
    if weights is not None:
        mine, theirs = weights.clone().requires_grad_(), weights.to(torch.float64, copy=True).requires_grad_()
        if not last and bags.beyond:
            mine = weights[: len(weights) - bags.beyond].clone().requires_grad_()
    size = float(rows.detach().abs().max()) * max(bags.ids.shape[-1], 1)
    got = table(*bags.arguments(integers, last), mine)
    want = oracle(rows, bags, table.mode, table.padding_idx, theirs)
    assert got.dtype == table.to_dense().dtype, f"{what}: the output is {got.dtype}"
    close(got, want, what, size)
    table.zero_grad()
    slope = slope_of(want)
    got.backward(slope.to(got.dtype))
    want.backward(slope)
    if not type(table).tags.fused_update:
        for (name, _), g, w in zip(table.named_parameters(), gradients(table), through_lookup(table, rows.grad)):
            close(g.to(w.dtype), w.double(), f"{what}: gradient of {name}")
    if mine is not None:
        close(mine.grad, theirs.grad[: len(mine)], f"{what}: gradient of the weights", size)


@every_method
@both_modes
def test_bags_of_every_kind(spec, mode):
    for dtype, padding, last in itertools.product(dtypes_of(spec), PADDING, (False, True)):
        table = make(spec, dtype, mode=mode, padding_idx=padding, include_last_offset=last)
        for bags in MIXED:
            for integers in INTEGERS if dtype == torch.float32 else INTEGERS[1:2]:
                compare(table, bags, integers, last)


@every_method
def test_per_sample_weights(spec):
    for dtype, padding, last in itertools.product(dtypes_of(spec), PADDING, (False, True)):
        table = make(spec, dtype, padding_idx=padding, include_last_offset=last)
        for bags in MIXED:
            weights = torch.linspace(-1, 2, bags.ids.numel()).view(bags.ids.shape).to(dtype)
            for integers in INTEGERS if dtype == torch.float32 else INTEGERS[1:2]:
                compare(table, bags, integers, last, weights)


@every_method
@both_modes
def test_nothing_looked_up_is_zeros(spec, mode):
    """Zeros come out, and gradients of the parameters and of the weights are zeros and not None."""
    for dtype, last, weighted in itertools.product(dtypes_of(spec), (False, True), (False, True)):
        if weighted and mode == "mean":
            continue
        table = make(spec, dtype, mode=mode, padding_idx=5, include_last_offset=last)
        for bags in (*NOTHING, *ONLY_PADDING):
            ids, offsets = bags.arguments(last=last)
            weights = torch.ones(ids.shape, dtype=dtype, requires_grad=True) if weighted else None
            got = table(ids, offsets, weights)
            assert torch.equal(got, oracle(table.to_dense(), bags, mode, 5)), bags.what
            assert not got.any(), bags.what
            if not tags(spec).fused_update:
                table.zero_grad()
                got.sum().backward()
                assert not any(grad.any() for grad in gradients(table)), bags.what
            elif got.requires_grad:
                got.sum().backward()
            if weighted:
                assert weights.grad is not None, f"{bags.what}: the weights have no gradient"
                assert not weights.grad.any(), bags.what


@every_method
def test_what_padding_holds_touches_nothing(spec):
    """What is no number, as the weight of a padded id or in its row, reaches neither the output nor a gradient."""
    table = make(spec, padding_idx=5)
    if tags(spec).plain:
        with torch.no_grad():
            table.weight[5] = float("nan")
    for bags in (MIXED[2], MIXED[3], MIXED[4]):
        weights = torch.ones(bags.ids.shape).masked_fill(bags.ids == 5, float("nan")).requires_grad_()
        got = table(*bags.arguments(), weights)
        assert got.isfinite().all(), bags.what
        close(got, oracle(table.to_dense().double(), bags, "sum", 5), bags.what)
        if not tags(spec).fused_update:
            table.zero_grad()
            got.sum().backward()
            assert all(grad.isfinite().all() for grad in gradients(table)), bags.what
            assert weights.grad.isfinite().all(), bags.what


same = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)


def strided(tensor):
    """The same elements, every other one of a larger tensor."""
    wide = tensor.new_full((*tensor.shape[:-1], 2 * tensor.shape[-1]), 1)
    wide[..., ::2] = tensor
    return wide[..., ::2]


def transposed(tensor):
    """The same elements, columns first in memory."""
    return tensor.t().contiguous().t()


@every_method
@both_modes
def test_any_strides(spec, mode):
    """Inputs and gradients that are not contiguous are what their contiguous copies are."""
    table, twin = make(spec, mode=mode, padding_idx=5), make(spec, mode=mode, padding_idx=5)
    for bags, weighted in itertools.product((MIXED[0], MIXED[3], MIXED[4]), (False, mode == "sum")):
        ids, offsets = bags.arguments()
        weights = torch.linspace(-1, 2, ids.numel()).view(ids.shape) if weighted else None
        shapes = (strided,) if ids.dim() == 1 else (strided, transposed)
        for other in shapes:
            calls = []
            for one, change in ((table, lambda x: x), (twin, other)):
                w = None if weights is None else change(weights).detach().requires_grad_()
                out = one(change(ids), None if offsets is None else strided(offsets) if one is twin else offsets, w)
                calls.append((out, w))
            (out, w), (out2, w2) = calls
            same(out2, out)
            if tags(spec).fused_update:
                continue
            grad = torch.linspace(-1, 1, out.numel()).view_as(out)
            for one, result, slope in ((table, out, grad), (twin, out2, transposed(grad))):
                one.zero_grad()
                result.backward(slope)
            same(gradients(twin), gradients(table))
            if w is not None:
                same(w2.grad, w.grad)
    if not tags(spec).fused_update:
        ids = MIXED[4].ids[:1].expand(4, 3)  # every id of one memory cell
        same(table(ids), twin(ids.contiguous()))
        for one, grad in ((table, torch.ones(()).expand(4, D)), (twin, torch.ones(4, D))):
            one.zero_grad()
            one(ids).backward(grad)
        same(gradients(twin), gradients(table))


@every_method
def test_sparse_gradients_are_the_dense_ones(spec):
    if not tags(spec).sparse_gradients:
        with pytest.raises(InputError, match="sparse=True"):
            make(spec, sparse=True)
        return
    for padding, mode in itertools.product(PADDING, ("sum", "mean")):
        dense = make(spec, mode=mode, padding_idx=padding)
        sparse = make(spec, mode=mode, padding_idx=padding, sparse=True)
        for bags in (*MIXED, NOTHING[1]):
            for one in (dense, sparse):
                one.zero_grad()
                out = one(*bags.arguments())
                out.backward(slope_of(out).float())
            assert any(parameter.grad.is_sparse for parameter in sparse.parameters()), bags.what
            for ours, theirs in zip(gradients(sparse), gradients(dense)):
                torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@every_method
def test_second_derivatives_are_right_or_refused(spec):
    """Where a table gives derivatives of its gradient at all, those are of finite differences."""
    if not tags(spec).has(torch.float64):
        pytest.skip("finite differences need float64")
    table = make(spec, torch.float64, n=5)
    names, values = zip(*((name, value.detach().requires_grad_()) for name, value in table.named_parameters()))
    ids = torch.tensor([0, 4, 4, 2])
    for arguments in ((ids, torch.tensor([0, 2, 2])), (ids.view(4, 1), None)):
        weights = torch.tensor([0.5, -1.0, 2.0, 1.5], dtype=torch.float64).view_as(arguments[0])

        def pooled(*values, arguments=(*arguments, weights)):
            return torch.func.functional_call(table, dict(zip(names, values)), arguments)

        found = torch.autograd.grad((pooled(*values) ** 2).sum(), values, create_graph=True, allow_unused=True)
        used = [grad for grad in found if grad is not None]
        assert any(grad.any() for grad in used)
        penalty = sum((grad**2).sum() for grad in used)
        try:
            torch.autograd.grad(penalty, values, allow_unused=True, retain_graph=True)
        except (RuntimeError, NotImplementedError):
            with pytest.raises((RuntimeError, NotImplementedError), match="derivative"):
                torch.autograd.grad(penalty, values, allow_unused=True)
            continue
        assert torch.autograd.gradgradcheck(pooled, values, rtol=1e-4)


@every_method
def test_a_call_in_inference_mode_leaves_training_as_it_is(spec):
    """Such as a validation before the first step: what is made then is not kept as a tensor of inference."""
    if tags(spec).fused_update:
        pytest.skip("FBGEMM has no kernel for inference mode on the CPU")
    for bags in (MIXED[0], MIXED[3], MIXED[4]):
        table, fresh = make(spec, padding_idx=5), make(spec, padding_idx=5)
        with torch.inference_mode():
            table(*bags.arguments())
            table.lookup(bags.ids)
        for one in (table, fresh):
            one(*bags.arguments()).square().sum().backward()
        same(gradients(table), gradients(fresh))


@every_method
def test_autocast_leaves_bags_as_they_are(spec):
    for bags in MIXED:
        table = make(spec)
        with torch.autocast("cpu", torch.bfloat16):
            got = table(*bags.arguments())
        assert got.dtype == torch.float32, bags.what
        close(got, oracle(make(spec).to_dense().double(), bags, "sum", None), bags.what)


@every_method
def test_what_is_not_supported_is_refused_by_name(spec):
    cls, knobs = method(spec.partition(":")[0]), {"padding_idx": None}
    for options in ({"mode": "max"}, {"mode": "min"}, {"max_norm": 1.0}, {"scale_grad_by_freq": True}):
        (word,) = options
        with pytest.raises(InputError, match=word):
            make(spec, **options)
    assert make(spec, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, **knobs).num_embeddings == N
    for padding in (N, -N - 1):
        with pytest.raises(InputError, match=f"padding_idx={padding}"):
            make(spec, padding_idx=padding)
    for wrong in (torch.int64, torch.complex64):
        with pytest.raises((InputError, TypeError), match=str(wrong).removeprefix("torch.")):
            cls(N, D, dtype=wrong)


@every_method
def test_wrong_arguments_are_named(spec):
    table, mean = make(spec, padding_idx=-1), make(spec, mode="mean")
    ids, offsets, weights = torch.tensor([1, 2, 3]), torch.tensor([0, 1]), torch.ones(3)
    wrong = [
        (TypeError, "float64", table, (ids.double(), offsets)),
        (TypeError, "float32", table, (ids.float().view(3, 1),)),
        (TypeError, "bool", table, (ids.bool(), offsets)),
        (TypeError, "int16", table, (ids.short(), offsets)),
        (TypeError, "offsets.*float32", table, (ids, offsets.float())),
        (TypeError, "ndarray", table, (ids.numpy(), offsets)),
        (TypeError, "ndarray", table, (ids.view(3, 1).numpy(),)),
        (TypeError, "list", table, ([[1, 2, 3]],)),
        (TypeError, "offsets.*ndarray", table, (ids, offsets.numpy())),
        (TypeError, "weights.*ndarray", table, (ids, offsets, weights.numpy())),
        (ValueError, "offsets", table, (ids,)),
        (ValueError, "offsets", table, (ids.view(3, 1), offsets)),
        (ValueError, "offsets", table, (ids, offsets.view(2, 1))),
        (ValueError, "offsets", table, (ids, offsets[:0])),
        (ValueError, "offset", table, (ids, offsets + 1)),
        (ValueError, "offset", table, (ids, torch.tensor([0, 2, 1]))),
        (ValueError, "offset", table, (ids, torch.tensor([0, 4]))),
        (ValueError, "3 dimensions", table, (ids.view(1, 3, 1),)),
        (ValueError, "0 dimensions", table, (ids[0],)),
        (ValueError, r"per_sample_weights.*\(3,\)", table, (ids, offsets, weights[:2])),
        (ValueError, r"per_sample_weights.*\(3, 1\)", table, (ids.view(3, 1), None, weights)),
        ((TypeError, ValueError), "weights.*float64", table, (ids, offsets, weights.double())),
        ((TypeError, ValueError), "weights.*float64", table, (ids.view(3, 1), None, weights.double().view(3, 1))),
        (ValueError, "per_sample_weights.*mode='sum'.*mode='mean'", mean, (ids, offsets, weights)),
        (IndexError, rf"{N}\b", table, (torch.tensor([0, N]), offsets)),
        (IndexError, rf"{N}\b", table, (torch.tensor([[0, N]]),)),
        (IndexError, rf"{N}\b", table, (torch.tensor([[0], [N]], dtype=torch.int32),)),
        (IndexError, "-1", table, (torch.tensor([0, -1]), offsets)),  # padding is N - 1, and no other number is
        (IndexError, "-1", table, (torch.tensor([[0], [-1]]),)),
    ]
    for errors, pattern, one, arguments in wrong:
        with pytest.raises(errors, match=f"(?s){pattern}") as caught:
            one(*arguments)
        assert not re.search(r"\.(cpp|cu|h):", str(caught.value)), f"{pattern}: names C++ files"
        assert "\n" not in str(caught.value), f"{pattern}: more than a sentence"
    closed = make(spec, include_last_offset=True)
    for bad in ([], [0, 4], [1, 3], [0, 2, 1]):
        with pytest.raises(ValueError, match="offset"):
            closed(ids, torch.tensor(bad, dtype=torch.int64))


@every_method
def test_options_can_be_read_as_on_an_embedding_bag(spec):
    table, theirs = make(spec, mode="mean", padding_idx=-2), nn.EmbeddingBag(N, D, padding_idx=-2)
    for name in nn.EmbeddingBag.__constants__:
        assert getattr(table, name) == getattr(theirs, name), name


@every_method
def test_sizes_of_numpy_are_sizes(spec):
    ours, plain = make(spec, n=np.int64(N), dim=np.int32(D), padding_idx=np.int64(5)), make(spec, padding_idx=5)
    assert [type(v) for v in (ours.num_embeddings, ours.embedding_dim, ours.padding_idx)] == [int] * 3
    assert torch.equal(ours.to_dense(), plain.to_dense())
    for wrong in (True, 5.0, "5"):
        with pytest.raises((InputError, TypeError), match=f"padding_idx.*{wrong}"):
            make(spec, padding_idx=wrong)
    for name, wrong in itertools.product(("n", "dim"), (float(N), 8.5, True, np.float32(D), "8", 0, -1)):
        too_small = isinstance(wrong, int) and wrong < 1
        with pytest.raises((InputError, TypeError), match="at least one" if too_small else re.escape(str(wrong))):
            make(spec, **{name: wrong})
