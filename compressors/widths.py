"""The width that a ratio leaves to a model whose tables are as wide as it is."""

from __future__ import annotations

from embpress.compressors.errors import BudgetError


def narrower(name: str, dim: int, ratio: float) -> int:
    """`⌊dim / ratio⌋`.

    Raises:
        BudgetError: below width 1, naming the method `name`; `smallest` is then per row of the model, 4 bytes.
    """
    width = int(dim / ratio * (1 + 1e-12))  # a ratio of dim / w means w, whatever its last digit
    if width < 1:
        raise BudgetError(f"{name} trains at width {dim} / {ratio:g}, which is below 1", 4)
    return width
