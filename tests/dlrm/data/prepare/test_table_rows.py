"""Tables that are declared larger than the ids of the files: the same ids, more rows."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from criteo_lines import lines, write

from embpress.cli.main import main
from embpress.compressors.errors import InputError
from embpress.dlrm.data import load
from embpress.dlrm.data.prepare.arrays import ArrayWriter, mapped
from embpress.dlrm.data.prepare.prepare import prepare


def test_the_same_data_with_more_rows(tmp_path):
    path = write(tmp_path / "a.txt", "".join(lines(200)))
    own = load(path)
    sizes = [n + 1000 * f for f, n in enumerate(own.num_embeddings)]
    data = load(prepare(path, tmp_path / "to", table_rows=sizes))
    assert data.num_embeddings == sizes
    assert data.fingerprint != own.fingerprint  # a model of other tables
    for part, other in ((data.train, own.train), (data.test, own.test)):
        assert torch.equal(part.ids, other.ids)
        assert torch.equal(part.labels, other.labels)
    for counts, known, rows in zip(data.counts, own.counts, sizes):
        assert counts.shape == (rows,)
        assert torch.equal(counts[: len(known)], known)
        assert not counts[len(known) :].any()
    assert data.about["table_rows"] == "given"


def test_what_does_not_fit_is_refused_and_nothing_is_left(tmp_path):
    path = write(tmp_path / "a.txt", "".join(lines(200)))
    own = load(path).num_embeddings
    for sizes, match in (
        ([own[0] - 1, *own[1:]], f"C1 has {own[0] - 1:,} ids and needs {own[0]:,} rows, but table_rows gives it"),
        (own[:-1], "table_rows has 25 sizes, but the data have 26 sparse columns"),
        ([0, *own[1:]], "table_rows"),
    ):
        with pytest.raises(InputError, match=match):
            prepare(path, tmp_path / "to", table_rows=sizes)
        assert not (tmp_path / "to").exists()
    refused = CliRunner().invoke(
        main, ["data", "prepare", str(path), "--to", str(tmp_path / "to"), "--table-rows", "1x"]
    )
    assert refused.exit_code == 2
    assert "rows are whole numbers such as 39060 or 40M, got '1x'" in refused.output


def test_by_command(tmp_path):
    path = write(tmp_path / "a.txt", "".join(lines(200)))
    arguments = ["data", "prepare", str(path), "--to", str(tmp_path / "to"), "--table-rows", ",".join(["5k"] * 26)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "130,000 table rows" in done.output


@pytest.mark.parametrize("row", [(), (3,)])
def test_zeros_of_an_array_at_its_end_and_within(tmp_path, row):
    ones, expected = np.ones((2, *row), np.int64), np.zeros((12, *row), np.int64)
    expected[:2] = expected[7:9] = 1
    with ArrayWriter(tmp_path / "a.npy", np.int64, row) as array:
        array.add(ones)
        array.add_zeros(5)
        array.add(ones)
        array.add_zeros(3)
    assert np.array_equal(mapped(tmp_path / "a.npy"), expected)
    assert np.array_equal(np.load(tmp_path / "a.npy"), expected)
