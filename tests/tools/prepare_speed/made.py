"""A file of Criteo's form with the table sizes of Criteo-Kaggle or others, of any length."""

import gzip

import numpy as np
import polars as pl

from embpress.dlrm.data.readers.hashing import hash_of
from embpress.dlrm.data.readers.synthetic import CRITEO_SIZES

BLOCK = 250_000
MISSING = 0.15  # of the integers, and of the categories with large tables
LARGE = 10_000
BIAS, WEIGHT = -1.9, 0.5  # of the logit, and what one id adds to it at most: about a quarter are clicks


def write(path, rows, seed=0, first=0, sizes=CRITEO_SIZES):
    """Writes rows `first` and following, gzipped where the name says so; each block of them has its own draws.

    Ids are drawn log-uniformly over a table's rows, by which as many distinct ones appear in a few million rows as in
    Criteo's; an id is eight hex digits of its hash. Other digits of it say what the id adds to the logit of a click, so
    that there is something to learn.
    """
    with gzip.open(path, "wb", compresslevel=1) if str(path).endswith(".gz") else open(path, "wb") as file:
        for start in range(first, first + rows, BLOCK):
            count = min(BLOCK, first + rows - start)
            rng = np.random.default_rng([seed, start])
            absent = lambda: pl.Series(rng.random(count) < MISSING)  # noqa: B023, E731
            logits, columns = np.full(count, BIAS), {"label": None}
            for k in range(13):
                values = np.floor(np.exp(rng.normal(1 + 0.4 * (k % 4), 1.5, count)) - 1).astype(np.int64)
                columns[f"I{k + 1}"] = pl.Series(values).set(absent(), None)
            for k, size in enumerate(sizes):
                ids = np.minimum(size ** rng.random(count), size).astype(np.uint64)
                hashed = hash_of(k, ids)
                logits += WEIGHT * ((hashed & np.uint64(0xFFFF)) / 2**15 - 1)
                text = (hashed >> np.uint64(32)).astype(">u4").tobytes().hex().encode()
                column = pl.Series(np.frombuffer(text, "S8").astype("U8"))
                columns[f"C{k + 1}"] = column.set(absent(), None) if size > LARGE else column
            columns["label"] = (rng.random(count) < 1 / (1 + np.exp(-logits))).astype(np.int8)
            pl.DataFrame(columns).write_csv(file, include_header=False, separator="\t", null_value="")
