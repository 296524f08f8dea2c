"""The page about spectra: MLET's singular values against plain tables', and its pairs that cost no memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.pages.spectrum import TITLE
from embpress.reports.pages.spectrum.data import METHOD, Feature, Pair, features_of, free_pairs
from embpress.reports.pages.spectrum.plot import spectra
from embpress.reports.plotting.save import save_all
from embpress.reports.text import escape, table

_PLOT = "spectrum.png"
_DRAWN = 4  # tables, the largest
_COMMAND = "embpress compare … --methods full,mlet --width 8"


def lacks(runs: Sequence[Run]) -> str:
    """Why there would be nothing on the page; empty where there is something."""
    if features_of(runs):
        return ""
    if any(one.method == METHOD for run in runs for one in run.tables):
        return "its records hold no spectra, which runs of a model of one's own and of earlier versions do not"
    return f"it has no run of {METHOD}: {_COMMAND} makes some"


def make(plots: Path, runs: Sequence[Run]) -> str:
    """Draws the plot into the folder and gives the page's markdown."""
    features = features_of(runs)
    save_all(plots, {_PLOT: lambda: spectra(features[:_DRAWN])})
    if not features:
        return f"# {TITLE}\n\nThere is nothing to show: {lacks(runs)}.\n"
    parts = [
        f"# {TITLE}",
        "MLET trains a table as a product of two factors and serves the product. Its paper (section 2.2.1) says that "
        "this makes large singular values larger and small ones smaller, and that the lower *effective rank*, the "
        "number of singular values above a hundredth of the largest, is why it generalises better. Here are the "
        "singular values of every table that was trained so, beside plain ones that were trained the same way, at the "
        "epoch that the AUC belongs to. The paper's two tables, trained by SGD at a rate of 0.2 with k = 64 and width "
        "8, have effective ranks of 2 and 2 in place of 8 and 5.",
        f"![Singular values](plots/{_PLOT})",
        _drawn(features),
        _ranks(features),
        _answer(features),
        "## Pairs that cost no memory",
        "The paper (section 3) calls a pair (k, d) of inner width and width *zero-cost* against a plain table of width "
        "D where k ≤ D and d < D: training needs no more memory than the plain table, and serving needs less. On Avazu "
        "it finds several that are also more accurate, such as (64, 16) against 128; on Criteo none.",
        _pairs(free_pairs(runs)),
    ]
    return "\n\n".join(parts) + "\n"


def _drawn(features: Sequence[Feature]) -> str:
    which = f"The {_DRAWN} largest of {len(features)} tables. " if len(features) > _DRAWN else ""
    return f"{which}Means over the seeds; the dashed line is the hundredth. What is below 10⁻⁶ is drawn there."


def _ranks(features: Sequence[Feature]) -> str:
    labels = list(dict.fromkeys((one.label, one.width) for feature in features for one in feature.spectra))
    labels.sort(key=lambda label: -label[1])
    body = []
    for feature in features:
        ranks = {(one.label, one.width): numerals.plain(one.rank) for one in feature.spectra}
        body.append([escape(feature.name), f"{feature.num_embeddings:,}", *(ranks.get(n, "–") for n in labels)])
    heads = [f"{escape(label)}, width {width}" for label, width in labels]
    return table(["Effective rank of", "Rows", *heads], body)


def _answer(features: Sequence[Feature]) -> str:
    """Whether the effective rank is lower, table by table, where both kinds have one width."""
    told: dict[int, list[int]] = {}
    for feature in features:
        for one in (spectrum for spectrum in feature.spectra if spectrum.factors):
            for plain in (other for other in feature.spectra if not other.factors and other.width == one.width):
                counts = told.setdefault(one.width, [0, 0, 0])
                counts[0 if one.rank < plain.rank else 1 if one.rank == plain.rank else 2] += 1
    if not told:
        return f"No plain table has the width of a factored one, so ranks cannot be compared: {_COMMAND} has both."
    return " ".join(
        f"At width {width} the factored table's effective rank is lower in {low} of {low + same + high} comparisons of "
        f"a table with a plain one, equal in {same} and higher in {high}."
        for width, (low, same, high) in told.items()
    )


def _pairs(pairs: Sequence[Pair]) -> str:
    if not pairs:
        return (
            "No runs of this report are such a pair. `--methods full,mlet:k=16:ratio=2,mlet:k=8:ratio=4 --width 16` "
            "makes (16, 8) and (8, 4) against 16."
        )
    body = []
    for pair in pairs:
        gap = numerals.MISSING if pair.gap is None else numerals.signed(pair.gap.mean)
        sure = "unknown" if pair.gap is None or pair.gap.distinguishable is None else "chance is not ruled out"
        if pair.gap is not None and pair.gap.distinguishable:
            sure = "more accurate" if pair.gap.mean > 0 else "less accurate"
        body.append([f"({pair.k}, {pair.d})", escape(pair.label), escape(pair.plain_label), str(pair.plain), gap, sure])
    return table(["(k, d)", "MLET", "Plain", "D", "Δ AUC", "95 % interval"], body, left=3)
