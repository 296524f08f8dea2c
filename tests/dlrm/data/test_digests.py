"""Digests of files: those of the hash functions, and read only where a file may have changed."""

import gzip
import hashlib
import json
import os
import time

import pytest

from embpress.dlrm.data import digests
from embpress.dlrm.data.digests import digest_of


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "ä.txt"
    path.write_bytes(b"1,2\n" * 1000)
    os.utime(path, (1, 1))
    return path


def test_it_is_that_of_the_content(tmp_path, file):
    assert digest_of(file, None) == hashlib.sha256(file.read_bytes()).hexdigest()
    zipped = tmp_path / "b.gz"
    zipped.write_bytes(gzip.compress(b"content"))
    assert digest_of(zipped, None, algorithm="md5", unzipped=True) == hashlib.md5(b"content").hexdigest()
    assert digest_of(zipped, None, algorithm="md5") == hashlib.md5(zipped.read_bytes()).hexdigest()


def test_a_file_that_has_not_changed_is_not_read(tmp_path, file):
    cache, said = tmp_path / "cache", []
    first = digest_of(file, cache, said.append)
    assert len(said) == 1
    assert not list(cache.glob(".digests/*"))  # it changed just now: a second change might not show
    time.sleep(digests._SETTLED + 0.1)
    assert [digest_of(file, cache, said.append) for _ in range(3)] == [first] * 3
    assert len(said) == 2
    assert digest_of(file, cache, said.append, algorithm="md5") == hashlib.md5(file.read_bytes()).hexdigest()
    assert len(said) == 3  # another digest of the same file is another
    (kept,) = cache.glob(".digests/*.sha256.json")
    kept.write_text("{")  # damaged: read again
    assert digest_of(file, cache, said.append) == first
    assert len(said) == 4
    assert json.loads(kept.read_text())["sha256"] == first
    file.write_bytes(b"3,4\n")
    assert digest_of(file, cache) == hashlib.sha256(b"3,4\n").hexdigest()


def test_a_cache_that_cannot_be_written_is_none(tmp_path, file, monkeypatch):
    monkeypatch.setattr(digests, "_SETTLED", -1.0)
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    assert digest_of(file, blocked) == hashlib.sha256(file.read_bytes()).hexdigest()
