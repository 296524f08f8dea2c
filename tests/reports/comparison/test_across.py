"""One table of several run folders, against runs whose AUC is known."""

import pytest

from embpress.compressors import InputError
from embpress.reports.comparison.across import across

ASKED = {"ratio": 16.0}


def rows(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]


def cells(text: str, method: str) -> list[list[str]]:
    """The cells of the rows of a method, in the order of the tables."""
    return [row[1:] for row in rows(text) if row[0] == method]


@pytest.fixture
def run(run):
    return lambda *of, **changes: run(*of, **{"asked": ASKED, **changes})


@pytest.fixture
def folder(run):
    def make(shift: float, ratio: float = 16.0):
        made = []
        for seed, noise in enumerate((0.0, 0.01, 0.02)):
            made.append(run("full", seed, auc=0.8 + noise))
            made.append(run("robe", seed, auc=0.8 + noise - shift, ratio=ratio, asked=ASKED))
        return made

    return make


def test_a_method_is_a_row_and_a_folder_a_column(folder):
    text = across({"one": folder(0.03), "two": folder(0.05)})
    assert cells(text, "full (1×)") == [["0.8100 ± 0.0100", "0.8100 ± 0.0100"]]
    assert cells(text, "robe") == [
        ["0.7800 ± 0.0100", "0.7600 ± 0.0100"],
        ["**−0.0300 ± 0.0000**", "**−0.0500 ± 0.0000**"],  # paired by seed: nothing is left of the noise
    ]


def test_methods_come_by_their_mean_rank(run):
    first = {"full": 0.8, "qr": 0.7, "robe": 0.75, "tt": 0.76}
    other = {"full": 0.8, "qr": 0.79, "robe": 0.78}
    text = across({name: [run(m, auc=auc) for m, auc in made.items()] for name, made in (("a", first), ("b", other))})
    assert [row[0] for row in rows(text)[2:6]] == ["full (1×)", "qr", "robe", "tt"]
    assert cells(text, "tt") == [["0.7600", "–"], ["−0.0400", "–"]]


def test_another_size_than_the_one_asked_for_is_said(folder):
    text = across({"one": folder(0.03, ratio=8.0), "two": folder(0.03)})
    assert cells(text, "robe")[0] == ["0.7800 ± 0.0100 (8.0×)", "0.7800 ± 0.0100"]


def test_a_folder_of_several_sizes_has_a_column_for_each(run):
    sizes = [run("robe", auc=0.8 - ratio / 100, ratio=ratio, asked={"ratio": ratio}) for ratio in (4.0, 16.0)]
    text = across({"one": [run("full", auc=0.8), *sizes]})
    assert rows(text)[0] == ["Method", "one 4×", "one 16×"]
    assert cells(text, "robe") == [["0.7600", "0.6400"], ["−0.0400", "−0.1600"]]


def test_a_method_with_a_size_of_its_own_stands_among_the_others(run):
    made = [run("full", auc=0.8), run("robe", auc=0.7, asked=ASKED)]
    made.append(run("mlet:ratio=15", auc=0.75, ratio=15.2, asked={"ratio": 15.0}))
    text = across({"one": made, "two": made})
    assert rows(text)[0] == ["Method", "one", "two"]
    assert cells(text, "mlet:ratio=15")[0] == ["0.7500 (15.2×)"] * 2


def test_what_cannot_be_reached_says_how_small_it_goes(run, lost, folder):
    gone = lost("robe", status="cannot reach", asked=ASKED, smallest={"bytes": 1, "ratio": 5.3})
    text = across({"one": [run("full", auc=0.8), gone], "two": folder(0.03)})
    assert cells(text, "robe")[0][0] == "(smallest 5.3×)"


def test_one_column_is_no_table(folder):
    with pytest.raises(InputError, match="at least two"):
        across({"one": folder(0.03)})


def test_any_metric_and_the_better_one_first(run):
    made = [run("full", log_loss=0.4), run("qr", log_loss=0.5), run("robe", log_loss=0.45)]
    text = across({"one": made, "two": made}, "log_loss")
    assert [row[0] for row in rows(text)[2:5]] == ["full (1×)", "robe", "qr"]
    assert cells(text, "qr") == [["0.5000", "0.5000"], ["+0.1000", "+0.1000"]]
    with pytest.raises(InputError, match="log_loss"):
        across({"one": made, "two": made}, "log_los")


def test_what_serving_costs_has_a_table_of_its_own(run):
    made = [run("full", auc=0.8), run("robe+int4", auc=0.79, auc_trained=0.792), run("robe", auc=0.78)]
    text = across({"one": made, "two": made})
    assert cells(text, "robe+int4")[2] == ["−0.0020", "−0.0020"]
    assert len(cells(text, "robe")) == 2
