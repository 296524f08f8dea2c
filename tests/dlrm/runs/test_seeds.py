"""Seeds that are added until the differences to the full tables are known."""

import math
from types import SimpleNamespace

import pytest
from scipy.stats import t

from embpress.compressors import InputError, parse_all
from embpress.dlrm.runs.compare import Step
from embpress.dlrm.runs.seeds import AutoSeeds, half_widths, in_rounds


def run_of(method, seed, auc, ok=True, ratio=None):
    return SimpleNamespace(
        method=method,
        seed=seed,
        is_full=method == "full",
        without_seed=f"{method}{ratio}",
        ok=ok,
        metrics={} if auc is None else {"auc": auc},
        asked=SimpleNamespace(ratio=ratio, budget=None),
    )


class Comparison:
    """Runs of made AUCs; remembers which seeds it was asked for."""

    def __init__(self, aucs):
        self.aucs, self.asked = aucs, []

    def __call__(self, seeds):
        self.asked.append(list(seeds))
        for seed in seeds:
            for number, (method, of) in enumerate(self.aucs.items(), 1):
                yield Step(run_of(method, seed, of(seed)), False, number, len(self.aucs))


def noise(seed, spread):
    return spread * (-1) ** seed


def test_it_ends_when_every_difference_is_known_and_all_methods_have_the_same_seeds():
    shared = [0.01, -0.03, 0.02, 0.0, 0.01, -0.02, 0.03, 0.0, 0.01, 0.0]  # what a seed does to all alike is no noise
    made = Comparison(
        {
            "full": lambda s: 0.75 + shared[s],
            "steady": lambda s: 0.74 + shared[s],
            "shaky": lambda s: 0.73 + shared[s] + noise(s, 0.002),
        }
    )
    seen = list(in_rounds(AutoSeeds(0.002), made))
    steps, lines = [s for s in seen if isinstance(s, Step)], [s for s in seen if isinstance(s, str)]

    def width(n):
        values = [noise(s, 0.002) for s in range(n)]
        mean = sum(values) / n
        return t.ppf(0.975, n - 1) * math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)

    enough = next(n for n in range(3, 11) if width(n) <= 0.002)
    assert enough == 7
    assert made.asked == [[0, 1, 2], [3], [4], [5], [6]]
    assert sorted(step.run.seed for step in steps) == sorted(list(range(enough)) * 3)
    assert lines[0] == f"3 seeds: 1 of 2 differences wider than ±0.002: shaky ±{width(3):.4f}"
    assert lines[-1] == f"7 seeds: every difference to the full tables is known to ±{width(7):.4f} or better"


def test_it_ends_at_the_limit_and_says_what_is_open():
    made = Comparison({"full": lambda s: 0.75, "qr": lambda s: 0.7 + noise(s, 0.05), "tt": lambda s: 0.7})
    *_, last = in_rounds(AutoSeeds(0.001, 4), made)
    assert made.asked == [[0, 1, 2], [3]]
    assert last.startswith("4 seeds: 1 of 2 differences wider than ±0.001: qr ±0.0")
    assert last.endswith("; 4 seeds are the limit, --seeds auto:0.001:max=8 goes on")


@pytest.mark.parametrize("without", ["full", "tt"])
def test_what_gives_no_auc_is_not_waited_for(without):
    aucs = {"full": lambda s: 0.75, "tt": lambda s: 0.7 + noise(s, 1e-5)}
    made = Comparison({**aucs, "lost": lambda s: None, without: lambda s: None})
    *_, last = in_rounds(AutoSeeds(0.002), made)
    assert made.asked == [[0, 1, 2]]
    assert "more seeds would tell nothing" in last


def test_a_seed_that_failed_leaves_its_difference_open():
    made = Comparison(
        {"full": lambda s: 0.75, "tt": lambda s: 0.7 if s else None, "qr": lambda s: 0.7 + noise(s, 1e-9)}
    )
    assert half_widths([step.run for step in made(range(2))], 1) == {"tt": math.inf, "qr": pytest.approx(0, abs=1e-7)}


def test_a_given_number_of_seeds_runs_at_once():
    made = Comparison({"full": lambda s: 0.75})
    assert [step.run.seed for step in in_rounds([4, 7], made)] == [4, 7]
    assert made.asked == [[4, 7]]


def test_one_method_at_two_sizes_is_two_differences_and_runs_of_other_seeds_are_left_out():
    runs = [run_of("full", s, 0.75) for s in (0, 1)]
    runs += [
        run_of("tt", s, 0.7 + noise(s, spread), ratio=r) for s in (0, 1) for r, spread in ((4.0, 0.0), (16.0, 0.01))
    ]
    runs += [run_of("trial", 0, 0.7)]
    found = half_widths(runs, 1)
    assert list(found) == ["tt @4", "tt @16"]
    assert found["tt @4"] == pytest.approx(0, abs=1e-9)
    assert found["tt @16"] > 0.1


def test_as_a_sequence_it_is_all_seeds_up_to_the_limit():
    seeds = AutoSeeds.parse("auto:0.01:max=5")
    assert (seeds.half_width, list(seeds), len(seeds), list(seeds[3:9])) == (0.01, [0, 1, 2, 3, 4], 5, [3, 4])
    assert AutoSeeds.parse("auto:0.002") == AutoSeeds(0.002, 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("auto", "is a number of seeds or auto:HALF_WIDTH"),
        ("auto:", "is a number of seeds or auto:HALF_WIDTH"),
        ("auto:x", "got auto:x"),
        ("auto:0.002:min=3", "got auto:0.002:min=3"),
        ("auto:0.002:max=", "got auto:0.002:max="),
        ("automatic:0.1", "got automatic:0.1"),
        ("auto:0", "between 0 and 1, got 0"),
        ("auto:nan", "between 0 and 1, got nan"),
        ("auto:2", "between 0 and 1, got 2"),
        ("auto:0.002:max=2", "max is 3 to 1000 seeds, got 2"),
        ("auto:0.002:max=5000", "max is 3 to 1000 seeds, got 5000"),
    ],
)
def test_what_cannot_be_meant_is_named(text, said):
    with pytest.raises(InputError, match=said) as caught:
        AutoSeeds.parse(text)
    assert "--seeds" in str(caught.value)


def test_without_full_tables_there_is_nothing_to_differ_from():
    AutoSeeds(0.002).check(parse_all("full,tt"))
    with pytest.raises(InputError, match="the methods have no full: add it"):
        AutoSeeds(0.002).check(parse_all("tt,narrow+int4"))
