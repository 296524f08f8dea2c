"""`--model MODULE:FUNCTION`: a model of one's own by the command line."""

import inspect
import json
import sys

import pytest
import shop
from click.testing import CliRunner

from embpress.cli.main import main

QUICK = ["--min-rows", "10", "--threads", "1", "--lr", "0.05"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder holds a module of the user's."""
    text = inspect.getsource(shop) + "\n\ndef torn():\n    raise KeyError('no data today')\n\n\ndef typo():\n"
    text += "    return {**task(), 'valid_loadr': 1}\n\n\ndef few():\n    return {'model_fn': TwoTower}\n"
    (tmp_path / "our_shop.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("our_shop", None)


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_several_sizes_are_one_comparison(here):
    options = ["--model", "our_shop:task", "--ratio", "2,4", *QUICK]
    done = call("compare", *options, "--methods", "full,hash", "--out", "out")
    assert done.exit_code == 0, done.output
    records = [json.loads(path.read_text()) for path in (here / "out" / "records").glob("*.json")]
    asked = sorted((record["method"], record["asked"]["ratio"] or 0) for record in records)
    assert asked == [("full", 0), ("hash", 2.0), ("hash", 4.0)]
    assert all(record["metrics"]["ratio"] >= (record["asked"]["ratio"] or 1) for record in records)


def test_compare_and_train_share_a_folder_that_is_named_after_the_model(here):
    options = ["--model", "our_shop:task", "--ratio", "4", *QUICK]
    done = call("compare", *options, "--methods", "full,hash", "--seeds", "2")
    assert done.exit_code == 0, done.output
    assert "our_shop:task: 1,440 train, 160 valid, 400 test; 2 tables, 700 rows in all" in done.stdout
    assert "72 dense parameters, adagrad 0.05, batch 64, 1 epoch, on cpu; 2 methods × 2 seeds" in done.stdout
    again = call("compare", *options, "--methods", "full,hash", "--seeds", "2")
    assert again.stderr.count("kept from before") == 4
    assert call("train", *options, "--method", "tt:rank=2", "--seed", "3").exit_code == 0
    (folder,) = (here / "runs").iterdir()
    assert folder.name.startswith("our_shop-task-")
    records = [json.loads(path.read_text()) for path in (folder / "records").glob("*.json")]
    assert sorted((record["name"], record["seed"]) for record in records) == [
        ("full", 0), ("full", 1), ("hash", 0), ("hash", 1), ("tt", 3)
    ]  # fmt: skip
    assert {record["schema"] for record in records} == {"embpress-run/3"}
    assert "| hash |" in (folder / "report.md").read_text()
    assert str(here) not in sys.path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "our_shop:task", "--rows", "9"], "--rows does not go with --model our_shop:task"),
        (["--model", "our_shop:task", "--top", "9"], "--top does not go with"),
        (["clicks.csv", "--model", "our_shop:task"], "a data file does not go with"),
        (["--model", "nowhere:task"], "ModuleNotFoundError"),
        (["--model", "our_shop:tusk"], "AttributeError"),
        (["--model", "our_shop:torn"], "KeyError: 'no data today'"),
        (["--model", "our_shop:samples"], "must give a dict with model_fn, train_loader and test_loader, got tuple"),
        (["--model", "our_shop:typo"], "did you mean 'valid_loader'"),
        (["--model", "our_shop:few"], "gives no train_loader, test_loader"),
        (["--model", "our_shop:task", "--methods", "rob"], "did you mean 'robe'"),
        (["--model", "our_shop:task", "--out", ""], "--out is empty"),
    ],
)
def test_mistakes_are_one_sentence(arguments, words, here):
    done = call("compare", *arguments)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert "Traceback" not in done.output
    assert [path.name for path in here.iterdir() if not path.name.startswith("__")] == ["our_shop.py"]
