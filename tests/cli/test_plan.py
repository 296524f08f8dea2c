"""`embpress plan`, and plans as methods of compare and train."""

import json

import pytest
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.reports import load

DATA = ["--rows", "3000", "--scale", "0.001", "--min-count", "1", "--threads", "1"]


def call(command, *options):
    return CliRunner().invoke(main, [command, *DATA, *map(str, options)])


@pytest.fixture
def saved(tmp_path):
    """The plan of ROBE at a ratio of 8, as the command saves it."""
    done = call("plan", "--method", "robe:z=4", "--ratio", "8", "--save", tmp_path / "plan.json")
    assert done.exit_code == 0, done.output
    assert "robe:z=4:size=" in done.stdout
    assert "8.0×" in done.stdout
    return tmp_path / "plan.json"


def test_a_saved_plan_is_not_written_over_unasked(saved):
    before = saved.read_text()
    done = call("plan", "--method", "hash", "--ratio", "4", "--save", saved)
    assert (done.exit_code, saved.read_text()) == (2, before)
    assert "is there already" in done.stderr
    assert call("plan", "--method", "hash", "--ratio", "4", "--save", saved, "--force").exit_code == 0
    assert "hash" in saved.read_text()


def test_a_plan_of_one_method_gives_that_methods_numbers(saved, tmp_path):
    done = call("compare", "--methods", f"robe:z=4:ratio=8,plan:{saved}", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    frame = load(tmp_path / "run").set_index("method")
    robe, plan = frame.loc["robe:z=4:ratio=8"], frame.loc[f"plan:{saved}"]
    assert plan["auc"] == robe["auc"]
    assert plan["serving_bytes"] == robe["serving_bytes"]


def test_an_edited_plan_mixes_methods_and_is_another_run(saved, tmp_path):
    folder = tmp_path / "run"
    assert call("train", "--method", f"plan:{saved}", "--out", folder).exit_code == 0
    value = json.loads(saved.read_text())
    sizes = sorted(value["tables"], key=lambda table: -table["num_embeddings"])
    sizes[0] |= {"method": "tt", "knobs": {"rank": 2}, "modifiers": [{"name": "bf16", "knobs": {}}]}
    sizes[1] |= {"method": "hash", "knobs": {"k": 20}, "modifiers": []}
    saved.write_text(json.dumps(value))
    done = call("compare", "--methods", f"full,plan:{saved}", "--out", folder)
    assert done.exit_code == 0, done.output
    records = [json.loads(path.read_text()) for path in (folder / "records").glob("plan*.json")]
    assert len(records) == 2, "the edited plan was taken for the one that had run"
    mixed = next(r for r in records if any(t["method"] == "tt" for t in r["tables"]))
    assert {t["method"] for t in mixed["tables"]} == {"tt", "hash", "robe", "full"}
    table = next(t for t in mixed["tables"] if t["method"] == "tt")
    assert (table["modifiers"], table["knobs"]["rank"]) == (["bf16"], 2)
    assert mixed["metrics"]["serving_bytes"] == pytest.approx(sum(t["serving_bytes"] for t in mixed["tables"]), abs=30)
    assert "plan:" in (folder / "report.md").read_text()


def test_a_plan_for_other_data_is_refused_before_anything_runs(saved, tmp_path):
    done = CliRunner().invoke(
        main,
        [
            "compare",
            "--rows",
            "2000",
            "--scale",
            "0.002",
            "--methods",
            f"full,plan:{saved}",
            "--out",
            str(tmp_path / "x"),
        ],
    )
    assert done.exit_code == 2
    assert "the plan has the table" in done.stderr
    assert not (tmp_path / "x").exists()


def test_a_plan_is_searched_for_saved_and_used(tmp_path):
    plan = tmp_path / "new" / "plan.json"  # folders on the way are made
    done = call("plan", "--ratio", "8", "--probe-minutes", "0.05", "--probes", tmp_path, "--out", plan)
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    assert "chosen: " in text
    assert "full tables" in text
    assert f"--methods full,plan:{plan}" in text
    bytes_ = json.loads(plan.read_text())["about"]["promise"]["serving_bytes"]
    done = call("compare", "--methods", f"plan:{plan}", "--ratio", "8", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert load(tmp_path / "run")["serving_bytes"].tolist() == [bytes_]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "say how small the tables shall be"),
        (("--ratio", "8", "--probe-minutes", "inf"), "--probe-minutes must be above 0 and finite"),
        (("--ratio", "8", "--method", "hash", "--max-lookup-us", "5"), "goes with a search"),
        (("--ratio", "8", "--out", "/dev/null/no/folder/plan.json"), "cannot be written"),
        (("--ratio", "4,8"), "ratio"),
    ],
)
def test_what_no_plan_can_be_made_for_is_refused(options, words):
    done = call("plan", *options)
    assert done.exit_code == 2
    assert words in done.stderr
