"""Made lines of raw Criteo files."""

import gzip
import random


def lines(n, seed=0):
    """Rows with text of all kinds in the categories; that of the first has at most eight characters."""
    rng = random.Random(seed)
    integers = lambda: "" if rng.random() < 0.2 else str(rng.randrange(-2, 500))  # noqa: E731
    # text of eight characters, of fewer, and now and then more or none
    long = lambda: rng.choice(["", "a", "aé", "123456789abc", "0" * 8]) if rng.random() < 0.1 else None  # noqa: E731
    category = lambda: (long() if rng.random() < 0.1 else None) or f"{int(rng.paretovariate(0.7)):08x}"  # noqa: E731
    label = lambda: str(rng.randrange(2))  # noqa: E731
    rows = [[label(), *(integers() for _ in range(13)), *(category() for _ in range(26))] for _ in range(n)]
    for row in rows:
        row[14] = row[14][:8]
    return ["\t".join(row) + "\n" for row in rows]


def write(path, text):
    """Writes a file, gzipped where its name says so, and returns its path."""
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path
