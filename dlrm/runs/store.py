"""Run folders: one JSON file a run with its test predictions beside it; every file is written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from embpress.compressors import InputError
from embpress.dlrm.processes import alive, host
from embpress.dlrm.runs.comparable import check_comparable
from embpress.dlrm.runs.record import SCHEMA, Run, fingerprint, plain
from embpress.dlrm.runs.upgrade import upgraded

_WRITING = ".writing-"
_FORGOTTEN = 86400.0  # seconds after which what another machine writes is taken for left


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes a file under another name and renames it, so that nobody ever finds it half-written.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{_WRITING}{os.getpid()}-{host()}-"
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=prefix, delete=False) as file:
            temporary = file.name
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:  # after an interrupt as well
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Writes a text file in UTF-8, whole or not at all, and returns its path."""
    write_atomic(path, lambda file: file.write(text.encode()))
    return path


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes JSON, whole or not at all; what is no finite number becomes null."""
    write_text(path, json.dumps(plain(value), indent=1, ensure_ascii=False))


def clean(*folders: Path) -> None:
    """Takes away what killed processes have left half-written; what a living one writes stays.

    Of other machines that share the folder nobody knows which processes live: what they write stays for a day.
    """
    for folder in folders:
        left: list[Path] = []
        with suppress(OSError):  # another process may have taken the folder away
            left = list(folder.glob(f"{_WRITING}*"))
        for path in left:
            process, _, rest = path.name.removeprefix(_WRITING).partition("-")
            if "-" in rest and not rest.startswith(f"{host()}-"):
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > _FORGOTTEN:
                        path.unlink()
            elif not alive(process):
                path.unlink(missing_ok=True)


def default_folder(name: str, shared: dict[str, Any]) -> Path:
    """`runs/<name>-<hash>`, after what its runs share, so that the same command finds it again."""
    readable = re.sub(r"[/\\:\s]+", "-", name)
    return Path("runs") / f"{readable}-{fingerprint(shared)[:6]}"


def check_writable(folder: Path) -> None:
    """Tries to write into a run folder and leaves nothing behind, not even the folder.

    Raises:
        InputError: it cannot be written.
    """
    records = folder / "records"
    new: list[Path] = []
    try:
        new = [part for part in (records, *records.parents) if not part.exists()]  # the deepest first
        blocked = next((part for part in (records, *records.parents) if part.exists() and not part.is_dir()), None)
        if blocked is not None:
            raise InputError(f"--out {folder}: {blocked} is a file, a folder is needed")
        records.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=records):
            pass
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write into {folder}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        for part in new:
            with suppress(OSError, ValueError):
                part.rmdir()


def save(folder: Path, run: Run, predictions: np.ndarray | None = None) -> Path:
    """Writes `folder/records/<id>.json`, after the predictions it names."""
    records = folder / "records"
    if predictions is not None:
        run = replace(run, predictions=f"{run.id}.npy")
        write_atomic(records / f"{run.id}.npy", lambda file: np.save(file, predictions, allow_pickle=False))
    path = records / f"{run.id}.json"
    write_json(path, run.to_json())
    return path


def labels_path(folder: Path, fingerprint: str) -> Path:
    """Where a run folder keeps the labels of the test part of the data with this fingerprint."""
    return folder / "records" / f"labels-{fingerprint}.npy"


def save_labels(folder: Path, fingerprint: str, labels: np.ndarray) -> None:
    """Writes the test labels `(N,)`, 0 or 1, in the order of the predictions, where they are not there yet."""
    path = labels_path(folder, fingerprint)
    kept = read_array(path)
    if kept is None or kept.shape != labels.shape:
        write_atomic(path, lambda file: _write_labels(file, labels))


def _write_labels(file: IO[bytes], labels: np.ndarray, size: int = 1 << 22) -> None:
    """A `.npy` file of int8, some labels at a time: they may lie in a mapped file."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.int8)), "fortran_order": False, "shape": labels.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for start in range(0, len(labels), size):
        file.write(labels[start : start + size].astype(np.int8).tobytes())


def read_array(path: Path) -> np.ndarray | None:
    """An array of numbers from a file beside the records; None where there is none, or a damaged one."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if isinstance(found, np.ndarray) and found.dtype.kind in "biuf" else None


def record_paths(folder: Path) -> list[Path]:
    """The record files of a run folder, by name."""
    return sorted((folder / "records").glob("*.json"))


def read(path: Path) -> Run:
    """One run, whatever schema of this program its record has.

    Raises:
        InputError: not a record of this program, or a damaged one; names the file.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise InputError(
            f"{path} is damaged, it holds no JSON: delete it, and the same command runs it again"
        ) from None
    schema = record.get("schema") if isinstance(record, dict) else None
    try:
        record = upgraded(record) if isinstance(record, dict) else {}
        if record.get("schema") == SCHEMA:
            return Run.from_json(record)
    except ValueError as error:
        raise InputError(f"{path} is damaged, {error}: delete it, and the same command runs it again") from None
    raise InputError(f"{path} is not a record of this version (schema {schema!r}, want {SCHEMA!r}): move it elsewhere")


def read_all(folder: Path) -> list[Run]:
    """All runs of a run folder in the order of their file names.

    Raises:
        InputError: no such folder, no records in it, a damaged or foreign one, or runs that cannot be compared.
    """
    if not folder.is_dir():
        raise InputError(f"no such run folder: {folder}")
    paths = record_paths(folder)
    if not paths:
        raise InputError(f"{folder} holds no records: it is no run folder of embpress compare or train")
    runs = [read(path) for path in paths]
    check_comparable(runs, folder)
    return runs
