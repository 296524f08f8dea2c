"""What the main table says of how sure differences are: two columns and a note."""

from __future__ import annotations

from embpress.compressors.guard import counted
from embpress.reports import numerals
from embpress.reports.uncertainty.interval import BOTH, ROWS, Estimate
from embpress.reports.uncertainty.judge import Judgement

SET = "Set"


def columns(judged: Judgement) -> list[tuple[str, dict[str, str]]]:
    """Titles, and cells by label: the interval that also counts the test rows where these are known, and the sets."""
    found = []
    if _over(judged):
        found.append((_title(judged), {row.label: cell(judged.to_full(row), _over(judged)) for row in judged.rows}))
    if judged.places:
        found.append((SET, {label: place.letters for label, place in judged.places.items()}))
    return found


def note(judged: Judgement) -> str:
    """What these columns say; empty without any."""
    said = []
    if _over(judged):
        many = judged.comparisons_with_full
        corrected = f", corrected for {many} methods (Holm)" if many > 1 else ""
        what = "other seeds and other test rows" if _over(judged) == BOTH else "other test rows, with the one seed run"
        said.append(
            f"*{_title(judged)}* is the interval of Δ to full that holds for {what}; **bold** where the difference is "
            f"more than chance{corrected}."
        )
    if judged.places:
        said.append(
            f"Methods of about the same size that share a letter in *{SET}* cannot be told apart{judged.over_text}, "
            f"corrected for {counted(judged.comparisons, 'comparison')} (Holm)."
        )
    return " ".join(said)


def cell(found: Estimate | None, over: str) -> str:
    """`−0.0041 to −0.0012`, in bold where it is more than chance, and over what where that is not `over`."""
    if found is None or found.half_width is None:
        return numerals.MISSING
    text = interval(found.mean, found.half_width)
    text = f"**{text}**" if found.told else text
    return text if found.over == over else f"{text} ({found.over})"


def interval(mean: float, half: float) -> str:
    """Both ends of an interval, with signs."""
    return f"{numerals.signed(mean - half)} to {numerals.signed(mean + half)}"


def _over(judged: Judgement) -> str:
    """What the shown interval is over; empty where no test rows are known, as over seeds alone Δ to full says it."""
    kinds = {found.over for found in judged.estimates}
    return BOTH if BOTH in kinds else ROWS if ROWS in kinds else ""


def _title(judged: Judgement) -> str:
    return f"95 % over {'seeds and rows' if _over(judged) == BOTH else 'test rows'}"
