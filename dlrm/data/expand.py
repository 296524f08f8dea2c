"""The files that are meant by what was named: a file, a folder of parts, or a pattern such as `day_*.gz`."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from embpress.compressors import guard
from embpress.compressors.errors import InputError
from embpress.dlrm.data.formats.base import Format
from embpress.dlrm.data.readers.files import Paths, first_line

# what lies beside data in a folder and is none
_BESIDE = (".md", ".pdf", ".html", ".json", ".yaml", ".yml", ".crc", ".md5", ".sha256", ".py", ".ipynb", ".log")
_BESIDE_NAMES = ("readme", "license", "licence")


def expanded(paths: Paths, known: dict[str, type[Format]], format: str = "auto") -> list[str | Path]:
    """Every file by itself, in the order that was given; those of a folder or a pattern in natural order.

    Of a folder all files are parts of one data set, those of its `column=value` folders too. Hidden files, those that
    begin with `_`, and what is known to be no data, such as a README, are left out; any other is refused.

    Args:
        paths: files, folders and patterns (`*`, `?`, `[…]`, `**`); a file that is there is no pattern.
        known: the formats by name.
        format: the one that was asked for, or `auto`.

    Raises:
        InputError: no file matches a pattern, or a folder holds no data, or files of several formats or of none.
    """
    files: list[str | Path] = []
    for path in paths:
        for one in matching(path):
            files += _parts(Path(one), known, format) if is_folder(one) else [one]
    return files


def matching(path: str | Path) -> list[str | Path]:
    """What a pattern matches, in natural order; the path itself where it is there, or is no pattern.

    Raises:
        InputError: nothing matches.
    """
    place = guard.path(path, "the data file")
    if not glob.has_magic(str(path)) or _is_there(place):
        return [path]
    found = sorted(glob.glob(str(path), recursive=True), key=natural)
    if "**" in str(path):  # matches folders and what is in them, which would be read twice
        found = [one for one in found if not is_folder(one)]
    if not found:
        raise InputError(f"no file matches {path}; check the pattern, or the folder it is to be looked for in")
    return list(found)


def natural(path: str | Path) -> list[tuple[int, int | str]]:
    """What sorts paths with their numbers by value: `day_2` before `day_10`."""
    pieces = re.split(r"(\d+)", str(path))
    numbered = [(0, int(piece)) if piece.isdecimal() else (1, piece) for piece in pieces]
    return [*numbered, (1, str(path))]  # `day_2` and `day_02` in one order, too


def name_of(path: str | Path) -> str:
    """The short name of data from a file, a folder or a pattern."""
    place = Path(path)
    if is_folder(path):
        return place.resolve().name or "data"
    if glob.has_magic(str(path)) and not _is_there(place):
        fixed = re.split(r"[*?\[]", place.name)[0].rstrip("_-. ")
        return fixed or (place.parent.name if not glob.has_magic(place.parent.name) else "") or "data"
    stem = place.name.removesuffix(".gz")
    return Path(stem).stem or stem


def guess(path: str | Path, known: dict[str, type[Format]]) -> str | None:
    """The format of a file by its ending, else by its first line; None where neither tells."""
    by_ending = _by_ending(path, known)
    if by_ending is not None:
        return by_ending
    line = first_line(path)
    return next((name for name, reader in known.items() if reader.recognises(line)), None)


def is_folder(path: str | Path) -> bool:
    """Whether there is a folder of this name."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _by_ending(path: str | Path, known: dict[str, type[Format]]) -> str | None:
    ending = Path(str(path).lower().removesuffix(".gz")).suffix
    return next((name for name, reader in known.items() if ending in reader.endings), None)


def _parts(folder: Path, known: dict[str, type[Format]], format: str) -> Sequence[Path]:
    """The data files of a folder."""
    kinds: dict[Path, str | None] = {}
    for path in _files(folder):
        kind = _by_ending(path, known) or (guess(path, known) if format == "auto" else format)
        kinds[path] = kind
    readable = ", ".join(name for name, reader in known.items() if not reader.made)
    if not any(kinds.values()):
        held = (
            f"holds {guard.listed([path.name for path in kinds])}, none of which is"
            if kinds
            else "holds no file that is"
        )
        raise InputError(f"{folder} {held} click data of a known format ({readable}); name the data files, or --format")
    by_kind = {kind: path for path, kind in reversed(kinds.items()) if kind is not None}
    if len(by_kind) > 1:
        each = " and ".join(f"{path.name} is {kind}" for kind, path in sorted(by_kind.items()))
        raise InputError(
            f"{folder} holds files of several formats ({each}), but a folder is one data set; "
            f"name those of one, such as '{folder}/*{next(iter(by_kind.values())).suffix}'"
        )
    strange = [path for path, kind in kinds.items() if kind is None]
    if strange:
        raise InputError(
            f"{folder} holds {strange[0].name}, whose format cannot be told, beside {next(iter(by_kind))} files; "
            f"name the data files by a pattern, or give --format"
        )
    return list(kinds)


def _files(folder: Path) -> list[Path]:
    """Files of a folder and of its `column=value` folders that may be data, in natural order."""
    try:
        entries = sorted(folder.iterdir(), key=natural)
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error}); check its permissions") from None
    files: list[Path] = []
    for entry in entries:
        name = entry.name.lower()
        if name.startswith((".", "_")):
            continue
        if entry.is_dir():
            files += _files(entry) if "=" in name.strip("=") else []
        elif not name.endswith(_BESIDE) and not name.startswith(_BESIDE_NAMES):
            files.append(entry)
    return files
