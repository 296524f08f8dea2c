"""What the report says to do with its answer."""

import shlex

import pytest
from made_runs import made_run, made_runs

from embpress.dlrm.runs.record import LOADERS, Run
from embpress.reports import use_lines, write_report
from embpress.reports.comparison.headline import best
from embpress.reports.comparison.use import use


def said(run, **changes):
    return Run.from_json({**run.to_json(), **changes})


def command(tmp_path, typed, method="tt", **changes):
    run = made_run(method, changes.pop("seed", 0), changes.pop("ratio", 16.0), 0.75, command=typed, **changes)
    lines = dict(line.split(": ", 1) for line in use_lines([made_run("full", 0, None, 0.74), run], tmp_path))
    return lines.get("use it", ""), lines.get("in a model of your own", "")


@pytest.mark.parametrize(
    ("typed", "use_it"),
    [
        (
            "embpress compare a.csv --methods full,tt --ratio 16 --seeds 5 --epochs 3",
            "embpress compare a.csv --epochs 3 --methods tt --ratio 16 --keep-weights",
        ),
        ("embpress compare --ratio=4,16 --methods=all", "embpress compare --methods tt --ratio 16 --keep-weights"),
        ("embpress compare", "embpress compare --methods tt --ratio 16 --keep-weights"),
        (
            "embpress compare 'my clicks.csv' --out 'runs/a b' --keep-weights",
            "embpress compare 'my clicks.csv' --out 'runs/a b' --methods tt --ratio 16 --keep-weights",
        ),
        ("embpress train --method tt --ratio 16", "embpress train --method tt --ratio 16 --keep-weights"),
        ("embpress bench tt", ""),
        ("python mine.py", ""),
        ("embpress compare 'unclosed", ""),
        ("", ""),
    ],
)
def test_the_command_is_that_of_the_runs_with_one_method(typed, use_it, tmp_path):
    assert command(tmp_path, typed) == (use_it, 'compress_model(model, "tt", ratio=16)')


def test_other_sizes_seeds_and_names(tmp_path):
    budget = command(tmp_path, "embpress compare --budget 2M", asked={"budget": 2_000_000})
    assert budget == (
        "embpress compare --methods tt --budget 2000000 --keep-weights",
        'compress_model(model, "tt", budget=2000000)',
    )
    fraction = command(tmp_path, "embpress compare", ratio=2.5)
    assert "--ratio 2.5" in fraction[0]
    trained = command(tmp_path, "embpress train --seed 3", seed=3)[0]
    assert trained.endswith("--method tt --ratio 16 --seed 3 --keep-weights")
    own = command(tmp_path, "embpress compare", "tt:ratio=30", asked={})
    assert own == (
        "embpress compare --methods tt:ratio=30 --keep-weights",
        'compress_model(model, "tt:ratio=30")',
    )
    odd = command(tmp_path, "embpress compare", 'a\'b;rm -rf "$HOME"')[0]
    assert shlex.split(odd)[3] == 'a\'b;rm -rf "$HOME"'


def test_a_model_of_the_users_own_takes_the_line_alone(tmp_path):
    run = made_run("tt", 0, 16.0, 0.75, command="embpress compare --model shop:task --ratio 16")
    data = {**run.to_json()["data"], "format": LOADERS}
    assert use_lines([said(run, data=data)], tmp_path) == [
        'in a model of your own: compress_model(model, "tt", ratio=16)'
    ]
    assert "```python\ncompress_model(" in use([said(run, data=data)], tmp_path)


def test_a_plan_has_no_line_as_its_tables_are_those_of_these_data(tmp_path):
    found = command(tmp_path, "embpress compare", "plan:p.json", asked={}, plan="abc")
    assert found == ("embpress compare --methods plan:p.json --keep-weights", "")


def test_weights_that_are_there_are_exported(tmp_path):
    run = made_run("tt", 4, 16.0, 0.75)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / f"{run.id}.pt").write_bytes(b"")
    line = use_lines([run], tmp_path)[0]
    assert line == f"use it: embpress export {tmp_path} --method tt --seed 4 --ratio 16 --to served"


def test_where_nothing_is_best_nothing_is_said(tmp_path):
    for runs in ([made_run("full", 0, None, 0.74)], [made_run("tt", 0, 1.0, 0.74)]):
        assert best(runs) is None
        assert use_lines(runs, tmp_path) == []
        assert use(runs, tmp_path) == ""


def test_of_several_sizes_the_smallest_that_costs_nothing_clear():
    def runs(losses, seeds=3):
        found = [made_run("full", seed, None, 0.75 + seed / 1000) for seed in range(seeds)]
        for ratio, loss in losses.items():
            for seed in range(seeds):
                jitter = (0.0002, -0.0003, 0.0001)[seed]
                found.append(made_run("tt", seed, ratio, 0.75 + seed / 1000 - loss + jitter))
        return found

    assert best(runs({4.0: 0.0, 16.0: 0.0001, 64.0: 0.01})).asked_ratio == 16
    assert best(runs({4.0: 0.005, 16.0: 0.01})).asked_ratio == 4  # all cost: the one that costs least
    assert best(runs({4.0: 0.001, 16.0: 0.01}, seeds=1)).asked_ratio == 4  # one seed says nothing


def test_it_stands_right_below_the_answer(tmp_path):
    text = write_report(tmp_path, made_runs(5, 2, (16.0,))).read_text(encoding="utf-8")
    answer = text.partition("## Answer")[2].partition("\n## ")[0]
    assert text.startswith("# Compressed embedding tables: made\n\n## Answer\n\n")
    assert "--methods robe+int4 --ratio 16 --keep-weights\n```" in answer
    assert '`compress_model(model, "robe+int4", ratio=16)`' in answer
