"""What every op promises, whatever it computes: one example after another of `tests/support/op_examples.py`."""

import numpy as np
import pytest
import torch
from op_examples import ROWS, examples, lookups
from torch._subclasses.fake_tensor import FakeTensorMode

from embpress.kernels import ops, reference
from embpress.kernels.errors import DtypeError, EmbpressError, IdOutOfRange, NotDifferentiable

ALL, LOOKUPS = list(examples()), list(lookups())
IN_PLACE = ("count_ids", "update_dense", "update_rows")  # what they change is part of a model's training
SERVING = ("join_columns", "recipe_lookup")  # called where nothing is traced or transformed
ON_CUDA = torch.cuda.is_available() or hasattr(torch.ops.embpress, "emulates_cuda")


def named(chosen):
    return pytest.mark.parametrize("example", chosen, ids=lambda example: example.name)


every, every_lookup = named(ALL), named(LOOKUPS)


@pytest.fixture(autouse=True)
def checked(monkeypatch):
    monkeypatch.setenv("EMBPRESS_CHECK", "1")  # else an id out of range is not looked for on CUDA


def tensors(made):
    return list(made) if isinstance(made, (list, tuple)) else [made]


def weigh(out):
    """A number that no element is left out of, and not linear."""
    scale = torch.linspace(0.5, 1.5, out.numel(), dtype=out.dtype, device=out.device).view(out.shape)
    return (out * out * scale).sum()


def gradients(example):
    leaves = example.leaves()
    return torch.autograd.grad(weigh(example.run(leaves)), leaves)


def test_every_op_has_an_example():
    plain = {name for name in ops.names() if not name.endswith(("_train", "_backward"))}
    assert {example.op for example in ALL} == plain


# --- derivatives ------------------------------------------------------------------------------------------------------


@every_lookup
def test_a_second_derivative_is_refused_and_the_first_is_right_on_the_way(example, device):
    example = example.to(device)
    want, leaves = gradients(example), example.leaves()
    first = torch.autograd.grad(weigh(example.run(leaves)), leaves, create_graph=True)
    for got, expected in zip(first, want):
        assert torch.equal(got, expected)
    with pytest.raises(NotDifferentiable, match=rf"{example.op}_backward is not implemented"):
        torch.autograd.grad(sum(each.square().sum() for each in first), leaves)
    twice = torch.func.grad(lambda p: torch.func.grad(lambda q: weigh(example.run((q, *leaves[1:]))))(p).sum())
    with pytest.raises(NotDifferentiable):
        twice(example.parameters[0])


@every_lookup
def test_forward_mode_is_refused(example, device):
    example = example.to(device)
    tangents = tuple(map(torch.ones_like, example.parameters))
    with pytest.raises(NotDifferentiable, match="forward-mode"):
        torch.func.jvp(lambda *p: example.run(p), example.parameters, tangents)
    with torch.autograd.forward_ad.dual_level(), pytest.raises(NotDifferentiable, match="forward-mode"):
        example.run(tuple(map(torch.autograd.forward_ad.make_dual, example.parameters, tangents)))


@every_lookup
def test_transforms_of_torch_func_give_what_autograd_gives(example, device):
    example = example.to(device)
    every_one = tuple(range(len(example.parameters)))
    got = torch.func.grad(lambda *p: weigh(example.run(p)), every_one)(*example.parameters)
    for found, want in zip(got, gradients(example)):
        assert torch.equal(found, want)
    stacked = tuple(torch.stack([each, 2 * each, -each]) for each in example.parameters)
    rows = torch.func.vmap(lambda *p: example.run(p))(*stacked)
    each = torch.func.vmap(torch.func.grad(lambda *p: weigh(example.run(p)), every_one))(*stacked)
    for i, factor in enumerate((1, 2, -1)):
        scaled = example.of(lambda tensor, by=factor: tensor * by if tensor.is_floating_point() else tensor)
        torch.testing.assert_close(rows[i], scaled.run())
        for found, want in zip(each, gradients(scaled)):
            torch.testing.assert_close(found[i], want)


@every
def test_vmap_over_ids_takes_one_sample_after_another(example, device):
    if example.op in (*IN_PLACE, *SERVING):
        pytest.skip("it changes its arguments, or serves alone")
    example = example.to(device)
    others = example.ids // 2
    found = torch.func.vmap(lambda ids: example.run(ids=ids))(torch.stack([example.ids, others]))
    assert torch.equal(found[0], example.run())
    assert torch.equal(found[1], example.run(ids=others))


@every_lookup
def test_outputs_may_be_changed_in_place(example, device):
    example = example.to(device)
    leaves, scale = example.leaves(), 3.0
    out = example.run(leaves)
    assert out._base is None
    want = torch.autograd.grad((out * scale + 1).square().sum(), leaves)
    out = example.run(leaves)
    out.mul_(scale).add_(1)
    for got, expected in zip(torch.autograd.grad(out.square().sum(), leaves), want):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("ids", [[], [3, 3]], ids=["no id", "padding only"])
@pytest.mark.parametrize("plain", [False, True])
def test_gradients_of_weights_that_no_id_uses_are_zeros(plain, ids, device):
    (example,) = (each for each in LOOKUPS if each.name == "tt_embedding_bag, weights")
    example = example.to(device)
    cores = [core.requires_grad_() for core in example.parameters[:2]]
    weights = torch.ones(len(ids), dtype=torch.float64, device=device, requires_grad=True)
    ids, offsets = torch.tensor(ids, dtype=torch.int64, device=device), torch.tensor([0, 0, len(ids)], device=device)
    if plain:
        rows = torch.zeros(0, 4, dtype=torch.float64, device=device, requires_grad=True)
        out = reference.pool(rows, 0 * offsets, weights[ids != 3], False)
    else:
        out = ops.tt_embedding_bag(cores, ids, offsets, weights, num_embeddings=(12,), padding_idx=(3,), num_cores=2)
    out.sum().backward()
    assert torch.equal(weights.grad, torch.zeros_like(weights))


# --- devices without values, compilers --------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("trained", [False, True])
def test_shapes_and_dtypes_are_known_without_values(example, trained):
    def known(made):
        return [(each.shape, each.dtype, each.stride()) for each in tensors(made)]

    meta = example.to("meta")
    out = meta.run(meta.leaves() if trained else None)
    want = known(example.run())
    assert known(out) == want
    assert all(each.is_meta for each in tensors(out))
    with FakeTensorMode() as mode:
        fake = example.of(mode.from_tensor)
        leaves = fake.leaves()
        out = fake.run(leaves if trained else None)
        assert known(out) == want
        if trained and leaves:
            assert known(torch.autograd.grad(out.sum(), leaves)) == known(leaves)


@every
@pytest.mark.parametrize("trained", [False, True])
def test_compiled_calls_are_whole_graphs_that_check_ids(example, trained, device):
    torch._dynamo.reset()
    example = example.to(device)
    compiled = torch.compile(
        lambda parameters, ids, others: example.call(parameters, ids, others), fullgraph=True, backend="aot_eager"
    )
    leaves = example.leaves() if trained else example.parameters
    for got, want in zip(tensors(compiled(leaves, example.ids, example.others)), tensors(example.run())):
        assert torch.equal(got, want)
        if trained and leaves and want.is_floating_point():
            for found, expected in zip(torch.autograd.grad(weigh(got), leaves), gradients(example)):
                assert torch.equal(found, expected)
    if looks_at_ids(example):
        with pytest.raises((RuntimeError, IndexError, ValueError), match=r"out of range|offsets"):
            compiled(leaves, beyond(example), example.others)


class Table(torch.nn.Module):
    def __init__(self, example):
        super().__init__()
        self.example = example
        self.parameters_ = torch.nn.ParameterList(example.parameters)

    def forward(self, ids):
        return self.example.run(tuple(self.parameters_), ids)


@every
def test_exported_programs_check_ids(example, device):
    if example.op in IN_PLACE:
        pytest.skip("it belongs to training")
    example = example.to(device)
    program = torch.export.export(Table(example), (example.ids,)).module()
    assert torch.equal(program(example.ids), example.run())
    if looks_at_ids(example):
        with pytest.raises((RuntimeError, IndexError, ValueError), match=r"out of range|offsets"):
            program(beyond(example))


@named([example for example in ALL if example.ids.dim() == 2])
@pytest.mark.parametrize("trained", [False, True])
def test_exported_programs_take_any_batch(example, trained, device):
    example = example.to(device)
    table = Table(example).requires_grad_(trained)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(table, (example.ids,), dynamic_shapes=shapes).module()
    for ids in (example.ids[:1], example.ids.repeat(5, 1)):
        assert torch.equal(program(ids), example.run(ids=ids))


@every
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trained", [False, True])
def test_traces_are_the_op(example, trained, device):
    if example.op in (*IN_PLACE, *SERVING):
        pytest.skip("it belongs to training, or to serving alone")
    example = example.to(device)
    table = Table(example).requires_grad_(trained)
    traced = torch.jit.trace(table, (example.ids,))
    assert torch.equal(traced(example.ids), example.run())
    if trained and example.parameters:
        found = torch.autograd.grad(weigh(traced(example.ids)), list(table.parameters_))
        for got, want in zip(found, gradients(example)):
            assert torch.equal(got, want)


# --- arguments --------------------------------------------------------------------------------------------------------


def looks_at_ids(example):
    return not example.op.startswith(("cache", "coded", "count", "join", "take", "update"))


def beyond(example):
    """The example's ids, or offsets, with one too large."""
    ids = example.ids.clone()
    ids.view(-1)[-1] = 99
    return ids


@named([example for example in ALL if looks_at_ids(example)])
def test_an_id_out_of_range_is_named_with_its_table(example, device):
    example = example.to(device)
    if example.op == "check_offsets":
        with pytest.raises(ValueError, match="offsets must not decrease"):
            example.run(ids=example.ids.flip(0).contiguous() - 2)
        return
    for dtype in (torch.int32, torch.int64):
        with pytest.raises(IdOutOfRange, match="id 99 is out of range: table 1 has 7 rows, 0 to 6") as caught:
            example.run(ids=beyond(example).to(dtype))
        assert (caught.value.id, caught.value.table, caught.value.rows) == (99, 1, ROWS[1])
        if not example.parameters:
            continue
        with pytest.raises(IdOutOfRange):
            example.run(example.leaves(), beyond(example).to(dtype))


@every
def test_ids_that_are_no_tensor_of_integers_are_refused_by_name(example, device):
    if example.op == "update_dense":
        pytest.skip("it takes no ids")
    example = example.to(device)
    for wrong, got in (
        (example.ids.cpu().numpy(), "numpy.ndarray"),
        (example.ids.tolist(), "builtins.list"),
        (example.ids.float(), "float32"),
        (example.ids.bool(), "bool"),
    ):
        with pytest.raises(DtypeError, match=rf"must be .*got {got}") as caught:
            example.run(ids=wrong)
        assert_plain(caught.value)


def assert_plain(error):
    """One sentence that says nothing of C++ or of how ops are called inside."""
    text = str(error)
    assert "\n" not in text
    for inside in (".h:", ".cpp:", ".cu:", "embpress::", "_lookup", "_bag:", "torch.ops"):
        assert inside not in text


def spoilt(which, tensor, more):
    """What no argument may be in place of this tensor; there may be more elements, or
    dimensions, of those that `more` names."""
    yield tensor.to(torch.complex64)
    yield tensor.to(torch.uint8 if tensor.is_floating_point() else torch.float32)
    if tensor.dim():
        yield tensor[None, :0]
    if tensor.is_floating_point() and which not in more:
        yield tensor[None, None]
    elif not tensor.is_floating_point() and which not in more:
        yield torch.cat([tensor.flatten()] * 2)


@every
def test_arguments_of_another_type_or_shape_are_refused_in_a_sentence(example, device):
    example = example.to(device)
    more = {
        "index",
        "held",
        "codes",
        "columns",
        "coefficients",
        "kept",
        *(["rows"] if "tables" in example.others else []),
    }
    places = [("parameters", i) for i in range(len(example.parameters))] + [("others", name) for name in example.others]
    for where, which in places:
        for wrong in spoilt(which, getattr(example, where)[which], more):
            parameters, others = list(example.parameters), dict(example.others)
            (parameters if where == "parameters" else others)[which] = wrong
            with pytest.raises(EmbpressError) as caught:
                example.call(tuple(parameters), example.ids, others)
            assert_plain(caught.value)


def test_sizes_may_be_numbers_of_numpy(device):
    of = {
        name: next(each for each in LOOKUPS if each.op == name).to(device)
        for name in ("robe_lookup", "tt_embedding_bag")
    }
    robe, tt = of.values()
    known = {name: robe.others[name] for name in ("row_offsets", "rows")}
    got = ops.robe_lookup(
        robe.parameters[0], robe.ids, robe.others["coefficients"], **known, z=np.int64(3), dim=np.int32(8)
    )
    assert torch.equal(got, robe.run())
    rows = list(np.array(ROWS))
    got = ops.tt_embedding_bag(list(tt.parameters), tt.ids, num_embeddings=rows, num_cores=np.int64(2))
    assert torch.equal(got, tt.run())
    with pytest.raises(DtypeError, match=r"z must be a whole number, got 3\.0"):
        ops.robe_lookup(robe.parameters[0], robe.ids, robe.others["coefficients"], **known, z=3.0, dim=8)
    with pytest.raises(DtypeError, match="num_cores must be a whole number"):
        ops.tt_embedding_bag(list(tt.parameters), tt.ids, num_embeddings=rows, num_cores=2.5)


@every_lookup
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_parameters_are_computed_with_in_float32(example, dtype, device):
    """Equal to float64 on the same values up to the rounding of the result and of each gradient."""
    asked = {example.op, example.op.replace("_bags", "_lookup")} & set(ops.names())  # bags there are made of lookups
    if dtype == torch.float16 and ON_CUDA and any(ops.backend(op, device) == "native" for op in asked):
        pytest.skip("CUDA kernels take no float16")
    narrow = example.to(device).to(dtype)
    exact = narrow.to(torch.float64)
    got, want = narrow.run(), exact.run()
    close = {"rtol": {torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype] * 1.01, "atol": 1e-5}
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, **close)
    flow = torch.linspace(-1, 1, want.numel(), dtype=torch.float64, device=device).view(want.shape).to(dtype)
    leaves, exact_leaves = narrow.leaves(), exact.leaves()
    found = torch.autograd.grad(narrow.run(leaves), leaves, flow)
    expected = torch.autograd.grad(exact.run(exact_leaves), exact_leaves, flow.double())
    for grad, reference_grad in zip(found, expected):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad.double(), reference_grad, **close)
