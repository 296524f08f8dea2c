"""How long ranks wait for each other."""

from __future__ import annotations

import os

from embpress.compressors import InputError

VARIABLE = "EMBPRESS_TIMEOUT"
_DEFAULT = 600.0  # clustering and spectra of large tables are made by rank 0 while the others wait
GRACE = 10.0  # seconds in which a rank that lives says why it has left a training that others had to leave
LOOK = 0.02  # seconds between two looks at what another rank says


def timeout() -> float:
    """Seconds after which a rank that takes no part in what all do counts as lost: 600, or what the variable says.

    Raises:
        InputError: it says no positive number.
    """
    said = os.environ.get(VARIABLE, "")
    try:
        seconds = float(said) if said else _DEFAULT
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise InputError(f"{VARIABLE}={said!r} must be seconds that processes wait for each other, above 0")
    return seconds
