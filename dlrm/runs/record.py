"""Records: one JSON file a run, written atomically, with its test predictions in a binary file beside it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from embpress.compressors import InputError

SCHEMA = "embpress-run/1"
_NEEDED = ("id", "method", "name", "seed", "status", "metrics", "data", "model", "training", "asked")


def fingerprint(value: Any) -> str:
    """Ten hexadecimal digits of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:10]


def run_id(method: str, seed: int, identity: Any) -> str:
    """File name of a run: readable, and different for whatever could change its result."""
    slug = re.sub(r"[^A-Za-z0-9._=-]+", "-", method).strip("-")[:60]
    return f"{slug}-s{seed}-{fingerprint([method, seed, identity])}"


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes a file under another name and renames it, so that a killed process leaves nothing half-written.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".writing-", delete=False) as file:
            temporary = file.name
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Writes a record as JSON, whole or not at all; what is no finite number becomes null."""
    text = json.dumps(_plain(record), indent=1, ensure_ascii=False)
    write_atomic(path, lambda file: file.write(text.encode()))


def save(folder: Path, record: dict[str, Any], predictions: np.ndarray | None = None) -> Path:
    """Writes `folder/records/<id>.json`, after the predictions it names."""
    records = folder / "records"
    if predictions is not None:
        record = {**record, "predictions": f"{record['id']}.npy"}
        write_atomic(records / record["predictions"], lambda file: np.save(file, predictions, allow_pickle=False))
    path = records / f"{record['id']}.json"
    write_json(path, {"schema": SCHEMA, **record})
    return path


def read(path: Path) -> dict[str, Any]:
    """One record.

    Raises:
        InputError: not a record of this program, or a damaged one; names the file.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError:
        raise InputError(
            f"{path} is damaged, it holds no JSON: delete it, and the same command runs it again"
        ) from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else None
        raise InputError(
            f"{path} is not a record of this version (schema {found!r}, want {SCHEMA!r}): move it elsewhere"
        )
    missing = [name for name in _NEEDED if name not in record]
    if missing:
        raise InputError(
            f"{path} is damaged, it lacks {', '.join(missing)}: delete it, and the same command runs it again"
        )
    return record


def read_all(folder: Path) -> list[dict[str, Any]]:
    """All records of a run folder in the order of their file names.

    Raises:
        InputError: no such folder, no records in it, a damaged or foreign one, or records that cannot be compared.
    """
    if not folder.is_dir():
        raise InputError(f"no such run folder: {folder}")
    paths = sorted((folder / "records").glob("*.json"))
    if not paths:
        raise InputError(f"{folder} holds no records: it is no run folder of embpress compare or train")
    records = [read(path) for path in paths]
    check_comparable(records, folder)
    return records


def check_comparable(records: list[dict[str, Any]], folder: Path) -> None:
    """Raises InputError unless all records are of one data set and one way of training."""
    if not records:
        return
    first = records[0]
    for other in records[1:]:
        if other["data"]["fingerprint"] != first["data"]["fingerprint"]:
            raise InputError(
                f"{folder} holds runs on other data ({first['data']['name']} and {other['data']['name']}, or another "
                "split): give each comparison a folder of its own with --out"
            )
        for part in ("model", "training"):
            changed = [key for key in {**first[part], **other[part]} if other[part].get(key) != first[part].get(key)]
            if changed:
                values = " and ".join(str(record[part].get(changed[0])) for record in (first, other))
                raise InputError(
                    f"{folder} holds runs with another {changed[0].replace('_', ' ')} ({values}): "
                    "give each comparison a folder of its own with --out"
                )
