"""The report and its pages as one HTML file, from the markdown and from the plots that were drawn for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from embpress.compressors.errors import installed
from embpress.reports.summary import Summary
from embpress.reports.text import visible

_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+\.png)\)")


@contextmanager
def collected(wanted: bool) -> Iterator[Mapping[str, str]]:
    """What `plotting.save.save_all` draws meanwhile, for a page; nothing where none is wanted or none can be drawn."""
    if not wanted or not installed("matplotlib"):
        yield {}
        return
    from embpress.reports.plotting.save import vectors

    with vectors() as found:
        yield found


def html_report(
    folder: Path, report: str, rows: Sequence[Summary], pictures: Mapping[str, str], pages: Mapping[str, str]
) -> str:
    """The page; a picture that was not drawn just now is taken from its file.

    Args:
        folder: of the report.
        report: its markdown.
        rows: the methods, for their colours.
        pictures: SVG of the plots by their address in the markdown.
        pages: markdown of further pages by file name.
    """
    from embpress.reports.html.page import page, png

    shown = dict(pictures)
    for address in {found for text in (report, *pages.values()) for found in _PICTURE.findall(text)}:
        path = folder / address
        if address not in shown and path.resolve().is_relative_to(folder.resolve()) and path.is_file():
            shown[address] = png(path.read_bytes())
    return page(report, shown, _colours(rows), pages)


def _colours(rows: Sequence[Summary]) -> dict[str, str]:
    """The colour of each method in the plots, by its name as tables show it."""
    if not installed("matplotlib"):
        return {}
    from embpress.reports.plotting.style import looks

    return {" ".join(visible(label).split()): look.colour for label, look in looks(rows).items()}
