"""Plans: every table with its own method, knobs and modifiers, through a file, in collections and in models."""

import json

import pytest
import torch
from torch import nn

from embpress.compressors import (
    InputError,
    MethodSpec,
    ModifierSpec,
    Plan,
    TableCollection,
    TableConfig,
    TablePlan,
    compress_model,
    create,
    optimizer_groups,
    parse,
    plan,
)
from embpress.compressors.ledger import held_bytes

CONFIGS = [
    TableConfig(n, 16, name) for n, name in ((3000, "user"), (40, "hour"), (5000, "größe"), (700, "tag"), (900, "x"))
]
METHODS = ["tt:rank=4:cache_rows=8:warmup=1:refresh=2", "full", "robe:size=4000", "hash:k=50+bf16", "robe:size=4000"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mixed():
    """Four methods at once, two tables on one ROBE array."""
    tables = [TablePlan(config, 16, parse(method), 1) for config, method in zip(CONFIGS, METHODS)]
    return Plan(tuple(tables))


def ids(count=64):
    return torch.stack([torch.randint(n, (count,), generator=seeded(t)) for t, (n, _, _) in enumerate(CONFIGS)], 1)


def test_the_file_gives_the_plan_back(tmp_path):
    made = plan(parse("robe:z=8+bf16"), CONFIGS, ratio=10)
    made.save(tmp_path / "plän.json")
    assert Plan.read(tmp_path / "plän.json") == made
    shapes = Plan((TablePlan(CONFIGS[0], 16, parse("tt:rank=4x6:row_factors=20x15x10"), 7),))
    shapes.save(tmp_path / "shapes.json")
    assert Plan.read(tmp_path / "shapes.json") == shapes


def test_a_planned_model_is_the_model_that_the_method_makes(tmp_path):
    """The plan of one method says all that building with the method does: equal values, bytes and ledger."""
    for method in ("tt", "robe:z=8", "hash", "qr", "mlet", "tt+bf16"):
        made = plan(parse(method), CONFIGS, ratio=8)
        made.save(tmp_path / "plan.json")
        direct = TableCollection.build(CONFIGS, method, ratio=8, generator=seeded())
        planned = TableCollection.build(CONFIGS, f"plan:{tmp_path / 'plan.json'}", generator=seeded())
        assert torch.equal(direct(ids()), planned(ids()))
        assert planned.serving_bytes == direct.serving_bytes
        assert sum(table.bytes for table in made.tables) == pytest.approx(direct.serving_bytes, abs=len(CONFIGS))
        assert planned.full_bytes == direct.full_bytes


def test_several_methods_train_fold_and_count_together():
    tables = TableCollection.build(CONFIGS, mixed(), generator=seeded())
    assert [table.spec_name for table in tables.tables] == ["tt", "full", "robe", "hash", "robe"]
    assert tables.tables[3].modifiers == ("bf16",)
    assert len(tables.groups) == 4
    assert tables.tables[2].memory is tables.tables[4].memory
    batch = ids()
    alone = torch.stack([table.lookup(batch[:, t]) for t, table in enumerate(tables.tables)], 1)
    torch.testing.assert_close(tables(batch), alone)
    groups = {group["name"]: len(group["params"]) for group in optimizer_groups(tables)}
    assert groups == {"rows": 3, "tables": 4}  # full, hashed and cached rows; three cores and an array
    optimizer = torch.optim.Adagrad(tables.parameters(), 0.1)
    losses = []
    for _ in range(20):
        loss = (tables(batch) - 0.1).square().sum()
        loss.backward()
        tables.maintain()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    tables.eval()
    folded = tables.fold()
    torch.testing.assert_close(folded(batch), tables(batch).detach(), atol=2e-3, rtol=0)
    assert folded.serving_bytes == tables.serving_bytes == held_bytes(folded)
    other = TableCollection.build(CONFIGS, mixed(), generator=seeded(1)).eval()
    other.load_state_dict(tables.state_dict())
    assert torch.equal(other(batch), tables(batch))


def test_a_plan_for_another_model_is_refused_by_the_table(tmp_path):
    for configs, word in (
        (CONFIGS[:4], "'x'"),
        ([*CONFIGS, TableConfig(9, 16, "more")], "'more'"),
        ([TableConfig(3001, 16, "user"), *CONFIGS[1:]], "3,001"),
    ):
        with pytest.raises(InputError, match=word):
            mixed().on(configs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda plan: plan.update(schema="other/1"), "schema"),
        (lambda plan: plan.update(tables=[]), "no tables"),
        (lambda plan: plan["tables"][1].pop("method"), "table 2.*'method'"),
        (lambda plan: plan["tables"][0].update(method="tt-rec"), "no method 'tt-rec'"),
        (lambda plan: plan["tables"][0]["knobs"].update(rnak=3), "table 1.*'rnak'"),
        (lambda plan: plan["tables"][0].update(num_embeddings="many"), "table 1.*whole"),
        (lambda plan: plan["tables"].__setitem__(2, 7), "table 3"),
        (lambda plan: plan["tables"][0]["knobs"].update(rank=1.5), "table 1.*'rank'"),
        (lambda plan: plan["tables"][2]["knobs"].update(memory=[1, 2]), "table 3.*'memory'"),
    ],
)
def test_a_damaged_file_is_one_sentence_that_names_the_table(change, words, tmp_path):
    mixed().save(tmp_path / "plan.json")
    value = json.loads((tmp_path / "plan.json").read_text())
    change(value)
    (tmp_path / "plan.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=words):
        Plan.read(tmp_path / "plan.json")


def test_what_is_no_plan_is_refused(tmp_path):
    (tmp_path / "text").write_text("no json")
    with pytest.raises(InputError, match="no JSON"):
        Plan.read(tmp_path / "text")
    with pytest.raises(InputError, match="no such plan"):
        parse(f"plan:{tmp_path / 'missing.json'}")
    with pytest.raises(InputError, match="not one method"):
        create(f"plan:{tmp_path / 'text'}", 100, 8)


def test_compress_model_takes_a_plan(tmp_path):
    model = nn.ModuleDict(
        {"a": nn.Embedding(3000, 8), "b": nn.EmbeddingBag(500, 8, mode="sum"), "c": nn.Embedding(50, 8)}
    )
    configs = [TableConfig(3000, 8, "a"), TableConfig(500, 8, "b"), TableConfig(50, 8, "c")]
    methods = [
        MethodSpec("hash", {"k": 10}, modifiers=(ModifierSpec("bf16"),)),
        MethodSpec("tt", {"rank": 2}),
        MethodSpec("full"),
    ]
    Plan(tuple(TablePlan(c, 8, m, 1) for c, m in zip(configs, methods))).save(tmp_path / "p.json")
    done = compress_model(model, f"plan:{tmp_path / 'p.json'}", generator=seeded())
    assert done["method"].tolist() == ["hash:k=10+bf16", "tt:rank=2", "full"]
    assert done["note"].tolist() == ["", "", "full in the plan"]
    assert isinstance(model["c"], nn.Embedding)
    assert model["a"](torch.tensor([1, 2])).shape == (2, 8)


def test_tables_without_names_are_matched_by_their_order():
    configs = [TableConfig(3000, 16), TableConfig(5000, 16)]
    made = Plan(tuple(TablePlan(c, 16, parse(m), 1) for c, m in zip(configs, ("tt:rank=2", "full"))))
    tables = TableCollection.build(configs, made)
    assert [table.spec_name for table in tables.tables] == ["tt", "full"]
    with pytest.raises(InputError, match="2 tables"):
        made.on([*configs, TableConfig(9, 16)])


def test_an_edited_plan_is_sized_anew_and_its_parts_add_up(tmp_path):
    plan(parse("robe:z=8"), CONFIGS, ratio=7).save(tmp_path / "plan.json")
    value = json.loads((tmp_path / "plan.json").read_text())
    value["tables"][0] |= {"method": "tt", "knobs": {"rank": 3}, "bytes": 7}
    (tmp_path / "plan.json").write_text(json.dumps(value))
    made = plan(parse(f"plan:{tmp_path / 'plan.json'}"), CONFIGS)
    tables = TableCollection.build(CONFIGS, made)
    assert sum(table.bytes for table in made.tables) == tables.serving_bytes
    assert made.tables[0].bytes == tables.tables[0].ledger().serving_bytes


@pytest.mark.parametrize(("name", "value"), [("ratio", 0.5), ("ratio", 0), ("ratio", float("nan")), ("budget", 0)])
def test_a_size_that_is_none_is_refused(name, value):
    with pytest.raises(InputError, match=f"a {name} is"):
        plan(parse("tt"), CONFIGS, **{name: value})
