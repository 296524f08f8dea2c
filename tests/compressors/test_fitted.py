"""Tables near trained ones, made from a spec: sizes, modifiers, copies, mapped files, a whole model, refusals."""

import numpy as np
import pytest
import torch
from large_tables import Largest, Watched
from torch import Generator, nn

from embpress.compressors import (
    InputError,
    Plan,
    TableConfig,
    TablePlan,
    compress_model,
    create,
    fold_model,
    from_dense,
    parse,
)
from embpress.compressors.methods.full import Full
from embpress.compressors.methods.hashing import HashingTrick
from embpress.compressors.methods.mlet import MLET
from embpress.compressors.methods.qr import QuotientRemainder
from embpress.compressors.methods.robe import Robe
from embpress.compressors.methods.tt import TTRec
from embpress.compressors.modifiers.bf16 import BFloat16
from embpress.compressors.tags import Tags

N, D = 1200, 16


def seeded(seed=0):
    return Generator().manual_seed(seed)


def noise(n=N, dim=D, dtype=torch.float32, seed=1):
    return torch.randn(n, dim, dtype=dtype, generator=seeded(seed))


def measured(table, weight):
    return float((table.to_dense().double() - weight.double()).norm() / weight.double().norm())


@pytest.mark.parametrize("text", ["full", "hash", "qr", "qr:op=add", "robe:z=8", "mlet", "tt"])
def test_the_error_is_of_what_is_served(text):
    weight = noise()
    plain, error = from_dense(text, weight, generator=seeded())
    table, rounded = from_dense(f"{text}+bf16", weight, generator=seeded())
    assert isinstance(table, BFloat16)
    assert torch.equal(table.to_dense(), plain.to_dense())
    assert error == pytest.approx(measured(plain, weight), rel=1e-5, abs=1e-9)
    assert rounded == pytest.approx(measured(table.fold(), weight), rel=1e-5)
    assert rounded != error
    assert all(p.requires_grad and p.dtype == torch.float32 for p in table.parameters())


@pytest.mark.parametrize("text", ["hash", "hash:parts=4", "qr", "robe", "tt", "hash+bf16", "tt+bf16"])
def test_a_ratio_counts_the_whole_expression(text):
    table, error = from_dense(text, noise(), ratio=4, mode="mean", padding_idx=3)
    same, again = from_dense(text, noise(), budget=N * D)
    assert N * D * 0.8 < table.ledger().serving_bytes <= N * D
    assert (table.mode, table.padding_idx) == ("mean", 3)
    assert same.ledger().serving_bytes == table.ledger().serving_bytes
    assert again == pytest.approx(error, rel=1e-5)
    fixed, _ = from_dense(text + (":ratio=4" if "+" in text else ":ratio=100"), noise(), ratio=4)
    assert fixed.ledger().serving_bytes == table.ledger().serving_bytes


def test_a_method_that_sees_the_table_chooses_its_own_knobs():
    weight = noise(2000, 16) @ torch.diag(torch.logspace(0, -2, 16))
    chosen, error = from_dense("tt", weight, ratio=8)
    by_arithmetic = create("tt", 2000, 16, ratio=8)
    _, even = from_dense("tt", weight, rank=by_arithmetic.rank)
    assert error <= even
    assert len(set(chosen.ranks[1:-1])) > 1
    assert from_dense("tt:rank=4", weight, ratio=8)[0].rank == from_dense("tt:rank=4", weight)[0].rank
    assert from_dense("tt", weight, tolerance=0.3)[1] <= 0.3


@pytest.mark.parametrize("cls", [HashingTrick, QuotientRemainder, Robe])
def test_a_class_takes_a_size_too(cls):
    table, error = cls.from_dense(noise(), ratio=10, generator=seeded())
    assert table.ledger().serving_bytes <= 4 * N * D / 10
    assert error == pytest.approx(cls.from_dense(noise(), budget=4 * N * D // 10, generator=seeded())[1])
    with pytest.raises(InputError, match=f"one of {cls.size_knobs[0]}.*, got budget and ratio"):
        cls.from_dense(noise(), budget=10_000, ratio=10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_full_table_is_a_copy(dtype):
    weight = noise(dtype=dtype)
    table, error = from_dense("full", weight, padding_idx=5)
    assert error == 0
    assert torch.equal(table.weight, weight)
    assert table.weight.data_ptr() != weight.data_ptr()
    narrow, error = from_dense("full", weight, dtype=torch.float16)
    assert error == pytest.approx(measured(narrow, weight), rel=1e-4, abs=1e-9)


def test_fbgemms_table_is_a_copy_in_float32():
    pytest.importorskip("fbgemm_gpu")
    weight = noise(dtype=torch.float64)
    table, error = from_dense("full-tbe:learning_rate=0.5", weight)
    assert torch.equal(table.weight, weight.float())
    assert table.learning_rate == 0.5
    assert 0 < error < 1e-7


@pytest.mark.parametrize("k", [16, 64, 100])
def test_mlet_goes_on_from_a_trained_table(k):
    weight = noise(dtype=torch.float64)
    table, error = MLET.from_dense(weight, k=k, init="matched", generator=seeded())
    assert error < 1e-12
    assert torch.equal(
        table.projection, MLET(N, D, k=k, init="matched", dtype=torch.float64, generator=seeded()).projection
    )
    table(torch.arange(N).view(-1, 1)).sum().backward()
    assert all(bool(p.grad.any()) for p in table.parameters())


def test_mlet_below_the_width_is_the_nearest_for_its_projection():
    weight = noise(dtype=torch.float64)
    table, error = MLET.from_dense(weight, k=5, force=True)
    best = torch.linalg.lstsq(table.projection.t(), weight.t()).solution.t()
    torch.testing.assert_close(table.table, best)
    assert error == pytest.approx(measured(table, weight))


@pytest.mark.parametrize("text", ["full", "qr", "qr:op=add", "robe:z=1", "full+bf16"])
def test_a_mapped_table_is_read_in_slices(text, tmp_path):
    n = 400_000
    np.save(tmp_path / "weight.npy", noise(n, 8).numpy())
    mapped = np.load(tmp_path / "weight.npy", mmap_mode="r")
    watched = Watched(mapped)
    with Largest() as seen:
        table, error = from_dense(text, watched, generator=seeded())
    assert watched.largest <= (1 << 20) // 8 + 9
    held = max(p.numel() for p in table.parameters())
    assert seen.numel <= max(held, 1 << 20)
    assert error == pytest.approx(measured(table.fold(), torch.from_numpy(np.array(mapped))), rel=1e-4, abs=1e-9)


def test_a_models_tables_on_one_array_are_fitted_together():
    def model():
        made = nn.ModuleDict({"user": nn.Embedding(3000, 8), "item": nn.EmbeddingBag(900, 8, mode="sum")})
        for seed, module in enumerate(made.values()):
            module.weight.data = noise(module.num_embeddings, 8, seed=seed)
        return made

    trained, compressed = model(), model()
    done = compress_model(compressed, "robe:z=4", ratio=5, from_weights=True, generator=seeded())
    tables = [compressed["user"].table, compressed["item"]]
    assert tables[0].whole("memory") is tables[1].whole("memory")
    assert done["bytes_after"].sum() <= 4 * 3900 * 8 / 5
    weights = [trained["user"].weight.detach(), trained["item"].weight.detach()]
    for error, table, weight in zip(done["error"], tables, weights):
        assert error == pytest.approx(measured(table, weight), rel=1e-4)
    memory = tables[0].whole("memory")
    memory.grad = None
    torch.stack([(t.lookup(torch.arange(len(w))) - w).square().sum() for t, w in zip(tables, weights)]).sum().backward()
    assert float(memory.grad.norm()) < 1e-5 * float(sum(w.norm() for w in weights))  # nothing is nearer to both


@pytest.mark.parametrize("text", ["hash+bf16", "robe+int4", "qr+bf16", "full+int4"])
def test_a_models_errors_are_those_of_its_folded_tables(text):
    model = nn.ModuleDict({"user": nn.EmbeddingBag(3000, 8, mode="sum"), "item": nn.EmbeddingBag(900, 8, mode="sum")})
    weights = [module.weight.detach().clone() for module in model.values()]
    done = compress_model(model, text, ratio=5, from_weights=True)
    folded = fold_model(model)
    for error, table, weight in zip(done["error"], folded.values(), weights):
        assert error == pytest.approx(measured(table, weight), rel=1e-4)


def test_a_plan_starts_every_table_by_its_own_method():
    model = nn.ModuleDict({name: nn.EmbeddingBag(n, 8, mode="sum") for name, n in (("a", 800), ("b", 500), ("c", 40))})
    weights = {name: module.weight.detach().clone() for name, module in model.items()}
    methods = {"a": parse("hash:k=100"), "b": parse("qr:c=5+bf16"), "c": parse("full")}
    plan = Plan(tuple(TablePlan(TableConfig(len(w), 8, name), 8, methods[name], 1) for name, w in weights.items()))
    done = compress_model(model, plan, from_weights=True).set_index("module")
    assert done["error"]["c"] == 0
    for name, kind in (("a", HashingTrick), ("b", BFloat16)):
        assert type(model[name]) is kind
        served = model[name].fold()
        assert done["error"][name] == pytest.approx(measured(served, weights[name]), rel=1e-4)


def test_what_cannot_start_from_a_table_is_said(monkeypatch):
    monkeypatch.setattr(Robe, "tags", Tags(shared_memory=True, for_budget=True))
    with pytest.raises(InputError, match=r"robe cannot start from trained weights, only .*full, .*tt.* can"):
        from_dense("robe", noise())
    model = nn.Sequential(nn.Embedding(3000, 8))
    with pytest.raises(InputError, match="robe cannot start"):
        compress_model(model, "robe", from_weights=True)
    assert isinstance(model[0], nn.Embedding)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("hash", {"rank": 3}, "'hash' has no keyword 'rank'"),
        ("tt", {"tolerence": 0.1}, "did you mean 'tolerance'"),
        ("hash", {"ratio": 0.5}, "at least 1"),
        ("hash", {"max_norm": 1.0}, "max_norm is not supported"),
    ],
)
def test_keywords_that_are_none_are_refused(text, options, words):
    with pytest.raises(InputError, match=words):
        from_dense(text, noise(), **options)


@pytest.mark.parametrize("text", ["full", "hash", "qr", "qr:op=add", "robe", "mlet"])
def test_what_is_no_table_is_refused(text):
    for weight in (torch.ones(3), torch.ones(3, 4, dtype=torch.int64), np.ones((0, 4))):
        with pytest.raises(InputError, match="from_dense: the table must be"):
            from_dense(text, weight)
    if text != "full":  # a copy is a copy
        broken = noise()
        broken[7, 3] = torch.nan
        with pytest.raises(InputError, match="NaN"):
            from_dense(text, broken)
    zero, error = from_dense(text, torch.zeros(300, 8), generator=seeded())
    assert error == 0
    assert not zero.to_dense().any()


def test_types_of_what_comes_back():
    assert type(from_dense("full", noise())[0]) is Full
    assert type(from_dense(parse("tt:rank=2"), noise())[0]) is TTRec
