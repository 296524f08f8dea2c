"""`begin_training`: every table of a model is told once how long training will be."""

import copy

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from embpress.cli.main import main
from embpress.compressors import (
    InputError,
    TableCollection,
    TableConfig,
    begin_training,
    create,
    load_training_state,
    maintain,
    training_state,
)
from embpress.compressors.methods.full import Full
from embpress.compressors.methods.hashing import HashingTrick
from embpress.dlrm.runs.store import read_all


@pytest.fixture
def told(monkeypatch):
    """What tables were told, with their rows, in order."""
    said = []
    for cls in (Full, HashingTrick):
        monkeypatch.setattr(
            cls, "begin_training", lambda self, steps, epochs: said.append((self.num_embeddings, steps, epochs))
        )
    return said


def test_every_table_in_a_model_is_told_once(told):
    tables = TableCollection.build([TableConfig(300, 4, "a"), TableConfig(400, 4, "b")], "hash+bf16", ratio=2)
    shared = create("full", 5, 4)
    model = nn.ModuleDict({"tables": tables, "x": shared, "again": shared, "rounded": create("full+bf16", 6, 4)})
    model["dense"] = nn.Linear(4, 1)
    assert begin_training(model, 120, epochs=3) is None
    assert sorted(told) == [(5, 120, 3), (6, 120, 3), (300, 120, 3), (400, 120, 3)]
    told.clear()
    tables.begin_training(7, 1)
    assert told == [(300, 7, 1), (400, 7, 1)]


@pytest.mark.parametrize(("steps", "epochs", "word"), [(0, 1, "steps"), (10.5, 1, "steps"), (10, 0, "epochs")])
def test_numbers_that_no_training_has_are_refused(steps, epochs, word):
    with pytest.raises(InputError, match=word):
        begin_training(create("full", 5, 4), steps, epochs)


def test_methods_that_need_no_notice_take_none():
    table = create("hash", 50, 4)
    before = table.to_dense()
    begin_training(table, 10)
    assert torch.equal(table.to_dense(), before)


def test_the_training_loop_tells_steps_and_epochs(told, tmp_path):
    sizes = ["--rows", "4000", "--scale", "0.001", "--batch-size", "512", "--epochs", "2", "--min-rows", "10"]
    done = CliRunner().invoke(main, ["train", *sizes, "--method", "hash:k=5", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (run,) = read_all(tmp_path)
    assert run.learning_curve[-1].step > 2
    assert {(steps, epochs) for _, steps, epochs in told} == {(run.learning_curve[-1].step, 2)}


def test_what_a_training_remembers_goes_to_the_table_of_that_name_alone():
    model = nn.ModuleDict(
        {"a": create("prune:keep=0.5", 40, 4), "b": create("cce:k=4", 40, 4), "c": create("full", 9, 4)}
    )
    begin_training(model, 60)
    for _ in range(7):
        for table in model.values():
            table(torch.tensor([[1], [2]])).sum().backward()
        maintain(model)
    state = training_state(model)
    assert state == {"a": {"pruning": True, "_steps": 7}, "b": {"_steps": 7, "_replaced": False}}
    again = copy.deepcopy(model)
    begin_training(again, 60)
    assert training_state(again) != state
    load_training_state(again, state)
    assert training_state(again) == state
    other = nn.ModuleDict({"a": create("full", 40, 4), "b": create("cce:k=4", 40, 4)})
    with pytest.raises(InputError, match=r"another model: it differs in a$"):
        load_training_state(other, state)
