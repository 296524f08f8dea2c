"""Click data mapped from a folder of prepared data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from embpress.compressors.errors import InputError
from embpress.dlrm.data.base import Bags, ClickData, Part
from embpress.dlrm.data.prepare.arrays import mapped
from embpress.dlrm.data.prepare.division import PARTS
from embpress.dlrm.data.prepare.manifest import MANIFEST, bag_files, counts_file, read_manifest


def parts(folder: Path, multi_hot: list[int]) -> list[Part]:
    """The three parts, mapped."""
    return [_part(folder / part, multi_hot) for part in PARTS]


def opened(folder: str | Path) -> ClickData:
    """Click data mapped from a folder: what `load` gives on the files it was made of.

    Raises:
        InputError: not such a folder, or a file of it is missing or cut off.
    """
    manifest = read_manifest(folder)
    place = Path(folder)
    try:
        features = manifest["features"]
        about = manifest["about"]
        train, valid, test = parts(place, [features.index(name) for name in about["multi_hot"]])
        for part, name in zip((train, valid, test), PARTS):
            if len(part) != about["rows"][name] or part.ids.shape[1] != len(features):
                raise InputError(f"{place / name} does not have the rows that {MANIFEST} says; prepare the data again")
        counts = [torch.from_numpy(_mapped(place / counts_file(f))) for f in range(len(features))]
        for f, (lookups, rows) in enumerate(zip(counts, manifest["num_embeddings"])):
            if lookups.shape != (rows,):
                raise InputError(
                    f"{place / counts_file(f)} does not have the rows that {MANIFEST} says; prepare the data again"
                )
        return ClickData(
            name=manifest["name"],
            format=manifest["format"],
            features=features,
            num_embeddings=manifest["num_embeddings"],
            dense_names=manifest["dense_names"],
            train=train,
            valid=valid,
            test=test,
            counts=counts,
            row0_share=manifest["row0_share"],
            fingerprint=manifest["fingerprint"],
            about=about | {"prepared": str(folder)},
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{place / MANIFEST} is damaged ({error!r}); prepare the data again") from None


def _part(folder: Path, multi_hot: list[int]) -> Part:
    bags = {}
    for f in multi_hot:
        values, offsets = (torch.from_numpy(_mapped(folder / name)) for name in bag_files(f))
        bags[f] = Bags(values, offsets)
    labels, dense, ids = (torch.from_numpy(_mapped(folder / f"{name}.npy")) for name in ("labels", "dense", "ids"))
    return Part(labels, dense, ids, bags)


def _mapped(path: Path) -> Any:
    try:
        return mapped(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); prepare the data again") from None
