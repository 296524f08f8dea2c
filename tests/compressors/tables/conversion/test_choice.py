"""Which modules are replaced: exact classes, names, what a method can hold; what stays counts and never grows."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import prune

from embpress.compressors import (
    BudgetError,
    InputError,
    MethodSpec,
    Plan,
    TableConfig,
    TablePlan,
    available,
    compress_model,
    parse,
    plan,
)
from embpress.compressors import method as method_named

IDS = torch.arange(60)


class Scaled(nn.Embedding):
    """As in language models: rows come out larger."""

    def forward(self, input):
        return super().forward(input) * 8


class Summed(nn.EmbeddingBag):
    """A class without anything of its own is one too: nobody can tell."""


def odd_tables():
    """Tables of every odd shape beside two plain ones."""
    shapes = [(3000, 16), (2000, 16), (1000, 1), (1000, 2), (997, 3), (250, 7), (201, 1), (1, 16), (2, 1), (40, 5)]
    return nn.ModuleDict({f"t{n}x{dim}": nn.EmbeddingBag(n, dim, mode="sum") for n, dim in shapes})


def plain():
    return nn.ModuleDict({name: nn.ModuleDict({"a": nn.Embedding(500, 8), "b": nn.Embedding(400, 8)}) for name in "xy"})


def kinds(model):
    return [name for name, module in model.named_modules() if isinstance(module, (nn.Embedding, nn.EmbeddingBag))]


@pytest.mark.parametrize("module", [Scaled(500, 8), Summed(500, 8, mode="sum")])
def test_a_subclass_keeps_its_forward_and_is_named(module):
    model = nn.ModuleDict({"own": module, "plain": nn.Embedding(500, 8)})
    before = module(IDS.view(-1, 1))
    done = compress_model(model, "hash")
    assert model["own"] is module
    assert torch.equal(module(IDS.view(-1, 1)), before)
    assert type(module).__name__ in done["note"][0]
    assert done["method"].tolist() == ["full", "hash"]


def test_a_weight_that_a_subclass_shares_stays():
    model = nn.ModuleDict({"plain": nn.Embedding(500, 8), "own": Scaled(500, 8), "other": nn.Embedding(500, 8)})
    model["own"].weight = model["plain"].weight
    compress_model(model, "hash")
    assert model["own"].weight is model["plain"].weight
    assert type(model["other"]) is not nn.Embedding


def with_hook(model):
    model["x"]["a"].register_forward_hook(lambda module, args, out: out * 2)


def with_pre_hook(model):
    model["x"]["a"].register_forward_pre_hook(lambda module, args: None)


def with_forward(model):
    model["x"]["a"].forward = lambda ids: torch.zeros(len(ids), 8)


def with_parametrization(model):
    nn.utils.parametrizations.weight_norm(model["x"]["a"])


def with_pruning(model):
    prune.l1_unstructured(model["x"]["a"], "weight", 0.5)


@pytest.mark.parametrize("alter", [with_hook, with_pre_hook, with_forward, with_parametrization, with_pruning])
def test_a_module_that_was_altered_computes_what_it_did(alter):
    model = plain()
    alter(model)
    before = model["x"]["a"](IDS)
    done = compress_model(model, "hash")
    assert torch.equal(model["x"]["a"](IDS), before)
    assert done["note"][0]
    assert type(model["x"]["b"]) is not nn.Embedding


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"only": "x.a"}, ["x.b", "y.a", "y.b"]),
        ({"only": ["x.a", "y.*"]}, ["x.b"]),
        ({"skip": "*.a"}, ["x.a", "y.a"]),
        ({"only": "x.*", "skip": ["x.b"]}, ["x.b", "y.a", "y.b"]),
        ({"only": lambda name, module: module.num_embeddings == 400}, ["x.a", "y.a"]),
        ({"skip": lambda name, module: name.startswith("x")}, ["x.a", "x.b"]),
    ],
)
def test_only_and_skip(options, left):
    model = plain()
    done = compress_model(model, "hash", **options)
    assert kinds(model) == left
    assert done["module"][done["note"] != ""].tolist() == left


@pytest.mark.parametrize("options", [{"only": "x.c"}, {"skip": ["x.a", "z.*"]}, {"only": "x"}])
def test_a_name_that_fits_nothing_is_named(options):
    model = plain()
    with pytest.raises(InputError, match=r"no embedding of the model is named '(x\.c|z\.\*|x)'"):
        compress_model(model, "hash", **options)
    assert len(kinds(model)) == 4
    with pytest.raises(InputError, match=r"x\.a \(skipped\)"):
        compress_model(model, "hash", skip="*")


def test_what_stays_counts_in_ratio_and_budget():
    model = plain()  # 2 × (16,000 + 12,800) bytes
    done = compress_model(model, "hash", ratio=1.5, only=["x.*"])
    assert 1.5 <= done.attrs["ratio"] == 57_600 / done["bytes_after"].sum() < 1.51
    with pytest.raises(BudgetError, match=r"smallest reachable 1\.9× .*left full: y\.a \(skipped\), y\.b \(skipped\)"):
        compress_model(plain(), "hash", ratio=3, skip="y.*")
    done = compress_model(plain(), "hash", budget=40_000, skip="y.*")
    assert 39_000 < done["bytes_after"].sum() <= 40_000
    done = compress_model(plain(), "robe:z=4", budget=40_000, skip="y.*")
    assert 39_000 < done["bytes_after"].sum() <= 40_000


def test_the_largest_are_those_that_may_be_replaced():
    model = nn.ModuleDict({"big": nn.Embedding(900, 8, max_norm=1.0), **plain()["x"]})
    done = compress_model(model, "hash", largest=1)
    assert done["method"].tolist() == ["full", "hash", "full"]
    assert done["note"][2] == "not among the 1 largest"


SPECS = [
    *[name for name in available() if method_named(name).tags.dtypes == ()],
    *(
        "hash:k=900",
        "hash:parts=4",
        "qr:op=concat",
        "robe:z=8",
        "tt:rank=8",
        "mlet:k=64",
        "tt:num_cores=4",
        "hash+bf16",
    ),
]


@pytest.mark.parametrize("size", [{}, {"ratio": 1}, {"ratio": 3}])
@pytest.mark.parametrize("spec", SPECS)
def test_odd_tables_never_refuse_the_model_and_no_table_grows(spec, size):
    model = odd_tables()
    if not parse(spec).sizable or parse(spec).tags.saves_by_width:
        size = {}
    done = compress_model(model, spec, min_rows=2, **size)
    assert len(done) == 10
    if not parse(spec).tags.uncompressed:
        # of shared memory, a share of a few numbers, and hash functions of its own
        assert (done["bytes_after"] <= done["bytes_before"] + 64).all()
        assert done["bytes_after"].sum() <= done["bytes_before"].sum()
    assert done["method"][0] != "full" or parse(spec).tags.uncompressed
    assert (done["method"] == "full").tolist() == [n != "" for n in done["note"].replace(SHARED, "")] or spec == "full"
    for (name, module), (n, dim) in zip(model.items(), done[["num_embeddings", "embedding_dim"]].values):
        out = module(torch.tensor([[0, n - 1]]))
        assert out.shape == (1, dim), name
    assert done.attrs["ratio"] >= size.get("ratio", 0)


SHARED = "memory shared by all tables of this method"


def test_the_note_names_what_the_method_says():
    model = nn.ModuleDict({"narrow": nn.Embedding(500, 4), "wide": nn.Embedding(500, 16)})
    done = compress_model(model, "robe:z=8", ratio=1.5)
    assert done["method"].tolist() == ["full", "robe:z=8"]
    assert "z=8 must lie between 1 and the width 4" in done["note"][0]
    done = compress_model(nn.ModuleDict({"few": nn.Embedding(300, 8), "many": nn.Embedding(5000, 8)}), "hash:k=400")
    assert done["note"].tolist() == ["hash:k=400 would be larger than the full table", ""]
    with pytest.raises(InputError, match=r"few \(hash:k=400 would be larger"):
        compress_model(nn.ModuleDict({"few": nn.Embedding(300, 8)}), "hash:k=400")
    with pytest.raises(InputError, match=r"few \(robe:size=9000 would be larger than all"):
        compress_model(nn.ModuleDict({"few": nn.Embedding(300, 8)}), "robe:size=9000")


def test_integers_of_any_kind_are_sizes():
    model = nn.ModuleDict({"a": nn.Embedding(np.int64(500), np.int32(8)), "b": nn.Embedding(np.int64(300), 8)})
    done = compress_model(model, "hash", budget=np.int64(12_000), min_rows=np.uint16(400), largest=np.int8(3))
    assert done["note"].tolist() == ["", "under 400 rows"]
    assert 11_900 < done["bytes_after"].sum() <= 12_000
    made = plan(parse("hash"), [TableConfig(np.int64(500), np.int64(8), "a")], ratio=np.float32(4))
    assert {type(value) for value in made.tables[0].config[:2]} == {int}
    assert "500" in made.to_json()


@pytest.mark.parametrize("options", [{"min_rows": 2.5}, {"largest": "many"}, {"budget": 1e5}, {"budget": True}])
def test_other_sizes_are_refused_by_name(options):
    with pytest.raises(InputError, match=f"{next(iter(options))} is .*whole number"):
        compress_model(plain(), "hash", **options)
    with pytest.raises(InputError, match=r"rows of a is 2\.5"):
        plan(parse("hash"), [TableConfig(2.5, 8, "a")])


def test_a_weight_larger_than_its_module_says_is_taken_as_it_is():
    model = nn.ModuleDict({"grown": nn.Embedding(500, 8)})
    model["grown"].weight = nn.Parameter(torch.zeros(600, 8))
    assert compress_model(model, "hash")["num_embeddings"][0] == 600
    assert model["grown"](torch.tensor([599])).shape == (1, 8)


def test_memory_is_shared_by_tables_of_one_dtype():
    model = nn.ModuleDict({"a": nn.Embedding(500, 8), "b": nn.Embedding(500, 8).double(), "c": nn.Embedding(500, 8)})
    done = compress_model(model, "robe:z=4", ratio=1.3)
    assert done["note"][1] == "torch.float64 on cpu cannot share the memory of a"
    assert [model[name](IDS).dtype for name in "abc"] == [torch.float32, torch.float64, torch.float32]
    model = nn.ModuleDict({"a": nn.Embedding(500, 8), "b": nn.Embedding(500, 8).double()})
    compress_model(model, "hash", ratio=2)
    assert [model[name](IDS).dtype for name in "ab"] == [torch.float32, torch.float64]


def test_a_model_that_is_wrapped_already_is_refused(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/r", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(plain())
        with pytest.raises(InputError, match="DistributedDataParallel"):
            compress_model(model, "hash")
        sharded = nn.Sequential(nn.Embedding(500, 8))
        fully_shard(sharded, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(InputError, match=r"0 \(its weight is a DTensor"):
            compress_model(sharded, "hash")
    finally:
        torch.distributed.destroy_process_group()


def test_a_padding_row_that_held_something_is_said():
    model = nn.ModuleDict({"zero": nn.Embedding(900, 8, padding_idx=3), "full": nn.Embedding(900, 8, padding_idx=3)})
    with torch.no_grad():
        model["full"].weight[3] = 1
    done = compress_model(model, "tt:rank=4", from_weights=True)
    assert done["note"].tolist() == ["", "the padding row was not zero and is now"]
    assert not model["full"](torch.tensor([3])).any()


def test_a_plan_says_it_for_each_and_cannot_replace_what_stays():
    def written(a, y):
        configs = [TableConfig(500, 8, "x.a"), TableConfig(400, 8, "x.b"), TableConfig(500, 8, "y.a")]
        methods = [parse(a), MethodSpec("tt", {"rank": 2}), parse(y)]
        return Plan(tuple(TablePlan(c, 8, m, 1) for c, m in zip(configs, methods)))

    model = plain()
    done = compress_model(model, written("hash:k=9", "full"), skip=["y.*"])  # y.b is in no plan
    assert done["method"].tolist() == ["hash:k=9", "tt:rank=2", "full", "full"]
    assert kinds(model) == ["y.a", "y.b"]
    with pytest.raises(InputError, match=r"the plan compresses 'y\.a', which stays full: skipped"):
        compress_model(plain(), written("hash:k=9", "hash:k=9"), skip=["y.*"])
    with pytest.raises(InputError, match=r"no table 'y\.b'"):
        compress_model(plain(), written("hash:k=9", "full"))
