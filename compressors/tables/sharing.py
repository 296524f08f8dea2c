"""Bytes of tables one by one, where some of them share memory."""

from __future__ import annotations

from collections.abc import Sequence

from embpress.compressors.base import Compressor
from embpress.compressors.ledger import Entry


def divided(tables: Sequence[Compressor]) -> list[int]:
    """Serving bytes of each table; memory that tables share is divided in proportion to n·D, rounded."""
    ledgers = [table.ledger().serving for table in tables]
    users: dict[int, int] = {}
    size = [table.num_embeddings * table.embedding_dim for table in tables]
    for own, entries in zip(size, ledgers):
        for entry in entries:
            if entry.owner is not None:
                users[entry.owner] = users.get(entry.owner, 0) + own

    def share(entry: Entry, own: int) -> float:
        return entry.bytes if entry.owner is None else entry.bytes * own / users[entry.owner]

    return [round(sum(share(entry, own) for entry in entries)) for own, entries in zip(size, ledgers)]
