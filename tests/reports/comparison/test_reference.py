"""The published AUC stands beside ours only where the test part is the published one."""

from dataclasses import replace

import pytest
from made_runs import made_run

from embpress.dlrm.data.named import datasets
from embpress.reports import summary_cells, write_report
from embpress.reports.comparison.reference import reference
from embpress.reports.summary import summary

PUBLISHED = datasets()["criteo-x1"]


def runs(*methods, **about):
    made = [made_run(method, 0, None if method == "full" else 16.0, 0.8101) for method in methods]
    return [replace(run, data=replace(run.data, about={**run.data.about, **about})) for run in made]


def said(made):
    return reference(summary(made))


def test_it_stands_by_the_table_with_its_source(tmp_path):
    made = runs("full", "robe", dataset="criteo-x1", as_published=True)
    expected = f"Published test AUC on criteo-x1: {PUBLISHED.auc:.4f} ({PUBLISHED.auc_from}); full tables here 0.8101"
    assert said(made) == expected
    assert expected in summary_cells(made, 100)[2]
    report = write_report(tmp_path, made, html=True).read_text()
    assert expected in report.partition("## Results")[2].partition("## Plots")[0]
    assert "Published test AUC on criteo-x1" in (tmp_path / "report.html").read_text()


def test_without_full_tables_it_says_so():
    made = runs("robe", dataset="criteo-x1", as_published=True)
    assert said(made).endswith("; no full tables were run here")


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"dataset": "criteo-x1"},
        {"dataset": "criteo-x1", "as_published": False},
        {"dataset": "criteo-kaggle", "as_published": True},  # no AUC is published for its split
        {"dataset": "of another version", "as_published": True},
    ],
    ids=str,
)
def test_it_does_not_stand_by_other_data(about):
    assert said(runs("full", "robe", **about)) == ""


def test_runs_of_several_data_sets_have_none():
    made = [*runs("full", dataset="criteo-x1", as_published=True), *runs("robe")]
    assert said(made) == ""
