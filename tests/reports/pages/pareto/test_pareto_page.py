"""Fronts, with what the spread of the seeds leaves open."""

from embpress.reports import write_report
from embpress.reports.pages.pareto.data import COSTS, front
from embpress.reports.pages.pareto.page import NOTHING, lacks
from embpress.reports.summary import summary


def made(run):
    def three(method, ratio, *aucs):
        return [run(method, seed, ratio=ratio, auc=auc) for seed, auc in enumerate(aucs)]

    return [
        *three("full", 1.0, 0.750, 0.752, 0.749),
        *three("tt", 16.0, 0.741, 0.743, 0.740),
        *three("qr", 15.95, 0.7395, 0.7445, 0.7395),  # level with tt, at its size
        *three("hash", 16.1, 0.720, 0.722, 0.719),  # a little smaller, and far behind
        *three("robe", 8.0, 0.7412, 0.7429, 0.7402),  # larger than tt, and not ahead beyond chance
    ]


def test_verdicts(run):
    found = {place.row.name: place for place in front(summary(made(run)), COSTS[0])}
    assert {name: place.verdict for name, place in found.items()} == {
        "full": "on",
        "tt": "on",
        "robe": "on",
        "qr": "may be",
        "hash": "off",
    }
    assert found["hash"].beaten == ("tt", "qr")
    assert found["robe"].level == ("tt", "qr")
    assert found["full"].level == found["tt"].level == ()


def test_one_seed_leaves_all_open(run):
    runs = [one for one in made(run) if one.seed == 0]
    found = {place.row.name: place.verdict for place in front(summary(runs), COSTS[0])}
    assert found["hash"] == "may be"


def test_latencies_within_some_percent_are_one(run):
    runs = [
        run("tt", 0, lookup=40.0, auc=0.74),
        run("qr", 0, lookup=39.0, auc=0.70),
        run("hash", 0, lookup=30.0, auc=0.6),
    ]
    assert [place.row.name for place in front(summary(runs), COSTS[2]) if place.on] == ["hash", "tt"]


def test_the_page(run, lost, tmp_path):
    runs = [*made(run), lost("dhe")]
    write_report(tmp_path, runs, ["pareto"])
    text = (tmp_path / "pareto.md").read_text()
    for cost in COSTS:
        assert f"## {cost.name}" in text
        assert (tmp_path / "plots" / f"front_{cost.name.lower().replace(' ', '_')}.png").exists()
    assert "dhe" not in text
    assert lacks(runs) == ""
    assert lacks([lost("dhe")]) == NOTHING
    write_report(tmp_path, [lost("dhe")], ["pareto"])
    assert NOTHING in (tmp_path / "pareto.md").read_text()
