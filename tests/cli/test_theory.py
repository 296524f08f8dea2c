"""`embpress theory`: a table within 100 columns, and mistakes in one sentence."""

import pytest
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.compressors.theory import macro, micro


def run(*arguments):
    return CliRunner().invoke(main, ["theory", *arguments])


def test_the_table_has_the_rows_of_each_promise():
    done = run("--num-embeddings", "10131227", "--width", "16")
    assert done.exit_code == 0
    assert max(map(len, done.output.splitlines())) <= 100
    assert f"{macro(16, 0.5, 0.01).rows:,}" in done.output
    assert f"{micro(10131227, 16, 0.5, 0.01, 0.1).rows:,}" in done.output


def test_more_rows_than_the_table_has_are_no_compression():
    done = run("--num-embeddings", "1000", "--width", "16", "--epsilon", "0.5", "--rho", "0.5")
    assert done.output.count("no compression") == 2
    assert "456" not in done.output


def test_huge_tables_and_small_errors_fit():
    done = run("--num-embeddings", str(2**63 - 1), "--width", "1000000", "--epsilon", "1e-6", "--rho", "1e-6")
    assert done.exit_code == 0
    assert max(map(len, done.output.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--num-embeddings", "0", "--width", "16"), "at least 1"),
        (("--num-embeddings", "10", "--width", "16", "--rho", "2"), "rho lies between 1e-06 and 1, got 2.0"),
        (("--num-embeddings", "10", "--width", "16", "--delta", "0.6"), "delta lies between"),
        (("--num-embeddings", "10", "--width", "16", "--epsilon", "nan"), "epsilon lies between"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, words):
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.output.startswith("Error: ")
    assert words in done.output
