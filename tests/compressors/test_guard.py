"""Numbers as sentences write them."""

import pytest

from embpress.compressors.guard import counted, times


@pytest.mark.parametrize(("count", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (12_345, "12,345 rows")])
def test_one_is_not_many(count, text):
    assert counted(count, "row") == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(1, "1×"), (16.0, "16×"), (2.5, "2.5×"), (7.9, "7.9×"), (1e9, "1,000,000,000×"), (123_456.7, "123,456.7×")],
)
def test_a_ratio_is_written_without_an_exponent(ratio, text):
    assert times(ratio) == text
