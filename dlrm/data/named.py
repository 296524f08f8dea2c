"""A public data set by name: the files that it consists of and how they are read."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embpress.dlrm.data.digests import digest_of
from embpress.dlrm.data.expand import matching
from embpress.dlrm.data.prepare.manifest import is_prepared
from embpress.kernels import found

HOME = "embpress.dlrm.data.datasets"


@dataclass(frozen=True)
class Dataset:
    """A public data set, whose files are given by whoever has them; nothing is downloaded.

    Attributes:
        train: names of the files of the training part, without `.gz`.
        test: names of those of the test part; empty where it is cut off the others.
        rows: of all files together, as published; None where nobody says.
        source: where the files are from, and whose split it is.
        md5: digests of the files, where they are published.
        options: keywords of `load`: the format, the columns, what decides split and ids.
        auc: a published test AUC of full tables on this very test part; None where none is known.
        auc_from: what reached it, and where that stands.
    """

    train: tuple[str, ...]
    source: str
    options: Mapping[str, Any]
    test: tuple[str, ...] = ()
    rows: int | None = None
    md5: Mapping[str, str] = field(default_factory=dict)
    auc: float | None = None
    auc_from: str = ""


# what may be chosen without changing which rows the test part has, or what their columns hold
_FREE = ("format", "number_ids")


@dataclass(frozen=True)
class Named:
    """Which data set data are, for their records.

    Attributes:
        name: of a file of `datasets`, with `-` for `_`.
        as_published: nothing was asked for that makes another test part or other ids of it.
    """

    name: str
    as_published: bool = True

    def about(self) -> dict[str, Any]:
        """What `ClickData.about` says of it."""
        return {"dataset": self.name, "as_published": self.as_published}


def datasets() -> dict[str, Dataset]:
    """The data sets of the folder `datasets` by name: that of the file, with `-` for `_`."""
    modules = found.modules(HOME)
    return {name.replace("_", "-"): module.DATASET for name, module in sorted(modules.items())}


def about(name: str) -> str:
    """What a data set is: the first line of its file."""
    module = found.modules(HOME)[name.replace("-", "_")]
    return (module.__doc__ or "").strip().splitlines()[0].rstrip(".")


def keywords(
    name: str, paths: Sequence[str | Path], given: Mapping[str, Any], cache: str | Path | None = None
) -> dict[str, Any]:
    """Keywords of `load` for a data set.

    Args:
        name: of the data set.
        paths: its files in any order, a pattern for them, or the folder that holds them; or the folder where they lie
            prepared.
        given: other keywords of `load`; what is None or empty, or the format `auto`, is taken from the data set.
        cache: the folder that keeps the files' digests; without one they are read at each call.

    Raises:
        InputError: no such data set, a file is missing, none of it or another than was published, or a keyword
            contradicts it.
    """
    from embpress.compressors.errors import InputError, nearest

    known = datasets()
    if name not in known:
        raise InputError(f"there is no data set {name!r}{nearest(name, known)}")
    dataset = known[name]
    expected = (*dataset.train, *dataset.test)
    if given.get("test"):
        raise InputError(f"data set {name} says itself which files are the test part; leave --test out")
    if not paths:
        raise InputError(f"data set {name} needs its files, or the folder that holds them: {_listed(expected)}")
    values = {option: value for option, value in given.items() if value not in (None, (), [])}
    if values.get("format") == "auto":
        del values["format"]
    if len(paths) == 1 and is_prepared(paths[0]):
        return {**values, "paths": _prepared(name, paths[0])}
    files = _files(name, expected, [file for path in paths for file in matching(path)])
    _check(name, dataset, files, cache)
    return {
        **dataset.options,
        **values,
        "paths": [files[file] for file in dataset.train],
        "test": [files[file] for file in dataset.test],
        "dataset": Named(name, not any(_differs(dataset, *option) for option in values.items())),
    }


def _differs(dataset: Dataset, option: str, value: Any) -> bool:
    """Whether a value that was asked for, perhaps as text, is another than the data set's own."""
    own = dataset.options.get(option)
    if option in _FREE or value == own or (option == "split_seed" and dataset.test):
        return False
    text = ",".join(map(str, own)) if isinstance(own, (list, tuple)) else str(own)
    return str(value) != text


def _prepared(name: str, folder: str | Path) -> str | Path:
    """The folder, if it says that it was prepared of this data set."""
    from embpress.compressors.errors import InputError
    from embpress.dlrm.data.prepare.manifest import read_manifest

    of = read_manifest(folder)["about"].get("dataset")
    if of != name:
        other = f"data set {of}" if of else "files without --dataset"
        raise InputError(f"{folder} was prepared from {other}, not from data set {name}; leave --dataset out")
    return folder


def _files(name: str, expected: Sequence[str], paths: Sequence[str | Path]) -> dict[str, Path]:
    """Where each expected file is."""
    from embpress.compressors.errors import InputError

    places = [Path(path) for path in paths]
    if len(places) == 1 and places[0].is_dir():
        folder = places[0]
        there = {file: [path for path in (folder / file, folder / f"{file}.gz") if path.is_file()] for file in expected}
        missing = [file for file, found_there in there.items() if not found_there]
        if missing:
            raise InputError(f"{folder} has no {_listed(missing)}, which data set {name} needs (or with .gz)")
        return {file: found_there[0] for file, found_there in there.items()}
    given: dict[str, Path] = {}
    for path in places:
        file = path.name.removesuffix(".gz")
        if file not in expected:
            raise InputError(f"{path} is no file of data set {name}, which consists of {_listed(expected)}")
        if file in given:
            raise InputError(f"{given[file]} and {path} are both the {file} of data set {name}; give it once")
        given[file] = path
    missing = [file for file in expected if file not in given]
    if missing:
        raise InputError(f"data set {name} also needs {_listed(missing)}")
    return given


def _check(name: str, dataset: Dataset, files: Mapping[str, Path], cache: str | Path | None) -> None:
    """Raises where a file is not the published one, or cannot be read."""
    from embpress.compressors.errors import InputError

    for file, digest in dataset.md5.items():
        path = files[file]
        try:
            own = digest_of(path, cache, algorithm="md5", unzipped=True)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} cannot be read ({error}); the file may be missing, damaged or cut off") from None
        if own != digest:
            raise InputError(f"{path} is not the {file} of data set {name}: its MD5 is {own}, not {digest}")


def _listed(files: Sequence[str]) -> str:
    return ", ".join(files) if len(files) <= 6 else f"{files[0]}, {files[1]}, … {files[-1]}"
