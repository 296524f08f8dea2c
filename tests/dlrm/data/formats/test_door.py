"""The door for formats: a file that is added is recognised, its option is one of the command line's, and it reads."""

import subprocess
import sys

import numpy as np
import pytest

from embpress.compressors import InputError
from embpress.dlrm.data import formats as package
from embpress.dlrm.data import load
from embpress.dlrm.data.formats import formats

PAIRS = '''
"""Lines of a label and an id with a character between."""
from embpress.dlrm.data.formats.base import Format
from embpress.dlrm.option import Option

class Pairs(Format):
    name = "pairs"
    endings = (".prs",)
    options = (Option("between", str, "what stands between label and id. [default: =]"),)
    split = "order"

    @classmethod
    def recognises(cls, first_line):
        return first_line == "%pairs"

    @classmethod
    def read(cls, paths, test, rows, between="="):
        import numpy as np
        from embpress.dlrm.data.raw import RawField, RawTable, codes_of

        groups = [[line.split(between) for path in group for line in open(path) if line[0] != "%"][:rows]
                  for group in (paths, test)]
        labels, ids = np.array(groups[0] + groups[1], dtype=int).T
        return RawTable(labels.astype(np.float32), [], np.zeros((len(ids), 0), np.float32), ["id"],
                        [RawField(codes_of(ids))], len(groups[1]) if test else None)
'''
HELP = """
import sys
import embpress.dlrm.data.formats as package
package.__path__.append(sys.argv.pop(1))
from embpress.cli.main import main
try:
    main(["compare", "--help"])
finally:
    assert not {"torch", "polars"} & set(sys.modules)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "pairs.py").write_text(PAIRS)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("embpress.dlrm.data.formats.pairs", None)


def test_a_format_in_a_folder_reads(folder):
    (folder / "a.prs").write_text("".join(f"{i % 2};{i % 3}\n" for i in range(50)))
    (folder / "b.txt").write_text("%pairs\n" + "".join(f"{i % 2}={i % 3}\n" for i in range(50)))
    data = [load(folder / "a.prs", between=";"), load(folder / "b.txt")]
    assert [d.format for d in data] == ["pairs", "pairs"]
    assert data[0].fingerprint == data[1].fingerprint
    assert data[0].test.labels.tolist() == [float(i % 2) for i in range(40, 50)]  # its own default split
    assert np.unique(data[0].train.ids).tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="it belongs to pairs"):
        load(between=";")


def test_its_option_is_in_the_help_which_needs_neither_torch_nor_polars(folder):
    done = subprocess.run([sys.executable, "-c", HELP, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "--between TEXT pairs: what stands between label and id." in text
    assert "csv, libfm, pairs, parquet, synthetic" in text
    assert "csv, parquet: numeric columns" in text  # an option of two formats is one
    assert text.count("--dense ") == 2  # and in an example


def test_names_and_endings_are_one_formats():
    known = formats().values()
    endings = [ending for reader in known for ending in reader.endings]
    assert len(set(endings)) == len(endings)
    assert {reader.split for reader in known} <= {"order", "random"}
