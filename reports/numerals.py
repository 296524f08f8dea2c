"""Numbers as text: bytes, ratios, scores, times, differences."""

from __future__ import annotations

MISSING = "–"


def size(value: float) -> str:
    """Bytes in decimal units: 1 kB is 10^3, 1 MB is 10^6 bytes."""
    if abs(value) < 1000:
        return f"{value:.0f} B"
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if round(abs(value), 1) < 1000:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def ratio(value: float) -> str:
    """A compression ratio: 16.0×."""
    return f"{value:,.1f}×"


def score(value: float) -> str:
    """AUC, log loss and the like: four decimals."""
    return f"{value:.4f}"


def signed(value: float) -> str:
    """A difference of scores with its sign; what rounds to zero has none."""
    text = f"{abs(value):.4f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "−") + text


def decimals_of(value: float) -> int:
    """How many decimals show about three digits of the value."""
    return 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0


def plain(value: float, decimals: int | None = None) -> str:
    """A number without unit; whole numbers that are small stay whole."""
    if decimals is None:
        decimals = 0 if value == int(value) and abs(value) < 10 else decimals_of(value)
    return f"{value:,.{decimals}f}"


def percent(share: float) -> str:
    """A share as per cent: 18.0 %."""
    return f"{100 * share:.1f} %"
