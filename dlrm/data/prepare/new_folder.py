"""A folder that appears under its name when it is whole."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from embpress.compressors.errors import InputError
from embpress.dlrm.data.prepare.manifest import says_prepared
from embpress.dlrm.processes import alive, host

_WRITING = ".preparing-"
_FORGOTTEN = 24 * 3600.0  # seconds without a change, after which what another machine writes is taken for left
_own: set[Path] = set()  # what threads of this process write
_lock = threading.Lock()


@contextmanager
def new_folder(to: Path) -> Iterator[Path]:
    """A folder to write into, which gets the name `to` when it is whole; else nothing stays of it.

    Raises:
        InputError: `to` holds something, cannot be put in place, is being written by another thread, or the disk is
            full.
    """
    target = Path(os.path.realpath(to))  # a folder could not take the name of a link
    # machines may share the folder, and a process's number means nothing on another
    folder = target.parent / f"{_WRITING}{os.getpid()}@{host()}@{target.name}"
    with _lock:
        if folder in _own:
            raise InputError(f"{to} is being prepared by another thread; wait for it, or give another --to")
        _own.add(folder)
    try:
        empty = _check(to, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _clean(target)
        folder.mkdir()
        try:
            if empty:
                _remove(to, target)
            yield folder
            os.replace(folder, target)
        except BaseException:  # an interrupt as well
            shutil.rmtree(folder, ignore_errors=True)
            if empty:
                with suppress(OSError):  # as when it could not be removed
                    target.mkdir()
            raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"the disk is full: {to} could not be prepared, and nothing stays of it; "
                "free space, or give --to a folder on another disk"
            ) from None
        raise InputError(f"cannot write {to}: {error.strerror or error}") from None
    finally:
        with _lock:
            _own.discard(folder)


def _check(to: Path, target: Path) -> bool:
    """Whether there is an empty folder, which the new one replaces.

    Raises:
        InputError: there is something else, or it is the current folder.
    """
    if says_prepared(target):
        raise InputError(f"{to} holds prepared data already; use it, give another --to, or delete it")
    if not target.exists() and not target.is_symlink():  # what is still a link leads to itself
        return False
    if not target.is_dir() or any(target.iterdir()):
        raise InputError(f"{to} is there and holds something else; give --to a folder that is new or empty")
    if target == Path.cwd():
        raise InputError(f"{to} is the current folder, which cannot be replaced; give --to a new folder in it")
    return True


def _remove(to: Path, target: Path) -> None:
    """Takes an empty folder away before any work, since some can never be replaced, such as a mount point.

    Raises:
        InputError: this is one.
    """
    try:
        target.rmdir()
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{to} cannot be replaced ({reason}); give --to a new folder, perhaps one in it") from None


def _clean(target: Path) -> None:
    """Takes away what killed processes have left half-written; what a living one writes stays.

    Of other machines nobody knows which processes live: what they write stays for a day after its last change.
    """
    for path in target.parent.glob(f"{_WRITING}*"):
        process, _, rest = path.name.removeprefix(_WRITING).partition("@")
        machine, _, name = rest.partition("@")
        if name != target.name:
            continue
        # one of this process's number is left by another: threads of this one were refused before
        living = alive(process) if machine == host() else time.time() - _changed(path) < _FORGOTTEN
        if not living:
            shutil.rmtree(path, ignore_errors=True)


def _changed(folder: Path) -> float:
    """When something in a folder was last changed, in seconds since 1970."""
    times = [0.0]
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):  # it may vanish meanwhile
            times.append(path.stat().st_mtime)
    return max(times)
