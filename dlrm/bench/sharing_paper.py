"""Table 2 of "10000x sharing" (Desai and Shrivastava): milliseconds of ROBE's passes on a GPU.

Batch 10,240, width 128, tables of 4, 8, … 256 million rows. The table says "a single GPU"; the one that the paper names
for its own runs is a Quadro RTX 8000.
"""

from __future__ import annotations

MILLIONS = (4, 8, 16, 32, 64, 128, 256)
BATCH, DIM = 10_240, 128
Z_RATIO = 100  # compression ratio of the series over chunk sizes
BANDWIDTH = 672e9  # bytes a second of a Quadro RTX 8000's GDDR6
FORWARD, DENSE, SPARSE = "forward", "dense", "sparse"
Series = dict[int, tuple[float | None, ...]]

# (a), (b) and (c), by compression ratio; chunks of 32 elements by their agreement with (d) to (f). Left out of (b): 256
# million rows at ratio 10, whose 14.34 ms are those of ratio 100, a fifth of what 128 million rows take.
BY_RATIO: dict[str, Series] = {
    FORWARD: {
        10: (0.40, 0.36, 0.37, 0.37, 0.37, 0.37, 0.36),
        100: (0.31, 0.32, 0.31, 0.25, 0.37, 0.37, 0.36),
        1000: (0.27, 0.29, 0.30, 0.31, 0.30, 0.32, 0.31),
        10000: (0.27, 0.27, 0.27, 0.26, 0.28, 0.29, 0.30),
    },
    DENSE: {
        10: (2.55, 4.81, 9.15, 17.81, 35.10, 69.73, None),
        100: (0.59, 0.83, 1.27, 2.13, 3.85, 7.42, 14.34),
        1000: (0.35, 0.37, 0.41, 0.54, 0.73, 1.08, 1.78),
        10000: (0.35, 0.35, 0.34, 0.35, 0.36, 0.40, 0.47),
    },
    SPARSE: {
        10: (2.67, 2.53, 2.52, 2.51, 2.51, 2.52, 2.54),
        100: (2.48, 2.58, 2.68, 2.64, 2.66, 2.65, 2.52),
        1000: (2.56, 2.48, 2.58, 2.56, 2.63, 2.65, 2.53),
        10000: (2.52, 2.53, 2.45, 2.55, 2.60, 2.54, 2.62),
    },
}
# (d), (e) and (f), by chunk size, at ratio 100
BY_Z: dict[str, Series] = {
    FORWARD: {
        1: (0.68, 0.75, 0.77, 0.80, 0.92, 0.88, 0.88),
        4: (0.55, 0.54, 0.54, 0.54, 0.65, 0.65, 0.65),
        16: (0.31, 0.31, 0.31, 0.24, 0.37, 0.37, 0.36),
        32: (0.31, 0.31, 0.31, 0.23, 0.37, 0.37, 0.36),
    },
    DENSE: {
        1: (1.29, 1.56, 2.02, 2.96, 4.69, 8.15, 15.17),
        4: (0.80, 1.07, 1.54, 2.40, 4.13, 7.70, 14.61),
        16: (0.58, 0.82, 1.27, 2.12, 3.85, 7.43, 14.34),
        32: (0.57, 0.80, 1.27, 2.12, 3.85, 7.42, 14.34),
    },
    SPARSE: {
        1: (3.17, 3.41, 3.56, 3.68, 3.94, 3.98, 4.00),
        4: (2.61, 2.64, 2.74, 2.73, 2.91, 2.77, 2.74),
        16: (2.50, 2.66, 2.54, 2.53, 2.52, 2.51, 2.53),
        32: (2.48, 2.61, 2.62, 2.50, 2.64, 2.60, 2.50),
    },
}


def published(series: Series, key: int, rows: int) -> float | None:
    """Milliseconds of this case, None where none are published.

    Args:
        series: of a pass.
        key: compression ratio or chunk size.
        rows: of the table.
    """
    if rows % 10**6 or rows // 10**6 not in MILLIONS or key not in series:
        return None
    return series[key][MILLIONS.index(rows // 10**6)]


def dense_seconds(rows: int, ratio: int, bandwidth: float) -> float | None:
    """The published time of the dense backward, scaled to another memory bandwidth; None where none was published."""
    milliseconds = published(BY_RATIO[DENSE], ratio, rows)
    return None if milliseconds is None else milliseconds / 1e3 * BANDWIDTH / bandwidth
