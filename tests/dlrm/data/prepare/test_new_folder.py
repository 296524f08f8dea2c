"""A folder that is written and then named: where it may go, and what others have left or still write."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from criteo_lines import lines, write

from embpress.compressors.errors import InputError
from embpress.dlrm.data import load
from embpress.dlrm.data.prepare.new_folder import new_folder
from embpress.dlrm.data.prepare.prepare import prepare
from embpress.dlrm.processes import host


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(match, to):
    with pytest.raises(InputError, match=match) as error, new_folder(to):
        pytest.fail("work began")
    assert "\n" not in str(error.value)


def test_an_empty_folder_or_a_link_to_one_is_filled(tmp_path):
    text = write(tmp_path / "a.txt", "".join(lines(60)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "ahead").symlink_to("later")  # which is not there yet
    assert load(prepare([text], tmp_path / "link")).fingerprint == load(tmp_path / "empty").fingerprint
    prepare([text], tmp_path / "ahead")
    assert names(tmp_path) == ["a.txt", "ahead", "empty", "later", "link"]
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "later") == names(tmp_path / "empty")


def test_what_cannot_be_replaced_is_refused_before_any_work(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "loop").symlink_to("loop")
    refused("holds something else", tmp_path / "loop")
    monkeypatch.chdir(here)
    for to in (Path(), here):
        refused("is the current folder", to)
    with new_folder(Path("in it")):
        pass
    monkeypatch.chdir(tmp_path)
    (here / "in it").rmdir()

    def busy(self):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "rmdir", busy)  # as a mount point is
    refused(r"cannot be replaced \(Device or resource busy\)", here)
    assert names(tmp_path) == ["here", "loop"]


def test_an_empty_folder_is_there_again_after_a_failure(tmp_path):
    (tmp_path / "to").mkdir()

    def interrupted():
        with new_folder(tmp_path / "to") as folder:
            (folder / "x").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == ["to"]
    assert names(tmp_path / "to") == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = [f".preparing-{pid}@{host()}@to" for pid in (gone.pid, os.getpid())] + [f".preparing-{gone.pid}@old@to"]
    stay = [f".preparing-{os.getppid()}@{host()}@to", f".preparing-{gone.pid}@{host()}@a@to"]
    stay += [f".preparing-{gone.pid}@{machine}@to" for machine in ("other", "busy-one")]
    for name in (*left, *stay):
        (tmp_path / name / "staged").mkdir(parents=True)
        (tmp_path / name / "staged" / "x").touch()
        if "@old@" in name or "@busy-one@" in name:  # a file of the latter has just been written
            for path in (tmp_path / name, tmp_path / name / "staged", tmp_path / name / "staged" / "x"):
                os.utime(path, (0, 0))
    (tmp_path / stay[-1] / "staged" / "x").touch()
    with new_folder(tmp_path / "to"):
        pass
    assert names(tmp_path) == sorted(["to", *stay])


def test_a_folder_that_another_thread_writes_is_refused(tmp_path):
    with new_folder(tmp_path / "to") as folder:
        (folder / "x").touch()
        refused("another thread", tmp_path / "to")
        with new_folder(tmp_path / "other"):
            pass
    assert names(tmp_path / "to") == ["x"]
    refused("holds something else", tmp_path / "to")
