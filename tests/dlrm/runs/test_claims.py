"""Claims: one owner at a time, given back by the dead and the silent, never by the living."""

import json
import os
import subprocess
import sys
import time

import pytest

from embpress.compressors import InputError
from embpress.dlrm.runs import owner
from embpress.dlrm.runs.claims import Claims, Session


def files(folder):
    return sorted(path.name for path in (folder / "claims").glob("*"))


def left_by(folder, run="a", number=1, **content):
    """A claim as a process leaves it that says this of itself."""
    (folder / "claims").mkdir(exist_ok=True)
    path = folder / "claims" / f"{run}.{number}.claim"
    path.write_text(json.dumps({"token": f"{number}", "session": "other", "title": "x", **owner.me(), **content}))
    return path


def a_dead_process():
    """The number of a process that has been."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_only_one_takes_a_run_and_gives_it_back(tmp_path):
    one, other = Claims(tmp_path), Claims(tmp_path)
    with one.take("a", "first") as claim:
        assert claim.stands
        assert other.take("a", "first") is None
        assert other.taken("a")
        assert not one.taken("a")
        assert other.titles() == ["first"]
        with other.take("a.1", "a name that begins alike"):
            pass
    assert not other.taken("a")
    with other.take("a", "again") as claim:
        assert (claim.number, claim.deaths) == (1, 0)
    one.tidy()
    assert not (tmp_path / "claims").exists()


def test_an_exception_gives_back(tmp_path):
    claims = Claims(tmp_path)
    with pytest.raises(KeyboardInterrupt), claims.take("a", ""):
        raise KeyboardInterrupt
    assert files(tmp_path) == []


def test_of_many_processes_one_gets_it(tmp_path):
    """All start at one moment, on a claim that a dead process has left; who has it keeps it until all have tried."""
    left_by(tmp_path, pid=a_dead_process())
    code = f"""
import time
from pathlib import Path
from embpress.dlrm.runs.claims import Claims
claims = Claims(Path({str(tmp_path)!r}))
print("ready", flush=True)
at = float(input())
while time.time() < at:
    pass
claim = claims.take("a", "")
print(claim is not None, flush=True)
input()
"""
    begun = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    tries = [subprocess.Popen([sys.executable, "-c", code], **begun) for _ in range(4)]
    for each in tries:
        assert each.stdout.readline() == "ready\n"
    at = time.time() + 0.3
    for each in tries:
        each.stdin.write(f"{at}\n")
        each.stdin.flush()
    got = [each.stdout.readline().strip() for each in tries]
    for each in tries:
        each.communicate("\n")
    assert got.count("True") <= 1  # two that come at the same instant may both step back
    assert Claims(tmp_path).take("a", "") is not None


@pytest.mark.parametrize("what", ["no process", "another process of its number", "a zombie"])
def test_the_dead_of_this_machine_give_back_at_once(what, tmp_path):
    if what == "no process":
        left_by(tmp_path, pid=a_dead_process())
    elif what == "another process of its number":
        left_by(tmp_path, started=1)
    else:
        ended = subprocess.Popen([sys.executable, "-c", ""])
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it has ended and nobody has taken note
        left_by(tmp_path, pid=ended.pid, started=None)
    claims = Claims(tmp_path)
    assert not claims.taken("a")
    with claims.take("a", "") as claim:
        assert claim.number == 2
        assert files(tmp_path) == ["a.1.claim", "a.2.claim"]
    assert files(tmp_path) == []


@pytest.mark.parametrize("content", [{}, {"place": "another machine", "pid": 1}])
def test_the_living_and_those_of_other_machines_keep_theirs(content, tmp_path):
    left_by(tmp_path, **content)
    claims = Claims(tmp_path)
    assert claims.take("a", "") is None
    assert claims.taken("a")
    claims.tidy()
    assert files(tmp_path) == ["a.1.claim"]


@pytest.mark.parametrize("text", [None, "", '{"token"', "[]"])
def test_the_silent_give_back_and_the_beating_do_not(text, tmp_path):
    """As on another machine, or written by halves: the file's time alone tells."""
    path = left_by(tmp_path, place="another machine")
    if text is not None:
        path.write_text(text)
    claims = Claims(tmp_path, stale=0.25)
    for beat in range(4):
        os.utime(path, ns=(beat, beat))
        assert claims.take("a", "") is None
        time.sleep(0.15)
    time.sleep(0.25)
    with claims.take("a", "") as claim:
        assert claim.number == 2


def test_an_owner_beats(tmp_path):
    claims = Claims(tmp_path, beat=0.05)
    with claims.take("a", "") as claim:
        os.utime(claim.path, ns=(1, 1))
        deadline = time.monotonic() + 10
        while claim.path.stat().st_mtime_ns == 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_who_was_silent_for_long_has_lost_it_and_leaves_the_new_owner_alone(tmp_path):
    slow, other = Claims(tmp_path, beat=100), Claims(tmp_path, stale=0.1)
    lost = slow.take("a", "")
    assert other.take("a", "") is None
    time.sleep(0.2)
    with other.take("a", "") as claim:
        assert not lost.stands
        with lost:
            pass
        assert claim.stands
    assert files(tmp_path) == []


def test_a_run_that_kills_its_workers_is_not_made_for_ever(tmp_path):
    session = Session("mine", 0)
    for number in (1, 2, 3):
        claims = Claims(tmp_path, session)
        claim = claims.take("a", "")
        assert claim.fatal == ""
        content = json.loads(claim.path.read_text())
        claim.path.write_text(json.dumps({**content, "pid": a_dead_process(), "started": None}))
        assert claim.number == number
    assert Claims(tmp_path, session).take("a", "").fatal.startswith("3 workers died")


def test_who_died_before_a_run_came_further_does_not_count(tmp_path):
    session = Session("s", 0)
    for number in range(1, 6):
        left_by(tmp_path, number=number, session="s", pid=a_dead_process())
        claim = Claims(tmp_path, session).take("a", "")
        assert claim.deaths == 1
        claim.progressed()
        assert files(tmp_path) == [f"a.{number + 1}.claim"]
        assert claim.stands
        claim.path.unlink()


def test_deaths_of_other_commands_do_not_count(tmp_path):
    for number in (1, 2, 3, 4):
        left_by(tmp_path, number=number, pid=a_dead_process())
    assert Claims(tmp_path).take("a", "").fatal == ""


def test_a_session_is_told_to_workers_as_text(tmp_path):
    claims = Claims(tmp_path)
    session = Session.parse(str(Session(claims.name, claims.began, "beef")))
    worker = Claims(tmp_path, session)
    assert (worker.name, worker.began, worker.expected) == (claims.name, claims.began, "beef")
    assert claims.leads
    assert not worker.leads
    with pytest.raises(InputError, match="NAME:NANOSECONDS"):
        Session.parse("mine")


def test_what_was_there_is_not_new_and_what_comes_is(tmp_path):
    (tmp_path / "records").mkdir()
    old, new = tmp_path / "records" / "old.json", tmp_path / "records" / "new.json"
    old.write_text("{}")
    claims = Claims(tmp_path)
    new.write_text("{}")
    assert [claims.is_new(path) for path in (old, new, tmp_path / "none")] == [False, True, False]
    os.utime(new, ns=(2**62, 2**62))  # copied from a machine whose clock is ahead
    later = Claims(tmp_path)
    (tmp_path / "records" / "newest.json").write_text("{}")
    assert later.is_new(tmp_path / "records" / "newest.json")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "claims").write_text("a file")
    with pytest.raises(InputError, match=r"cannot write .*claims"):
        Claims(tmp_path).take("a", "")
