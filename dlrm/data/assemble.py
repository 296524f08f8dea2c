"""From columns as read to `ClickData`: split, vocabulary, encoding, fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from typing_extensions import Buffer

from embpress.compressors.errors import InputError
from embpress.compressors.guard import shown, whole
from embpress.dlrm.data.base import Bags, ClickData, Part
from embpress.dlrm.data.raw import RawTable
from embpress.dlrm.data.split import split_rows
from embpress.dlrm.data.vocabulary import encode
from embpress.dlrm.measure.auc import auc

# how the rows of a table from 1 on are numbered: the most frequent id first, or in an order drawn once and for all
_COUNTED = 1 << 22  # rows whose lookups are counted at once
NUMBERINGS = ("frequency", "random")


def assemble(
    raw: RawTable,
    *,
    name: str,
    format: str,
    split: str,
    split_seed: int = 0,
    min_count: int = 2,
    number_ids: str = NUMBERINGS[0],
    max_rows_per_table: int | None = None,
) -> ClickData:
    """Splits and encodes what a reader read.

    Args:
        raw: all rows; those of test files last.
        name: short name for reports.
        format: what read or made it.
        split: one of `SPLITS`.
        split_seed: seed of a random split.
        min_count: ids rarer than this in the rows trained on share row 0.
        number_ids: one of `NUMBERINGS`.
        max_rows_per_table: row 0 included; of more ids the most frequent have a row.

    Raises:
        InputError: too few rows, no sparse feature, one class only, or a bad option.
    """
    check_options(min_count, split_seed, number_ids, max_rows_per_table)
    check_features(name, raw.features)
    rows = len(raw.labels)
    parts = split_rows(rows, raw.test_rows, split, split_seed)
    for part, index in zip(("training", "test"), (parts[0], parts[2])):
        check_classes(name, part, len(index), int(np.count_nonzero(raw.labels[index])))
    # rows that are trained on: validation, which chooses the epoch, must meet unseen ids just as the test part does
    training = np.zeros(rows, bool)
    training[parts[0]] = True

    shuffle = np.random.default_rng(0) if number_ids == "random" else None
    encoded = [encode(field, training, min_count, shuffle, max_rows_per_table) for field in raw.fields]
    sizes = [n for _, n in encoded]
    ids = np.zeros((rows, len(encoded)), np.int32 if max(sizes) < 2**31 else np.int64)
    bags: dict[int, Bags] = {}
    for f, (field, (values, _)) in enumerate(zip(raw.fields, encoded)):
        if field.offsets is None:
            ids[:, f] = values
        else:
            bags[f] = Bags(torch.from_numpy(values), torch.from_numpy(np.asarray(field.offsets, np.int64)))
    dense, dense_names = raw.dense, raw.dense_names
    if not dense_names:  # the bottom MLP then learns one vector
        dense, dense_names = np.ones((rows, 1), np.float32), ["(constant)"]
    everything = Part(torch.from_numpy(raw.labels), torch.from_numpy(dense), torch.from_numpy(ids), bags)
    train, valid, test = (everything.take(torch.from_numpy(index)) for index in parts)

    data = ClickData(
        name=name,
        format=format,
        features=list(raw.features),
        num_embeddings=sizes,
        dense_names=list(dense_names),
        train=train,
        valid=valid,
        test=test,
        counts=count_lookups(train, sizes),
        row0_share=[row0_share(test, f) for f in range(len(sizes))],
        fingerprint=fingerprint((train, valid, test), sizes),
        best_auc=None if raw.logits is None else auc(torch.from_numpy(raw.logits[parts[2]]), test.labels),
    )
    data.about = {
        "format": format,
        **raw.about,
        "split": "test files" if raw.test_rows is not None else split,
        "valid_split": split,
        "split_seed": split_seed,
        "min_count": min_count,
        "number_ids": number_ids,
        "max_rows_per_table": max_rows_per_table,
        "rows": {"train": len(train), "valid": len(valid), "test": len(test)},
        "label_mean": float(raw.labels.mean(dtype=np.float64)),
        "multi_hot": [raw.features[f] for f in bags],
    }
    return data


def resolved(split_seed: int | None, min_count: int | None, number_ids: str | None) -> tuple[int, int, str]:
    """The defaults of what was left out, which is None: who asks for a default by its value asks for it."""
    return (
        0 if split_seed is None else split_seed,
        2 if min_count is None else min_count,
        NUMBERINGS[0] if number_ids is None else number_ids,
    )


def check_options(min_count: int, split_seed: int, number_ids: str, max_rows_per_table: int | None) -> None:
    """Raises InputError for a value that these options cannot have."""
    whole(min_count, "min_count", 1)
    if max_rows_per_table is not None:
        whole(max_rows_per_table, "max_rows_per_table", 1)
    whole(split_seed, "split_seed", 0)
    if number_ids not in NUMBERINGS:
        raise InputError(f"number_ids is {shown(number_ids)}, but it must be one of {', '.join(NUMBERINGS)}")


def check_features(name: str, features: Sequence[str]) -> None:
    """Raises InputError where there is no sparse column."""
    if not features:
        raise InputError(f"{name} has no sparse column, so there is no table to compress; name one with --sparse")


def check_classes(name: str, part: str, rows: int, clicks: int) -> None:
    """Raises InputError where all rows of a part have one label."""
    if clicks in (0, rows):
        raise InputError(
            f"all {rows} rows of the {part} part of {name} have label {int(clicks > 0)}, "
            "but both labels are needed to learn and to measure"
        )


def lookups(part: Part, feature: int) -> torch.Tensor:
    """All ids of one feature in one part, `(total,)`."""
    return part.bags[feature].values if feature in part.bags else part.ids[:, feature]


def count_lookups(part: Part, sizes: Sequence[int], features: Sequence[int] | None = None) -> list[torch.Tensor]:
    """How often each row of each table is looked up in a part: `(n,)` int64 each; a mapped part is read once.

    Args:
        part: that is counted.
        sizes: of the tables.
        features: those that the tables are of; all where nobody says.
    """
    counts = [torch.zeros(rows, dtype=torch.int64) for rows in sizes]
    for some in part.split(_COUNTED):
        for feature, count in zip(range(len(sizes)) if features is None else features, counts):
            count += torch.bincount(lookups(some, feature), minlength=len(count))
    return counts


def row0_share(part: Part, feature: int) -> float:
    """The share of a feature's lookups that fall on row 0; 0 where there are none."""
    ids = lookups(part, feature)
    return float((ids == 0).double().mean()) if len(ids) else 0.0


def fingerprint(parts: Sequence[Part], sizes: Sequence[int]) -> str:
    """16 hex digits over labels, dense values, ids and bags of all parts and the table sizes."""
    return fingerprint_of(_arrays(parts), sizes)


def fingerprint_of(arrays: Iterable[tuple[str, tuple[int, ...], Iterable[Buffer]]], sizes: Sequence[int]) -> str:
    """`fingerprint` of arrays in their order, by type, shape and bytes in pieces."""
    digest = hashlib.sha256(repr(list(sizes)).encode())
    for dtype, shape, pieces in arrays:
        digest.update(f"{dtype}{shape}".encode())
        for piece in pieces:
            digest.update(piece)
    return digest.hexdigest()[:16]


def _arrays(parts: Sequence[Part]) -> Iterator[tuple[str, tuple[int, ...], list[Buffer]]]:
    for part in parts:
        tensors = [part.labels, part.dense, part.ids]
        for f in sorted(part.bags):
            tensors += [part.bags[f].values, part.bags[f].offsets]
        for tensor in tensors:
            yield str(tensor.dtype), tuple(tensor.shape), [np.ascontiguousarray(tensor.numpy()).data]
