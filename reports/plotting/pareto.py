"""The Pareto front: what no other beats in both size and score."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]], tolerance: float = 0.0) -> list[int]:
    """Positions of the (size, score) points that no other point beats, by size; smaller and higher are better.

    A point is beaten by one that is at least as good in both and better in one.

    Args:
        tolerance: a size that is larger by no more than this share counts as no larger, so that of points which were to
            have one size the best stands alone.
    """
    front: list[int] = []
    for i, (size, score) in enumerate(points):
        higher = (one for one, other in points if other > score)
        level = (one for one, other in points if other == score)
        if all(one > size * (1 + tolerance) for one in higher) and all(one >= size for one in level):
            front.append(i)
    return sorted(front, key=lambda i: (points[i][0], -points[i][1], i))
