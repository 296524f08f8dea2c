"""What cells of a table are sorted by."""

import pytest

from embpress.reports import numerals
from embpress.reports.html.tables import is_number_column, sort_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.7906 ± 0.0010", 0.7906),
        ("−0.0155 ± 0.0002", -0.0155),
        ("+0.0025", 0.0025),
        ("174.2 kB", 174_200),
        ("432 B †", 432),
        ("2.8 MB", 2.8e6),
        ("16.0×", 16),
        ("43,547", 43_547),
        ("55.0 µs", 55e-6),
        ("3.81 ms", 3.81e-3),
        ("18.0 %", 0.18),
        ("410,000 /s", 410_000),
        ("2 of 3 ok", 2),
        ("1e-05", 1e-5),
        ("–", None),
        ("", None),
        ("ok", None),
        ("2nd", None),
        ("16xyz", None),
        ("C3", None),
    ],
)
def test_the_number_of_a_cell(text, value):
    found = sort_value(text)
    assert found == (value if value is None else pytest.approx(value))


def test_what_we_write_sorts_as_it_was():
    sizes = [3.0, 999.0, 1000.0, 1.2e5, 9.9e5, 3.4e6, 2.1e9, 7e12]
    assert [sort_value(numerals.size(size)) for size in sizes] == pytest.approx(sizes, rel=0.05)
    differences = [-0.5, -0.0001, 0.0, 0.0001, 0.2]
    assert [sort_value(numerals.signed(d)) for d in differences] == pytest.approx(differences)
    assert sort_value(numerals.percent(0.123)) == pytest.approx(0.123)
    assert sort_value(numerals.ratio(12345.6)) == pytest.approx(12345.6)


def test_a_column_of_numbers():
    assert is_number_column(["1", "–", "2 MB"])
    assert not is_number_column(["–", ""])
    assert not is_number_column(["1", "tt"])
    assert not is_number_column([])
