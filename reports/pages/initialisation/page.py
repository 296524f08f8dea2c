"""The page about the initial values of tensor-train tables: TT-Rec's Figure 3 and Table 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.pages.initialisation import TITLE
from embpress.reports.pages.initialisation.data import (
    CORES,
    DRAWS,
    PUBLISHED,
    Floats,
    Shape,
    entries,
    excess_kurtosis,
    kl_uniform_normal,
    products,
    relative_std,
    shape_of,
)
from embpress.reports.pages.initialisation.plot import matched_densities, published_scales
from embpress.reports.plotting.save import save_all
from embpress.reports.text import escape, table

_MATCHED = ("sampled-gaussian", "gaussian", "uniform")
_COUNT = 1 << 20  # products of three
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_NAMES = {
    "sampled-gaussian-fbtt": "sampled-gaussian-fbtt (approx-normal)",
    "published:normal": "normal",
    "published:uniform": "uniform",
}

# variance by n, what −KL is, what the paper prints, its accuracy in %, whether the print is right
_TABLE_1 = [
    ("N(0, 1)", lambda n: 1.0, "c − 1/(6n)", "c − 1/(6n)", 78.123, ""),
    ("N(0, 1/2)", lambda n: 0.5, "c − 1/(3n) + 0.347", "c − 1/(3n) + 0.34", 78.371, "cut, not rounded"),
    ("N(0, 1/8)", lambda n: 1 / 8, "c − 4/(3n) + 1.040", "c − 4/(3n) + 1.4", 78.823, "wrong: ½ ln 8 is 1.04"),
    ("N(0, 1/(3n))", lambda n: 1 / (3 * n), "−0.1765", "−0.17", 79.256, "cut, not rounded"),
    (
        "N(0, 1/(9n²))",
        lambda n: 1 / (9 * n * n),
        "½ ln(18n/π) − 1.5n",
        "½ ln(18/(πn)) − 1.5n",
        79.220,
        "wrong: n belongs in the numerator",
    ),
]


def make(plots: Path, runs: Sequence[Run]) -> str:
    """Draws the plots into the folder and gives the page's markdown."""
    shape = shape_of(runs)
    if shape is None:
        return f"# {TITLE}\n\nNo run tells its tables, so there is no shape to draw.\n"
    n = shape.num_embeddings
    published = ["sampled-gaussian-fbtt", *(f"published:{name}" for name in PUBLISHED)]
    one = {name: products(name, n, _COUNT) for name in [*_MATCHED, *published]}
    all_ranks = {name: entries(shape, name) for name in [*_MATCHED, *published]}
    full = np.random.default_rng(0).uniform(-math.sqrt(3), math.sqrt(3), _COUNT)  # over 1/√(3n)
    terms = f"the sum of {shape.terms:,} products" if shape.terms > 1 else "one product"
    titles = (f"Rank 1: an entry is the product of {CORES} numbers", f"Rank {shape.rank}: {terms}")
    save_all(
        plots,
        {
            "initial_densities.png": lambda: matched_densities(
                [
                    (title, {name: draws[name] * math.sqrt(n) for name in _MATCHED})
                    for title, draws in zip(titles, (one, all_ranks))
                ]
            ),
            "initial_scales.png": lambda: published_scales(
                [
                    (title, {_NAMES[name]: draws[name] / shape.unit for name in published}, full)
                    for title, draws in zip(titles, (one, all_ranks))
                ]
            ),
        },
    )
    gap = (2 / math.sqrt(5.7525)) ** CORES / math.sqrt(3)
    parts = [
        f"# {TITLE}",
        _intro(shape),
        "## Their shape\n\n"
        "![Densities of the initial entries](plots/initial_densities.png)\n\n"
        "Every initialisation of the plot is scaled so that the table has exactly the variance of a full one, as all "
        "of this toolkit's are but `sampled-gaussian-fbtt`; only the shapes differ. At rank 1 they differ a lot, which "
        "is what Figure 3 of the TT-Rec paper shows: products of normal or uniform numbers pile up at zero (the peaks "
        "run out of the plot), while the paper's *sampled Gaussian*, a normal drawn again until it is at least 2 in "
        f"size, keeps away from it, so far that no entry is smaller than {gap:.2f}/√n. But nobody trains at rank 1. At "
        "rank R an entry is a sum of many such products, and by the central limit theorem that comes close to a "
        "normal, whatever the numbers are. How close, the excess kurtosis tells: 0 for a normal, −1.2 for a uniform, "
        "−2 where all entries have one size, above 0 for heavy tails.",
        _measured(shape, one, all_ranks, _MATCHED),
        "## Their scale\n\n"
        "![Sizes of the initial entries as published](plots/initial_scales.png)\n\n"
        "The paper finds that the sampled Gaussian trains better than a normal and a uniform and explains it by the "
        "shape. Of what the shapes differ in at rank 1, little is left at the ranks that it trains with (8 to 64), and "
        "ever less the larger the rank. What does differ are the scales: the published code sets them without regard "
        "to the ranks, or with too little. Its `approx-normal` (the sampled "
        "Gaussian, here `sampled-gaussian-fbtt`) starts far above a full table. Its `normal` starts so far below that "
        "the table is nearly zero. Its `uniform` has positive numbers only, so all entries start near one positive "
        "value. Who compares inits should therefore compare them at one scale.",
        _measured(shape, one, all_ranks, published),
        "In both tables, *size* is the root mean square of the entries over 1/√(3n), the standard deviation of a full "
        f"table's; 1 is as large as these. Mean ± standard deviation over {DRAWS} freshly drawn tables.",
        "## How far a normal is from the uniform of full tables\n\n" + _kl(n),
    ]
    return "\n\n".join(parts) + "\n"


def _intro(shape: Shape) -> str:
    which = "They have the shape of the largest tensor-train table of this report"
    if not shape.trained:
        which = "No run of this report has such a table, so they have the default shape for its largest table"
    return (
        "A full embedding table of n rows starts with numbers drawn evenly between −1/√n and 1/√n. A table in "
        "tensor-train form (TT-Rec) has no entries of its own: each is computed from small *cores*, as a sum of "
        "products of one number a core, as many products as the rank R allows (R² with three cores). Which numbers "
        "the cores start with therefore decides only indirectly what the table starts with. This page draws tables "
        f"and looks. {which}: {escape(shape.feature)}, n = {shape.num_embeddings:,} rows, width "
        f"{shape.embedding_dim}, rank {shape.rank}."
    )


def _measured(shape: Shape, one: dict[str, Floats], ranked: dict[str, Floats], names: Sequence[str]) -> str:
    body = []
    for name in names:
        mean, sd = relative_std(ranked[name], shape.unit)
        alone, _ = relative_std(one[name][None], shape.unit)
        kurtosis = [f"{excess_kurtosis(found[name]):+.2f}".replace("-", "−") for found in (one, ranked)]
        body.append([escape(_NAMES.get(name, name)), _number(alone), f"{_number(mean)} ± {_number(sd, 2)}", *kurtosis])
    headers = ["Initialisation", "Size, rank 1", f"Size, rank {shape.rank}", "Kurtosis, rank 1"]
    return table([*headers, f"Kurtosis, rank {shape.rank}"], body)


def _number(value: float, digits: int = 3) -> str:
    """So many digits, with a power of ten where it is tiny."""
    if 0 < value < 0.001:
        digit, power = f"{value:.{digits - 1}e}".split("e")
        return f"{digit}·10⁻{str(abs(int(power))).translate(_RAISED)}"
    return f"{value:#,.{digits}g}".rstrip(".")


def _kl(n: int) -> str:
    body = [["U(−1/√n, 1/√n)", "0", "0", "0", "79.263", ""]]
    for name, variance, right, printed, accuracy, slip in _TABLE_1:
        found = kl_uniform_normal(n, variance(n))
        body.append([name, _nats(found), right, printed, f"{accuracy:.3f}", slip])
    bound = 2 / math.pi * math.exp(14)
    return (
        "The paper judges a normal by the Kullback–Leibler divergence between the uniform and it, the nats lost on "
        "average when numbers of the uniform are taken for numbers of that normal: "
        "KL(U‖N(0, σ²)) = ½ ln(πnσ²/2) + 1/(6nσ²). It is smallest, 0.1765 "
        f"whatever n is, where both have the same variance, σ² = 1/(3n). Here n = {n:,}.\n\n"
        + table(["Distribution", "KL", "−KL is", "The paper prints", "Paper's accuracy (%)", "Slip"], body)
        + f"\n\nc = ½ ln(2/(πn)) = {_nats(0.5 * math.log(2 / (math.pi * n)))} here; the paper has c < −7, which takes "
        f"n > {numerals.plain(bound, 0)}. What its Table 1 calls KL-divergence is −KL: no divergence is below 0. "
        "The accuracies are the paper's, of full tables on Criteo Kaggle. They fall as the KL grows while the normal "
        "is too wide; the last line breaks the rule that the paper draws from them: it has by far the largest KL and "
        "loses almost nothing. A start that is too small does little harm to a full table, one that is too large does."
    )


def _nats(value: float) -> str:
    return f"{value:,.4f}".replace("-", "−") if abs(value) < 1000 else f"{value:,.0f}".replace("-", "−")
