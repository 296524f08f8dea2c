"""`embpress theory`."""

from __future__ import annotations

import click

from embpress.cli.numbers import Whole


@click.command(name="theory")
@click.option("--num-embeddings", type=Whole(1), required=True, help="Rows n of the table.")
@click.option("--width", type=Whole(1), required=True, help="Its width D.")
@click.option(
    "--epsilon", type=float, multiple=True, default=(0.1, 0.5, 1.0), help="Relative error, up to 1.", show_default=True
)
@click.option(
    "--delta", type=float, multiple=True, default=(0.01,), help="Probability of failing, up to 1/2.", show_default=True
)
@click.option(
    "--rho", type=float, multiple=True, default=(0.1, 0.5), help="Importance of a row, up to 1.", show_default=True
)
def command(
    num_embeddings: int, width: int, epsilon: tuple[float, ...], delta: tuple[float, ...], rho: tuple[float, ...]
) -> None:
    """Show how many rows a sketch of a table needs for which promise.

    The method sketch keeps k rows M = S E instead of the n rows of a table E. Promises hold with probability 1 - delta:

    \b
      macro   |<Mx, My> - <Ex, Ey>| <= epsilon |Ex| |Ey|   for all x and y
      micro   |<r, x> - <E[i], x>| <= epsilon |E[i]| |x|   for all x, and every row i (r is what is looked up for it)
              with |E[i]| >= rho times the largest singular value of E

    Each of --epsilon, --delta and --rho may be given several times.

    \b
    Examples:
      embpress theory --num-embeddings 10131227 --width 16
      embpress theory --num-embeddings 10131227 --width 16 --epsilon 0.5 --delta 0.05 --rho 0.3
    """
    from embpress.cli.show import console, table
    from embpress.compressors.theory import macro, micro, most_important
    from embpress.reports import numerals

    promises = [macro(width, e, d) for e in epsilon for d in delta]
    promises += [micro(num_embeddings, width, e, d, r) for r in rho for e in epsilon for d in delta]
    lines = []
    for one in promises:
        kind, least = ("macro", "–") if one.rho is None else ("micro", f"{one.rho:g}")
        spoken_of = "all" if one.rho is None else f"{most_important(num_embeddings, width, one.rho):,}"
        saved = numerals.ratio(num_embeddings / one.rows) if one.rows < num_embeddings else "no compression"
        numbers = [f"{one.epsilon:g}", f"{one.delta:g}", least, f"{one.constant:.4g}", f"{one.rows:,}"]
        lines.append([kind, *numbers, saved, spoken_of])
    out = console()
    out.print(table(["promise", "epsilon", "delta", "rho", "C", "rows k", "n / k", "rows it is of, at most"], lines))
    out.print(
        f"n = {num_embeddings:,}, D = {width}: k = C (ln f + ln 1/delta) / epsilon², f = 9^D; for micro f = 9^D + n, "
        "and rho epsilon in place of epsilon. C follows from the proofs (embpress.compressors.theory). Rows of "
        "importance rho or more are at most D / rho², always fewer than the k of their promise.",
        markup=False,
    )
