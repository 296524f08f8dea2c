"""Ways to tune: what they propose, how many, in which order; how they are written, and one from a folder elsewhere."""

import math
import sys

import pytest

from embpress.cli.options import TUNE
from embpress.compressors import InputError
from embpress.dlrm import tuning
from embpress.dlrm.training.model import describe_training
from embpress.dlrm.training.settings import resolve
from embpress.dlrm.tuning import RATE, forms, parse, ways

KNOBS = {"scale": (4.0, 0.25, 2.0), "init": ("wide", "narrow")}


def proposals(way, score, rate=0.02, knobs=KNOBS):
    """All that a way tries where trials have these scores."""
    search = way.search(rate, knobs if way.tunes_knobs else {})
    tried = [next(search)]
    while True:
        try:
            tried.append(search.send(score(tried[-1])))
        except StopIteration:
            return tried


def hill(best, scale=1.0):
    """A score that falls with the distance from a rate, in octaves, and from a scale."""
    return lambda values: -abs(math.log2(values[RATE] / best)) - abs(math.log2(values.get("scale", 1.0) / scale))


def of(name, **options):
    if name == "optuna":
        pytest.importorskip("optuna")
    return parse(":".join([name, *(f"{key}={value}" for key, value in options.items())]), 0.02)


WAYS = [("lr", {}), ("all", {}), ("all", {"trials": 1}), ("all", {"trials": 100}), ("optuna", {"trials": 6})]


@pytest.mark.parametrize(("name", "options"), WAYS)
@pytest.mark.parametrize("knobs", [{}, KNOBS])
@pytest.mark.parametrize("score", [hill(0.05), hill(0.001, 4.0), lambda values: -math.inf, lambda values: 0.5])
def test_every_method_has_as_many_trials_and_the_settings_own_values_come_first(name, options, knobs, score):
    way = of(name, **options)
    tried = proposals(way, score, knobs=knobs)
    assert len(tried) == way.trials
    assert tried[0] == {RATE: 0.02}
    assert all(0 < values[RATE] < math.inf for values in tried)
    assert all(values[key] in KNOBS[key] for values in tried for key in values if key != RATE)
    if name != "optuna":
        assert all(values not in tried[:i] for i, values in enumerate(tried))
    assert tried == proposals(way, score, knobs=knobs)  # what a killed search is taken up by


def test_a_grid_of_rates():
    assert [values[RATE] for values in proposals(of("lr"), hill(1))] == [0.02, 0.005, 0.01, 0.04, 0.08]
    given = parse("lr:0.1,0.005, 0.1", 0.02)
    assert [values[RATE] for values in proposals(given, hill(1))] == [0.02, 0.005, 0.1]
    assert given.label == "lr:0.005,0.02,0.1"
    assert parse("lr", 0.1).label == "lr:0.025,0.05,0.1,0.2,0.4"


@pytest.mark.parametrize("best", [0.001, 0.02, 0.11, 0.7])
@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0])
def test_the_pattern_search_climbs_to_a_rate_and_a_knob(best, scale):
    tried = proposals(of("all", trials=24), hill(best, scale))
    found = max(tried, key=hill(best, scale))
    assert abs(math.log2(found[RATE] / best)) < 0.15  # an eighth of an octave, and rounding
    assert found.get("scale", 1.0) == scale


def test_a_method_without_knobs_has_its_trials_for_a_finer_grid():
    rates = [values[RATE] for values in proposals(of("all"), hill(0.02), knobs={})]
    assert rates == [0.02, 0.04, 0.01, 0.0283, 0.0141, 0.0238, 0.0168, 0.0218]


def test_optuna_finds_more_than_it_began_with():
    pytest.importorskip("optuna")
    score = hill(0.1, 4.0)

    def auc(values):
        return 0.9 + score(values) / 20

    tried = proposals(of("optuna", trials=40), auc)
    assert max(map(auc, tried)) > auc(tried[0]) + 0.1
    assert tried != proposals(of("optuna", trials=40, seed=1), auc)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("foo", "no way 'foo' to tune; known: all, lr, optuna"),
        ("lrs", "did you mean 'lr'"),
        ("lr:", "says nothing after its colon; it is written lr or lr:0.005,0.01,0.02"),
        ("lr:0", "a learning rate must be a positive number, got '0'"),
        ("lr:0.1,,0.2", "a positive number, got ''"),
        ("lr:nan", "a positive number, got 'nan'"),
        ("lr:1e999", "a positive number"),
        ("lr:" + ",".join(map(str, range(1, 200))), "at most 100 rates, got 200"),
        ("all:trials=0", "trials is '0', but it must be a whole number between 1 and 100"),
        ("all:trials=x", "trials is 'x'"),
        ("all:8", "is written all or all:trials=8, got '8'"),
        ("optuna:trials=0", "trials is '0'"),
        ("optuna:trials=1" + "0" * 5000, "between 1 and 100"),
        ("optuna:trails=3", "is written optuna or"),
    ],
)
def test_what_is_written_otherwise_is_refused_before_anything_runs(text, words):
    with pytest.raises(InputError) as error:
        resolve(3000, tune=text)
    assert words in str(error.value)
    assert len(str(error.value)) < 200


def test_optuna_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"tune optuna needs the Python package optuna.*pip install optuna"):
        resolve(3000, tune="optuna:trials=3")


def test_the_way_stands_for_the_rate_in_what_runs_share():
    def rate(**options):
        return describe_training(resolve(3000, **options))["learning_rate"]

    assert rate(learning_rate=0.1) == 0.1
    texts = [
        rate(tune="lr"),
        rate(tune="lr", learning_rate=0.1),
        rate(tune="lr:0.1"),
        rate(tune="all"),
        rate(tune="all:trials=9"),
        rate(tune="all", learning_rate=0.1),
    ]
    assert len(set(texts)) == len(texts)
    assert texts[0] == "tuned by lr:0.005,0.01,0.02,0.04,0.08"
    assert rate(tune="all:trials=8") == rate(tune="all")
    assert rate(tune="lr:0.04,0.005", learning_rate=0.02) == rate(tune="lr:0.02,0.04", learning_rate=0.005)


def test_a_way_from_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "halves.py").write_text(
        '"""`halves`: the rate and a half of it."""\n\n'
        "from embpress.dlrm.tuning import RATE, Tuning\n\n\n"
        "class Halves(Tuning):\n"
        '    name = form = "halves"\n\n'
        "    @classmethod\n"
        "    def of(cls, argument, rate):\n"
        '        return cls("halves", 2)\n\n'
        "    def search(self, rate, knobs):\n"
        "        yield {RATE: rate}\n"
        "        yield {RATE: rate / 2}\n"
    )
    monkeypatch.setattr(tuning, "__path__", [*tuning.__path__, str(tmp_path)])
    try:
        assert proposals(of("halves"), hill(1)) == [{RATE: 0.02}, {RATE: 0.01}]
        assert forms()["halves"] == "the rate and a half of it"
    finally:
        sys.modules.pop(f"{tuning.__name__}.halves", None)


def test_help_has_every_way():
    (option,) = TUNE(lambda: None).__click_params__
    assert set(ways()) == {"all", "lr", "optuna"}
    for form, about in forms().items():
        assert f"{form}: {about}." in option.help
        assert form.split("[")[0] in ways()
