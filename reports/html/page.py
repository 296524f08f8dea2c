"""The whole page: one file with style, script and plots inside, which asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import PurePosixPath

from embpress.reports.html.colours import PAPER_DARK, PAPER_LIGHT, colours_in, variable, variables
from embpress.reports.html.markdown import Section, sections


def page(
    text: str,
    pictures: Mapping[str, str],
    colour_of: Mapping[str, str] = {},
    pages: Mapping[str, str] = {},
) -> str:
    """HTML of a report and of the pages that it links.

    Args:
        text: markdown of the report; what follows its first rule, `---`, can be folded and is folded at first.
        pictures: the plots by the address that the markdown has for them, an SVG of `html.svg.to_svg` or an
            address of the kind `data:image/png;base64,…`.
        colour_of: the colour `#rrggbb` of a method in the plots by its name in the tables.
        pages: markdown of further pages by the address that the report links, such as `ranks.md`.
    """
    shown = {address: _picture(picture) for address, picture in pictures.items()}
    marks = {name: f'<i class="mark" style="background:{variable(colour)}"></i>' for name, colour in colour_of.items()}
    anchors = {address: f"page-{PurePosixPath(address).stem}" for address in pages}
    parts = sections(text, shown, marks, anchors)
    more = {address: sections(one, shown, marks, anchors, f"{anchors[address]} ") for address, one in pages.items()}
    title = next((part.title for part in parts if part.level == 1), "Report")
    used = {colour.lower() for colour in colour_of.values()}.union(
        *(colours_in(picture) for picture in pictures.values())
    )
    light, dark = variables({*used, PAPER_LIGHT})
    style = _asset("page.css").replace("/*light*/", light).replace("/*dark*/", dark)
    style = style.replace("PAPER_LIGHT", PAPER_LIGHT).replace("PAPER_DARK", PAPER_DARK)
    script = _asset("page.js")
    folded = [part for part in parts if part.is_detail]
    body = [_section(part) for part in parts if not part.is_detail]
    body += [_DETAILS] if folded or more else []
    body += [_section(part) for part in folded]
    links = [(part.anchor, part.title) for part in parts if part.level == 2 and not part.is_detail]
    links += [("details", "Details")] if folded or more else []
    body += [_page(anchors[address], found) for address, found in more.items()]
    return _FRAME.format(
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        title=title,
        style=style,
        script=script,
        links="".join(f'<li><a href="#{escape(anchor)}">{name}</a></li>' for anchor, name in links),
        body="\n".join(body),
    )


def png(data: bytes) -> str:
    """The address of a picture that holds the picture."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _picture(picture: str) -> str:
    return f'<img src="{escape(picture)}" alt="">' if picture.startswith("data:") else picture


def _section(part: Section) -> str:
    if part.level == 1:
        return f"<header><h1>{part.title}</h1>{part.body}</header>"
    if not part.title:
        return part.body
    anchor = escape(part.anchor)
    heading = f"<h2>{part.title}</h2>"
    if part.is_detail:
        return f'<details id="{anchor}"><summary>{heading}</summary>\n{part.body}</details>'
    return f'<section id="{anchor}">{heading}\n{part.body}</section>'


def _page(anchor: str, parts: Sequence[Section]) -> str:
    inside = "\n".join(
        part.body
        if part.level < 2
        else f'<section id="{escape(part.anchor)}"><h3>{part.title}</h3>{part.body}</section>'
        for part in parts
    )
    return f'<details id="{escape(anchor)}"><summary><h2>{_title(parts)}</h2></summary>\n{inside}</details>'


def _title(parts: Sequence[Section]) -> str:
    return next((part.title for part in parts if part.title), "Page")


def _asset(name: str) -> str:
    return files("embpress.reports.html").joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


_DETAILS = '<div class="details" id="details"><h2>Details</h2></div>'
_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main>
{body}
</main>
<div id="tip" role="status" hidden></div>
<script>{script}</script>
</body>
</html>
"""
