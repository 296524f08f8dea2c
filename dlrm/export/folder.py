"""Writes a folder of files whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from embpress.compressors.errors import InputError

T = TypeVar("T")


def check_new(folder: Path) -> None:
    """Raises InputError where a folder to be written is there and not empty, or is a file."""
    try:
        for part in (folder, *folder.absolute().parents):
            if part.exists() and not part.is_dir():
                raise InputError(f"cannot write {folder}: {part} is a file, a folder is needed")
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty: give a new folder, or empty this one")
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from None


def write_folder(folder: Path, write: Callable[[Path], T]) -> T:
    """Has a folder beside it written, which then takes its name.

    Args:
        folder: new or empty.
        write: fills the folder that it is given.

    Raises:
        InputError: it cannot be written, or the disk is full; nothing stays behind.
    """
    check_new(folder)
    # not resolve(): a link to an empty folder is replaced itself
    made = [part for part in folder.absolute().parents if not part.exists()]  # the deepest first
    beside, done = None, False
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".writing-{os.getpid()}-"))
        result = write(beside)
        os.chmod(beside, 0o755)
        os.replace(beside, folder)
        done = True
        return result
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from None
    finally:  # after an interrupt as well
        if not done:
            if beside is not None:
                shutil.rmtree(beside, ignore_errors=True)
            for part in made:
                with suppress(OSError):
                    part.rmdir()
