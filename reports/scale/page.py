"""A calculation as a page of markdown, a published case with what its paper says beside."""

from __future__ import annotations

from collections.abc import Sequence

from embpress.dlrm.scale.answer import Answer, Question
from embpress.dlrm.scale.case import Case
from embpress.reports.scale.cells import HEADERS, notes, rows, title
from embpress.reports.text import code, escape, table

TITLE = "Full tables sharded over devices, compressed ones on each"


def page(question: Question, answers: Sequence[Answer], command: str, case: Case | None = None) -> str:
    """The page.

    Args:
        question, answers: what was asked, and what came of it.
        command: that makes this page.
        case: the published case that was asked.
    """
    parts = [f"# {escape(TITLE if case is None else case.title)}", code(command)]
    if case is not None:
        said = [[escape(claim.what), escape(claim.paper), escape(claim.ours(answers))] for claim in case.claims]
        parts += [
            f"{escape(case.source)}:",
            table(["what", "the paper", "the calculator"], said),
            escape(case.note),
            "What the calculator was asked:",
            code(f"embpress scale {case.options}"),
        ]
    for one in answers:
        parts.append(f"{escape(title(one))}.")
        if one.steps:
            parts.append(table(HEADERS, [[escape(cell) for cell in line] for line in rows(one)], left=0))
    parts += [escape(note) for note in notes(question)]
    parts.append("Formulas and their sources: `embpress.dlrm.scale.step`, `embpress.dlrm.scale.collectives`.")
    return "\n\n".join(parts) + "\n"
