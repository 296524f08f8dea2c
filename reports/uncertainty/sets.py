"""Sets of methods that cannot be told apart, written as letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def alike_sets(count: int, told: Callable[[int, int], bool]) -> list[list[int]]:
    """Sets of items none of which can be told from another: two items are in one set exactly if they cannot be.

    It is what a compact letter display shows (Piepho 2004), found by growing a set around each pair that is in none
    yet. Each item is in at least one set.

    Args:
        count: items, best first.
        told: whether items i < j can be told apart.
    """
    sets: list[list[int]] = []
    for i in range(count):
        for j in range(i, count):
            if (i != j and told(i, j)) or any(i in one and j in one for one in sets):
                continue
            if i == j and any(not told(min(i, k), max(i, k)) for k in range(count) if k != i):
                continue  # it is in the set of a pair
            grown = sorted({i, j})
            for k in range(count):
                if k not in grown and not any(told(min(k, m), max(k, m)) for m in grown):
                    grown.append(k)
            sets.append(sorted(grown))
    return sorted(sets)


def letters(groups: Sequence[tuple[int, Sequence[Sequence[int]]]]) -> list[list[str]]:
    """The names of the sets that each item is in, group by group; sets of different groups have different names.

    Args:
        groups: of each, how many items it has, and its sets.

    Returns:
        For each group in turn, for each of its items, letters such as `ab`; numbers such as `3, 17` where the alphabet
        is too short.
    """
    total = sum(len(sets) for _, sets in groups)
    names = list(_LETTERS[:total]) if total <= len(_LETTERS) else [str(k + 1) for k in range(total)]
    between = "" if total <= len(_LETTERS) else ", "
    found, first = [], 0
    for count, sets in groups:
        of = [[names[first + k] for k, one in enumerate(sets) if i in one] for i in range(count)]
        found.append([between.join(own) for own in of])
        first += len(sets)
    return found
