"""The tensor-train op, native and plain PyTorch, against plain Python: one id and one row at a time."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode

from embpress.kernels import load, ops, reference
from embpress.kernels.errors import EmbpressError

# number of cores: tables (row factors, column factors, ranks) of one width
TABLES = {
    2: [((3, 4), (2, 4), (3,)), ((5, 2), (4, 2), (2,))],
    3: [((2, 3, 2), (2, 1, 4), (3, 2)), ((3, 1, 4), (2, 2, 2), (1, 3)), ((1, 5, 2), (1, 1, 8), (2, 2))],
    4: [((2, 2, 1, 3), (2, 1, 2, 2), (2, 3, 2)), ((1, 2, 3, 2), (1, 2, 1, 4), (2, 2, 1))],
}


def tt_cores(num_cores, seed=0, tables=None):
    generator = torch.Generator().manual_seed(seed)
    cores = []
    for p, q, ranks in TABLES[num_cores][:tables]:
        r = (1, *ranks, 1)
        shapes = [(p[k], r[k], q[k], r[k + 1]) for k in range(num_cores)]
        cores += [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    return cores


def tt_ids(cores, num_cores, counts, seed=0):
    """`counts[t]` ids for every table, table after table; few rows, so that ids repeat."""
    generator = torch.Generator().manual_seed(seed)
    rows = [int(np.prod([c.shape[0] for c in cores[k : k + num_cores]])) for k in range(0, len(cores), num_cores)]
    return torch.cat([torch.randint(n, (count,), generator=generator) for n, count in zip(rows, counts)])


def tt_row(cores, i):
    """Row i of one table: its digits, most significant first, pick one slice a core."""
    digits = []
    for core in reversed(cores):
        i, digit = divmod(i, core.shape[0])
        digits.insert(0, digit)
    row = np.ones((1, 1))
    for core, digit in zip(cores, digits):
        slice_ = core[digit].numpy()
        row = np.einsum("ar,rqs->aqs", row, slice_).reshape(-1, slice_.shape[-1])
    return row[:, 0]


def tt_naive(cores, indices, offsets=None, weights=None, *, num_cores, mean=False):
    num_tables = len(cores) // num_cores
    ids = indices.tolist()
    bounds = list(range(len(ids) + 1)) if offsets is None else offsets.tolist()
    batch = (len(bounds) - 1) // num_tables
    out = np.zeros((batch, num_tables, int(np.prod([core.shape[2] for core in cores[:num_cores]]))))
    for t in range(num_tables):
        own = cores[t * num_cores : (t + 1) * num_cores]
        for b in range(batch):
            first, last = bounds[t * batch + b], bounds[t * batch + b + 1]
            for position in range(first, last):
                out[b, t] += (1 if weights is None else float(weights[position])) * tt_row(own, ids[position])
            if mean and last > first:
                out[b, t] /= last - first
    return torch.from_numpy(out)


def tt_case(num_cores, kind):
    """Cores, ids, offsets, weights and mean: 4 bags a table, some of them empty."""
    cores = tt_cores(num_cores)
    num_tables = len(TABLES[num_cores])
    if kind == "one id a bag":
        return cores, tt_ids(cores, num_cores, [4] * num_tables), None, None, False
    lengths = torch.tensor([[3, 0, 2, 1], [0, 5, 1, 0], [0, 0, 0, 0]])[:num_tables]
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.flatten().cumsum(0)])
    ids = tt_ids(cores, num_cores, lengths.sum(1).tolist())
    weights = torch.randn(len(ids), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return cores, ids, offsets, weights if kind == "weights" else None, kind == "mean"


KINDS = ("one id a bag", "bags", "mean", "weights")


class _Reference(torch.autograd.Function):
    """The plain PyTorch ops, which the dispatcher would only take where nothing is compiled."""

    @staticmethod
    def forward(ctx, ids, offsets, weights, others, *cores):
        ctx.save_for_backward(ids, offsets, weights, *cores)
        ctx.others = others
        return reference.tt_embedding_bag(list(cores), [], ids, offsets, weights, *others)

    @staticmethod
    def backward(ctx, grad):
        ids, offsets, weights, *cores = ctx.saved_tensors
        core_grads, weight_grad, _ = reference.tt_embedding_bag_backward(
            grad, cores, [], ids, offsets, weights, grad.new_empty(0), grad.new_empty(0), *ctx.others
        )
        return None, None, None if weights is None else weight_grad, None, *core_grads


def tt(backend, cores, ids, offsets=None, weights=None, *, num_cores, mean=False, rows=None, padding=None, last=True):
    """The op by name: `native`, `native store` or `reference`; ids without offsets are table after table."""
    count = len(cores) // num_cores
    if rows is None:
        rows = [int(np.prod([c.shape[0] for c in cores[k : k + num_cores]])) for k in range(0, len(cores), num_cores)]
    if offsets is None and ids.dim() == 1:
        ids = ids.view(count, -1).t()
    if backend == "reference":
        others = (rows, padding or [], num_cores, mean, last)
        return _Reference.apply(ids, offsets, weights, others, *cores)
    if ops.backend("tt_embedding_bag") != "native":
        pytest.skip("the native ops are not compiled here")
    return ops.tt_embedding_bag(
        cores,
        ids,
        offsets,
        weights,
        num_embeddings=rows,
        padding_idx=padding or [],
        num_cores=num_cores,
        mean=mean,
        include_last_offset=last,
        store=backend == "native store",
    )


BACKENDS = ("native", "native store", "reference")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_cores", [2, 3, 4])
def test_equals_the_loop_over_ids(num_cores, kind, backend):
    cores, ids, offsets, weights, mean = tt_case(num_cores, kind)
    got = tt(backend, cores, ids, offsets, weights, num_cores=num_cores, mean=mean)
    want = tt_naive(cores, ids, offsets, weights, num_cores=num_cores, mean=mean)
    assert want.abs().sum() > 1
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    single = tt(
        backend,
        [core.float() for core in cores],
        ids.int(),
        None if offsets is None else offsets.int(),
        None if weights is None else weights.float(),
        num_cores=num_cores,
        mean=mean,
    )
    torch.testing.assert_close(single, want.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_cores", [2, 3, 4])
def test_gradients(num_cores, kind, backend):
    cores, ids, offsets, weights, mean = tt_case(num_cores, kind)
    inputs = [core.requires_grad_() for core in cores]
    if weights is not None:
        inputs.append(weights.requires_grad_())

    def call(*values):
        own = values[len(cores)] if weights is not None else None
        return tt(backend, list(values[: len(cores)]), ids, offsets, own, num_cores=num_cores, mean=mean)

    assert gradcheck(call, inputs)


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_opcheck(kind, store):
    cores, ids, offsets, weights, mean = tt_case(3, kind)
    cores = [core.requires_grad_() for core in cores]
    if offsets is None:
        ids = ids.view(3, -1).t()
    arguments = (cores, [], ids, offsets, weights, [12, 12, 10], [-1, 3, -1], 3, mean, True)
    # room that `store` sets aside for repeated ids stays unwritten, so two runs' partial products cannot be compared
    utils = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if not store:
        utils.append("test_aot_dispatch_dynamic")
    opcheck(torch.ops.embpress.tt_embedding_bag_train.default, (*arguments, store, 0), test_utils=utils)
    plain = ([core.detach() for core in cores], *arguments[1:])
    opcheck(torch.ops.embpress.tt_embedding_bag.default, plain)
    out, plan, partials = torch.ops.embpress.tt_embedding_bag_train.default(*plain, store, 0)
    backward = (torch.randn_like(out), *plain[:5], plan, partials, *plain[5:])
    opcheck(torch.ops.embpress.tt_embedding_bag_backward.default, backward)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("num_cores", [2, 3, 4])
@pytest.mark.parametrize("bags", [0, 3])
def test_no_id_at_all_gives_zeros_and_zero_gradients(num_cores, bags, backend):
    cores = [core.requires_grad_() for core in tt_cores(num_cores)]
    num_tables = len(TABLES[num_cores])
    offsets = torch.zeros(num_tables * bags + 1, dtype=torch.int64)
    out = tt(backend, cores, torch.zeros(0, dtype=torch.int64), offsets, num_cores=num_cores)
    dim = int(np.prod([core.shape[2] for core in cores[:num_cores]]))
    assert torch.equal(out, torch.zeros(bags, num_tables, dim, dtype=torch.float64))
    out.sum().backward()
    assert all(torch.equal(core.grad, torch.zeros_like(core)) for core in cores)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mean", [False, True])
def test_gradient_is_that_of_the_written_out_table(mean, backend):
    """A plain table holding the same rows gets, through autograd of plain PyTorch, the same gradients in the cores."""
    cores = [core.requires_grad_() for core in tt_cores(3, tables=1)]
    ids = torch.tensor([5, 5, 0, 11, 7, 5])
    offsets = torch.tensor([0, 3, 3, 6])
    grad = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    tt(backend, cores, ids, offsets, num_cores=3, mean=mean).squeeze(1).backward(grad)
    twins = [core.detach().clone().requires_grad_() for core in cores]
    table = torch.einsum("aiqr,brse,cetf->abcqst", twins[0], twins[1], twins[2]).reshape(12, 8)
    bags = [table[ids[a:b]] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist())]
    pooled = [bag.mean(0) if mean and len(bag) else bag.sum(0) for bag in bags]
    torch.stack(pooled).backward(grad)
    for core, twin in zip(cores, twins):
        torch.testing.assert_close(core.grad, twin.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_columns_of_a_table_are_its_bags(backend):
    cores = tt_cores(3, tables=2)
    ids = torch.tensor([[5, 0, 11, 3, 3, 7], [1, 1, 2, 4, 0, 0]])
    got = tt(backend, cores, ids, num_cores=3)
    offsets = torch.tensor([0, 3, 6, 9, 12])
    table_after_table = torch.cat([ids[:, :3].flatten(), ids[:, 3:].flatten()])
    torch.testing.assert_close(got, tt_naive(cores, table_after_table, offsets, num_cores=3), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mean", [False, True])
def test_padding_is_left_out_of_bags_and_of_their_mean(mean, backend):
    cores = [core.requires_grad_() for core in tt_cores(3, tables=2)]
    ids, offsets = torch.tensor([4, 4, 7, 4, 2, 0, 4]), torch.tensor([0, 3, 4, 6, 7])
    kept, kept_offsets = torch.tensor([7, 2, 0, 4]), torch.tensor([0, 1, 1, 3, 4])
    grad = torch.randn(2, 2, 8, dtype=torch.float64)
    got = tt(backend, cores, ids, offsets, num_cores=3, mean=mean, padding=[4, -1])
    want = tt_naive([c.detach() for c in cores], kept, kept_offsets, num_cores=3, mean=mean)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    got.backward(grad)
    found = [core.grad.clone() for core in cores]
    for core in cores:
        core.grad = None
    tt(backend, cores, kept, kept_offsets, num_cores=3, mean=mean).backward(grad)
    for core, first in zip(cores, found):
        torch.testing.assert_close(first, core.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_ids_and_offsets_are_named(backend):
    cores = tt_cores(3, tables=2)
    offsets = torch.tensor([0, 1, 2])
    for bad in (12, -1, 2**40):
        with pytest.raises(IndexError, match=rf"id {bad} is out of range: table 1 has 12 rows, 0 to 11"):
            tt(backend, cores, torch.tensor([0, bad]), offsets, num_cores=3)
    with pytest.raises(IndexError, match="id 11 is out of range: table 0 has 11 rows"):
        tt(backend, cores, torch.tensor([11, 0]), offsets, num_cores=3, rows=[11, 12])
    for wrong, message in (
        ([1, 1, 2], "start at 0, got 1"),
        ([0, 1, 3], "length 2, got 3"),
        ([0, 2, 1, 2, 2], "not decrease"),
    ):
        with pytest.raises(ValueError, match=message):
            tt(backend, cores, torch.tensor([0, 0]), torch.tensor(wrong), num_cores=3)


def test_shapes_that_do_not_fit_are_refused():
    if ops.backend("tt_embedding_bag") != "native":
        pytest.skip("the native ops are not compiled here")
    cores = tt_cores(3, tables=1)
    ids, offsets = torch.tensor([0, 1]), torch.tensor([0, 1, 2])

    def call(cores=cores, ids=ids, offsets=offsets, weights=None, rows=(12,), num_cores=3):
        return ops.tt_embedding_bag(cores, ids, offsets, weights, num_embeddings=rows, num_cores=num_cores)

    call()
    for wrong in (
        {"cores": cores[:2]},
        {"cores": [cores[0], cores[2], cores[1]]},
        {"cores": [cores[0], cores[1], cores[2].float()]},
        {"rows": (13,)},
        {"rows": (12, 12)},
        {"num_cores": 5},
        {"ids": ids.float()},
        {"ids": ids.view(1, 2)},
        {"weights": torch.ones(3, dtype=torch.float64)},
        {"weights": torch.ones(2)},
        {"offsets": torch.tensor([0.0, 1.0, 2.0])},
    ):
        with pytest.raises(EmbpressError):
            call(**wrong)


@st.composite
def calls(draw):
    """Any tables, any lookups."""
    num_cores = draw(st.sampled_from([2, 3, 4]))
    count = draw(st.integers(1, 3))
    q = draw(st.permutations(draw(st.sampled_from([(2, 4), (1, 16), (3, 5), (8, 8), (16, 4)]))))
    q = [*q, *(draw(st.sampled_from([1, 2, 3])) for _ in range(num_cores - 2))]
    rank = st.integers(1, 40)
    tables, rows = [], []
    for _ in range(count):
        p = [draw(st.integers(1, 9)) for _ in range(num_cores)]
        held = int(np.prod(p))
        tables.append((p, q, [draw(rank) for _ in range(num_cores - 1)]))
        rows.append(draw(st.integers(1, held)))
    batch = draw(st.integers(0, 40))
    kind = draw(st.sampled_from(["fixed", "bags"]))
    length = draw(st.integers(0, 3))
    return {
        "num_cores": num_cores,
        "tables": tables,
        "rows": rows,
        "padding": [draw(st.integers(-1, n - 1)) for n in rows] if draw(st.booleans()) else None,
        "batch": batch,
        "length": length if kind == "fixed" else None,
        "mode": draw(st.sampled_from(["sum", "mean", "weights"])),
        "few": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**31)),
        "dtype": draw(st.sampled_from([torch.float32, torch.float64])),
        "ids": draw(st.sampled_from([torch.int32, torch.int64])),
        "offsets": draw(st.sampled_from([torch.int32, torch.int64])),
        "last": draw(st.booleans()),
        "store": draw(st.booleans()),
    }


def random_lookups(call, generator):
    """Ids, offsets as asked for."""
    highest = [min(n, 3) if call["few"] else n for n in call["rows"]]
    batch, length = call["batch"], call["length"]
    if length is not None:
        columns = [torch.randint(n, (batch, length), generator=generator) for n in highest]
        return torch.cat(columns, 1).to(call["ids"]), None
    lengths = torch.randint(0, 5, (len(highest), batch), generator=generator)
    ids = torch.cat([torch.randint(n, (int(own.sum()),), generator=generator) for n, own in zip(highest, lengths)])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.flatten().cumsum(0)])
    return ids.to(call["ids"]), offsets.to(call["offsets"])


@settings(deadline=None, max_examples=150)
@given(calls())
def test_native_equals_the_reference(call):
    generator = torch.Generator().manual_seed(call["seed"])
    num_cores = call["num_cores"]
    cores = []
    for p, q, ranks in call["tables"]:
        r = (1, *ranks, 1)
        shapes = [(p[k], r[k], q[k], r[k + 1]) for k in range(num_cores)]
        cores += [torch.randn(shape, dtype=torch.float64, generator=generator) / 3 for shape in shapes]
    ids, offsets = random_lookups(call, generator)
    weights = torch.randn(ids.shape, dtype=torch.float64, generator=generator) if call["mode"] == "weights" else None
    options = {"num_cores": num_cores, "mean": call["mode"] == "mean", "rows": call["rows"], "padding": call["padding"]}

    def gradients(backend, dtype):
        own = [core.to(dtype, copy=True).requires_grad_() for core in cores]
        own_weights = None if weights is None else weights.to(dtype, copy=True).requires_grad_()
        last = call["last"] or offsets is None
        bounds = offsets if last else offsets[:-1]
        out = tt(backend, own, ids, bounds, own_weights, last=last, **options)
        grad = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        out.backward(grad.to(dtype))
        return [out.detach(), *(x.grad for x in [*own, *([] if weights is None else [own_weights])])]

    exact = gradients("reference", torch.float64)
    found = gradients("native store" if call["store"] else "native", call["dtype"])
    for a, b in zip(found, exact):
        scale = float(b.abs().max()) if b.numel() else 0.0
        bound = 1e-5 if call["dtype"] == torch.float32 else 1e-12
        torch.testing.assert_close(a.double(), b, rtol=10 * bound, atol=bound * max(scale, 1.0))


def big_call(seed=0):
    """Enough lookups for several threads, many of them the same."""
    generator = torch.Generator().manual_seed(seed)
    cores = []
    for p, ranks in (((22, 23, 21), (24, 16)), ((40, 9, 30), (16, 16))):
        r = (1, *ranks, 1)
        cores += [torch.randn(p[k], r[k], 4, r[k + 1], generator=generator).requires_grad_() for k in range(3)]
    ids = (torch.rand(5000, 2, generator=generator) ** 3 * torch.tensor([22 * 23 * 21, 40 * 9 * 30])).long()
    return cores, ids


@pytest.mark.parametrize("store", ["native", "native store"])
def test_every_run_gives_the_same_bits_whatever_the_threads(store):
    cores, ids = big_call()
    grad = torch.randn(5000, 2, 64, generator=torch.Generator().manual_seed(1))
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3, 2, 2):
            torch.set_num_threads(count)
            for core in cores:
                core.grad = None
            out = tt(store, cores, ids, num_cores=3)
            out.backward(grad)
            found.append([out.detach(), *(core.grad for core in cores)])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other))


def test_inference_involves_no_autograd():
    cores, ids = big_call()
    if ops.backend("tt_embedding_bag") != "native":
        pytest.skip("the native ops are not compiled here")

    class Calls(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.names.append(func.name())
            return func(*args, **(kwargs or {}))

    with Calls() as mode:
        tt("native", [core.detach() for core in cores], ids, num_cores=3)
        with torch.no_grad():
            tt("native", cores, ids, num_cores=3)
    assert [name for name in mode.names if "tt_" in name] == ["embpress::tt_embedding_bag"] * 2


@pytest.mark.cpu_only
@pytest.mark.parametrize("isa", load.ISAS)
def test_every_instruction_set_passes(isa):
    """The choice is made once a process, so each gets its own."""
    if load.isa() is None:
        pytest.skip("the native ops are not compiled here")
    if load.ENVIRONMENT in os.environ:
        pytest.skip(f"{load.ENVIRONMENT} is set: this run is about that build alone")
    chosen = "test_equals_the_loop or test_native_equals or test_gradient_is or test_padding"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", chosen],
        env={**os.environ, "EMBPRESS_ISA": isa, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    shown = subprocess.run(
        [sys.executable, "-c", "from embpress.kernels import load; print(load.isa())"],
        env={**os.environ, "EMBPRESS_ISA": isa},
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert load.ISAS.index(shown) <= load.ISAS.index(isa)
