"""`--tune` on the command line: what is said while it runs, in the report, and of what is refused."""

import inspect
import json
import sys

import pytest
import shop
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.dlrm import compare_models

SMALL = ["--rows", "3000", "--scale", "0.001", "--min-count", "1", "--threads", "1"]


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def records(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def test_compare_tells_trials_then_runs_and_the_same_command_repeats_neither(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["compare", *SMALL, "--methods", "full,tt:rank=2,narrow:ratio=900", "--tune", "lr:0.01,0.5"]
    done = call(*command)
    assert done.exit_code == 0, done.output
    assert "adagrad rates tuned by lr:0.01,0.02,0.5 (3 trials a method), batch" in " ".join(done.stdout.split())
    lines = done.stderr.splitlines()
    trials = [line for line in lines if line.startswith("[trial ")]
    assert len(trials) == 6
    assert trials[0].startswith("[trial 1/9] full · rate 0.02: validation AUC 0.")
    assert trials[5].startswith("[trial 6/9] tt:rank=2 · rate 0.5: validation AUC 0.")
    assert [line.split(":")[0] for line in lines[6:8]] == ["[1/3] full · seed 0", "[2/3] tt"]
    assert "cannot reach 900×" in lines[8]
    (folder,) = (tmp_path / "runs").iterdir()
    assert len(records(folder / "trials" / "records")) == 6
    text = (folder / "report.md").read_text()
    assert "## Tuning" in text
    assert "tuned by lr:0.01,0.02,0.5" in text
    again = call(*command)
    assert again.exit_code == 0, again.output
    assert "[trial " not in again.stderr
    assert again.stderr.count("kept from before") == 2
    # a seed more, by train
    more = call("train", *SMALL, "--method", "full", "--seed", "1", "--tune", "lr:0.5,0.01")
    assert more.exit_code == 0, more.output
    assert "[trial " not in more.stderr
    tuned = [record["tuned"] for record in records(folder / "records") if record["method"] == "full"]
    assert len(tuned) == 2
    assert tuned[0] == tuned[1]


def test_a_plan_that_was_changed_is_tuned_anew(tmp_path):
    plan, folder = tmp_path / "plan.json", tmp_path / "run"
    for method in ("hash", "robe:z=4"):
        done = call("plan", *SMALL, "--method", method, "--ratio", "6", "--out", plan, "--force")
        assert done.exit_code == 0, done.output
        command = ["compare", *SMALL, "--methods", f"plan:{plan}", "--tune", "lr:0.01", "--out", folder]
        done = call(*command)
        assert done.exit_code == 0, done.output
        assert done.stderr.count("[trial ") == 2
    of_hash, of_robe = sorted(records(folder / "records"), key=lambda record: record["created"])
    for record in (of_hash, of_robe):
        assert record["tuned"]["valid_auc"] == record["metrics"]["valid_auc"]


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("foo", "no way 'foo' to tune"),
        ("lr:0", "a learning rate must be a positive number, got '0'"),
        ("optuna:trials=0", "trials is '0'"),
        ("", "--tune is empty"),
    ],
)
@pytest.mark.parametrize("command", ["compare", "train"])
def test_what_is_refused_leaves_nothing(command, way, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call(command, *SMALL, "--tune", way)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert "Traceback" not in done.output
    assert not list(tmp_path.iterdir())


def test_a_model_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "tuned_shop.py").write_text(inspect.getsource(shop))
    monkeypatch.chdir(tmp_path)
    options = ["--model", "tuned_shop:task", "--ratio", "4", "--min-rows", "10", "--threads", "1", "--epochs", "2"]
    try:
        done = call("compare", *options, "--methods", "full,robe", "--tune", "all:trials=5", "--seeds", "2")
    finally:
        sys.modules.pop("tuned_shop", None)
    assert done.exit_code == 0, done.output
    assert done.stderr.count("[trial ") == 10
    (folder,) = (tmp_path / "runs").iterdir()
    trials, runs = records(folder / "trials" / "records"), records(folder / "records")
    assert (len(trials), len(runs)) == (10, 4)
    for run in runs:
        own = [trial for trial in trials if trial["name"] == run["name"]]
        best = max(own, key=lambda trial: trial["metrics"]["valid_auc"])
        assert run["tuned"]["chosen"]["learning_rate"] == best["training"]["learning_rate"]
        assert run["tuned"]["valid_auc"] == best["metrics"]["valid_auc"]
        assert run["training"]["learning_rate"] == "tuned by all:trials=5 from 0.02"
        if run["seed"] == 0:
            assert run["metrics"] == best["metrics"]
    assert {trial["knobs"].get("init_scale") for trial in trials if trial["name"] == "robe"} > {1.0}


def test_by_python_it_is_a_keyword(tmp_path):
    runs = compare_models(**shop.task(), methods="full", folder=tmp_path, tune="lr:0.1", min_rows=10)
    assert [run.tuned.trials for run in runs] == [2]
    assert len(records(tmp_path / "trials" / "records")) == 2
