"""Numbers of very many rows lie in a file without a name; where there is no room one sentence says so."""

import os
import tempfile

import pytest
import torch

from embpress.compressors.errors import InputError
from embpress.dlrm.measure import spool


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", 100)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def mapped(tensor, place):
    """Whether a tensor lies in a mapped file of a folder."""
    with open(f"/proc/{os.getpid()}/maps") as lines:
        for line in lines:
            start, end = (int(number, 16) for number in line.split()[0].split("-"))
            if start <= tensor.data_ptr() < end:
                return str(place) in line
    return False


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="only Linux tells what is mapped")
def test_few_rows_in_memory_many_in_a_file_that_nobody_sees(place):
    few, many = spool.empty(100, 2), spool.empty(101, 2)
    assert few.shape == (100, 2)
    assert many.shape == (101, 2)
    assert many.dtype == torch.float32
    assert not mapped(few, place)
    assert mapped(many, place)
    assert not many.any()
    many.copy_(torch.arange(202).view(101, 2))
    assert many.sum() == 201 * 101
    assert not list(place.iterdir())


def test_a_full_disk_is_named(place, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"has no room for 4.0 GB of predictions .* TMPDIR"):
        spool.empty(10**9)
