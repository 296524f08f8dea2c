"""Several run folders as one: the same method, size and seed counts once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from embpress.compressors.errors import InputError
from embpress.dlrm.runs.comparable import difference
from embpress.dlrm.runs.record import Run


def merged(folders: Mapping[str, Sequence[Run]]) -> list[Run]:
    """The runs of all folders, of those with one id the newest that ended well, else the newest.

    Args:
        folders: the runs of each folder, which may be compared with one another, by the folder's name.

    Raises:
        InputError: folders whose runs cannot be compared; names both and what differs.
    """
    (first, ours), *others = folders.items()
    for name, theirs in others:
        reason = difference(ours[0], theirs[0])
        if reason:
            raise InputError(
                f"{name} holds runs {reason}, compared with {first}: they are no one comparison; --across FILE makes "
                "one table of several"
            )
    return newest(run for runs in folders.values() for run in runs)


def newest(runs: Iterable[Run]) -> list[Run]:
    """Of runs with one id the newest that ended well, else the newest; in the order of their ids."""
    found: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: (run.ok, run.created)):
        found[run.id] = run
    return [found[name] for name in sorted(found)]
