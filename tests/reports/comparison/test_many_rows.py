"""A folder of hundreds of runs still makes a report that is read."""

import re

import pytest
from made_runs import made_runs

from embpress.reports import write_report


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    return write_report(folder, made_runs(20, 2, (4.0, 16.0, 64.0)), html=True).read_text(encoding="utf-8")


def section(text, title):
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0].partition("\n---\n")[0]


def rows(part):
    return [line.split(" | ") for line in part.split("\n") if line.startswith("| ")][2:]


def test_the_first_page_has_the_best_of_each_size_and_the_details_all(text):
    first, every = rows(section(text, "Results")), rows(section(text, "All rows"))
    assert len(first) == 16
    assert len(every) == 1 + 19 * 3
    assert "16 of [all 58 rows](#all-rows)" in section(text, "Results")
    assert {line[0] for line in first} < {line[0] for line in every}
    assert {line[1] for line in first} == {"–", "4×", "16×", "64×"}
    assert [line[1] for line in every] == ["–", *["4×"] * 19, *["16×"] * 19, *["64×"] * 19]


def test_details_follow_a_rule(text):
    before, _, after = text.partition("\n---\n")
    titles = re.findall(r"^## (.*)$", before, re.M)
    assert titles == ["Answer", "Results", "Plots"]
    assert "## All rows" in after
    assert "## Repeat it" in after
    words = len(re.sub(r"^\|.*$", "", before, flags=re.M).split())
    assert words < 600  # a page


def test_no_table_is_wider_than_can_be_read(text):
    widths = [line.count(" | ") + 1 for line in text.split("\n") if line.startswith("| ")]
    assert max(widths) <= 19
    assert "Of 58 rows these are full tables and those with the best test AUC" in text
