"""Ops are found by lying in their folders: one more is two new files and nothing else."""

import subprocess
import sys

OP = '''
"""An op of somebody else's."""

import torch

from embpress.kernels.define import define

define("twice(Tensor x) -> Tensor")
FACTOR = 2


def twice(x):
    """2 x."""
    return torch.ops.embpress.twice.default(x)
'''

PLAIN = '''
"""The same in plain PyTorch."""

from torch import Tensor


def twice(x):
    """2 x."""
    return x + x
'''

USE = """
import sys

import torch

from embpress.kernels import ops, reference
from embpress.kernels.gather import gather

before = set(ops.names())
reference.__path__.append(sys.argv[1] + "/reference")
ops.__path__.append(sys.argv[1] + "/ops")
gather(reference.__name__)
gather(ops.__name__)
assert set(ops.names()) - before == {"twice"}, ops.names()
assert ops.backend("twice") == "reference"
assert ops.FACTOR == 2
assert not hasattr(ops, "define")  # what a module imports is not the package's
assert torch.equal(ops.twice(torch.arange(3)), torch.tensor([0, 2, 4]))
torch.library.opcheck(torch.ops.embpress.twice.default, (torch.arange(3.0),), test_utils="test_schema")
"""


def test_an_op_is_found_by_its_files(tmp_path):
    for folder, text in (("ops", OP), ("reference", PLAIN)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "twice.py").write_text(text)
    done = subprocess.run([sys.executable, "-c", USE, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_op_without_plain_form_is_refused(tmp_path):
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "twice.py").write_text(OP)
    use = USE.replace("gather(reference.__name__)", "")
    done = subprocess.run([sys.executable, "-c", use, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "no plain PyTorch function twice" in done.stderr
