"""Files are written whole or not at all, and nothing half-written stays."""

import errno
import os
import subprocess
import sys

import pytest

from embpress.compressors import InputError
from embpress.dlrm.processes import host
from embpress.dlrm.runs.store import check_writable, clean, read_all, write_atomic


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError("x")]
)
def test_a_write_that_fails_leaves_what_was_there(error, tmp_path):
    path = tmp_path / "plot.png"
    path.write_text("before")

    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises(InputError if isinstance(error, OSError) else type(error)) as caught:
        write_atomic(path, write)
    assert not isinstance(error, OSError) or str(caught.value) == f"cannot write {path}: No space left on device"
    assert [p.name for p in tmp_path.iterdir()] == ["plot.png"]
    assert path.read_text() == "before"


def test_what_the_killed_left_goes_and_what_the_living_write_stays(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from embpress.dlrm.runs.store import write_atomic
write_atomic(Path({str(tmp_path)!r}) / "x.png", lambda file: os.kill(os.getpid(), signal.SIGKILL))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    living = tmp_path / f".writing-{os.getppid()}-abc"
    old = tmp_path / ".writing-abc"  # of a version that did not say who writes
    for path in (living, old):
        path.write_text("")
    clean(tmp_path, tmp_path / "nowhere")
    assert not left.exists()
    assert list(tmp_path.iterdir()) == [living]


def test_trying_a_folder_leaves_nothing(tmp_path):
    check_writable(tmp_path / "runs" / "new")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "records").mkdir()
    check_writable(tmp_path)
    assert [p.name for p in tmp_path.rglob("*")] == ["records"]


@pytest.mark.parametrize("name", ["file/runs", "file", "x" * 300, "new/" + "x" * 300, "\udcff", "a\0b"])
def test_a_folder_that_cannot_be_is_one_sentence(name, tmp_path):
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    if name == "\udcff" and sys.getfilesystemencodeerrors() == "surrogateescape":
        return  # a name as good as any on this system
    with pytest.raises(InputError):
        check_writable(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_no_folder_and_no_records(tmp_path):
    with pytest.raises(InputError, match="no such run folder"):
        read_all(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no records"):
        read_all(tmp_path)


def test_what_other_machines_write_stays_for_a_day(tmp_path):
    here, there, old = (
        tmp_path / f".writing-999999999-{machine}-abc" for machine in (host(), "else-where", "long-ago")
    )
    for path in (here, there, old):
        path.write_text("half")
    os.utime(old, (0, 0))
    clean(tmp_path)
    assert list(tmp_path.iterdir()) == [there]
