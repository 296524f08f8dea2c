"""What a folder of prepared data holds, and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from embpress.compressors.errors import InputError
from embpress.compressors.guard import shown

MANIFEST = "manifest.json"
SCHEMA = 1
_WHAT = "embpress prepared data"
# what each value is, and what is in it
_KINDS: dict[str, tuple[type[Any], type | tuple[type, ...]]] = {
    "name": (str, str),
    "format": (str, str),
    "features": (list, str),
    "num_embeddings": (list, int),
    "dense_names": (list, str),
    "row0_share": (list, (int, float)),
    "fingerprint": (str, str),
    "about": (dict, object),
    "options": (dict, object),
}


def counts_file(feature: int) -> str:
    """Name of the file of a feature's lookups in the rows trained on."""
    return f"counts/{feature}.npy"


def vocabulary_file(feature: int) -> str:
    """Name of the file of the values that have a feature's rows from 1 on."""
    return f"vocabulary/{feature}.parquet"


def bag_files(feature: int) -> tuple[str, str]:
    """Names of the files of a multi-hot feature's values and offsets."""
    return f"bags-{feature}-values.npy", f"bags-{feature}-offsets.npy"


def is_prepared(path: str | Path) -> bool:
    """Whether a path is a folder with a manifest."""
    try:
        return (Path(path) / MANIFEST).is_file()
    except (OSError, ValueError):
        return False


def says_prepared(path: str | Path) -> bool:
    """Whether a path is a folder whose manifest, damaged or not, says that it is one of prepared data."""
    try:
        return is_prepared(path) and f'"what": "{_WHAT}"' in (Path(path) / MANIFEST).read_text(errors="replace")
    except OSError:
        return False


def write_manifest(folder: Path, values: dict[str, Any]) -> None:
    """Writes what the folder holds."""
    text = json.dumps({"what": _WHAT, "schema": SCHEMA, **values}, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """What the folder holds.

    Raises:
        InputError: no folder of prepared data, one of another version, or a value is missing or of a wrong type.
    """
    path = Path(folder) / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); prepare the data again") from None
    if not isinstance(values, dict) or values.get("what") != _WHAT:
        raise InputError(f"{path} is not a manifest of prepared data; give a folder of embpress data prepare")
    if values.get("schema") != SCHEMA:
        raise InputError(f"{path} was written by another version of embpress; prepare the data again")
    for name, (kind, inner) in _KINDS.items():
        value = values.get(name)
        if not isinstance(value, kind) or not all(isinstance(one, inner) for one in value):
            raise InputError(f"{path} is damaged ({name} is {shown(value)}); prepare the data again")
    if not len(values["features"]) == len(values["num_embeddings"]) == len(values["row0_share"]):
        raise InputError(f"{path} is damaged (its tables are not those of its features); prepare the data again")
    return values
