"""Our markdown as the sections of a page: tables that sort, plots inside, names apart from what surrounds them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from embpress.reports.html.tables import is_number_column, sort_value

# scripts that are read from right to left: a name in one would turn numbers and brackets beside it around
_RTL = r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]"
_RIGHT_TO_LEFT = re.compile(rf"{_RTL}(?:[^<>&;]*{_RTL})?")
_MIN_SORTED = 3  # rows below which a table is seen at a glance


@dataclass(frozen=True)
class Section:
    """A heading with what is below it, up to the next of its level; the first one of a text may have no heading."""

    title: str  # HTML
    anchor: str
    level: int
    body: str  # HTML
    is_detail: bool = False  # stands after a rule, `---`: for those who want to know more


def sections(
    text: str, pictures: Mapping[str, str], series: Mapping[str, str], anchors: Mapping[str, str], prefix: str = ""
) -> list[Section]:
    """The sections of a markdown text.

    Args:
        text: markdown as `reports.text` makes it; HTML in it is shown as text.
        pictures: HTML of each picture by the address that the markdown has for it; one that is not there stays a name.
        series: HTML that stands before a name in the first column of a table, such as its mark in the plots, by name.
        anchors: places in the page of the files that the text links.
        prefix: of the sections' anchors, so that several texts stand in one page.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    for name, rule in (("text", _text), ("image", _image), ("table_open", _table_open), ("table_close", _table_close)):
        parser.add_render_rule(name, rule)
    for name in ("th_open", "td_open", "th_close", "td_close"):
        parser.add_render_rule(name, _cell)
    parser.add_render_rule("fence", _fence)
    tokens = parser.parse(text)
    _prepare_tables(tokens)
    env = {"pictures": pictures, "series": series, "anchors": anchors}
    _prepare_links(tokens, anchors)

    def html(part: Sequence[Token]) -> str:
        found: str = parser.renderer.render(part, parser.options, env)
        return found

    made: list[Section] = []
    used: set[str] = set()
    detail = False
    for heading, body in _split(tokens):
        kept = [token for token in body if token.type != "hr"]
        title = html(heading[1:-1]) if heading else ""
        anchor = _anchor(prefix + _plain(heading[1]) if heading else prefix, used)
        level = int(heading[0].tag[1]) if heading else 0
        made.append(Section(title, anchor, level, html(kept), detail))
        detail = detail or len(kept) < len(body)
    return made


def _split(tokens: Sequence[Token]) -> Iterator[tuple[list[Token], list[Token]]]:
    """Heading and body, at headings of the first two levels."""
    heading: list[Token] = []
    body: list[Token] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if token.type == "heading_open" and token.level == 0 and token.tag in ("h1", "h2"):
            if heading or body:
                yield heading, body
            heading, body = list(tokens[i : i + 3]), []
            i += 3
            continue
        body.append(token)
        i += 1
    if heading or body:
        yield heading, body


def _anchor(title: str, used: set[str]) -> str:
    base = re.sub(r"[^\w]+", "-", title.lower()).strip("-") or "section"
    name, number = base, 2
    while name in used:
        name, number = f"{base}-{number}", number + 1
    used.add(name)
    return name


def _plain(inline: Token) -> str:
    """What a reader sees of a line."""
    parts = (child.content if child.type in ("text", "code_inline") else "" for child in inline.children or ())
    return "".join(parts)


def _prepare_tables(tokens: Sequence[Token]) -> None:
    """Notes what cells are sorted by, which columns are numbers, and rows that stay at the end, as a sum does."""
    start = 0
    for i, token in enumerate(tokens):
        if token.type == "table_open":
            start = i
        elif token.type == "table_close":
            _prepare_table(tokens[start:i])


def _prepare_table(tokens: Sequence[Token]) -> None:
    rows: list[tuple[Token, list[tuple[Token, Token, Token]]]] = []
    for i, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append((token, []))
        elif token.type in ("th_open", "td_open"):
            rows[-1][1].append((token, tokens[i + 1], tokens[i + 2]))
    body = rows[1:]
    width = len(rows[0][1])
    texts = [[_plain(inline) for _, inline, _ in cells] for _, cells in body]
    numeric = [is_number_column([line[k] for line in texts]) for k in range(width)]
    tokens[0].meta["sorts"] = len(body) >= _MIN_SORTED
    tokens[0].meta["rows"] = len(body)
    for k in range(width):
        for _, cells in rows:
            opening = cells[k][0]
            opening.meta.update(right="right" in str(opening.attrGet("style") or ""), number=numeric[k], first=k == 0)
    for (row, cells), line in zip(body, texts):
        closes = [child.type for child in cells[0][1].children or ()]
        if "strong_open" in closes[:2] or "em_open" in closes[:2]:
            row.attrSet("class", "sum")
        for (opening, _, closing), text in zip(cells, line):
            opening.meta.update(text=text, value=sort_value(text) if opening.meta["number"] else None)
            if opening.meta["first"]:
                opening.tag = closing.tag = "th"


def _prepare_links(tokens: Sequence[Token], anchors: Mapping[str, str]) -> None:
    for token in tokens:
        for child in token.children or ():
            if child.type == "link_open":
                address = str(child.attrGet("href") or "")
                if address in anchors:
                    child.attrSet("href", f"#{anchors[address]}")
                else:
                    child.attrSet("rel", "noreferrer")


def _text(renderer: Any, tokens: Sequence[Token], i: int, options: Any, env: Mapping[str, Any]) -> str:
    return _RIGHT_TO_LEFT.sub(lambda found: f"<bdi>{found.group()}</bdi>", escape(tokens[i].content))


def _image(renderer: Any, tokens: Sequence[Token], i: int, options: Any, env: Mapping[str, Any]) -> str:
    token = tokens[i]
    found: str | None = env["pictures"].get(str(token.attrGet("src")))
    if found is None:
        return f"<em>{escape(token.content)}</em>"
    return f'<span class="plot" role="group" tabindex="0" aria-label="{escape(token.content)}">{found}</span>'


def _table_open(renderer: Any, tokens: Sequence[Token], i: int, options: Any, env: Mapping[str, Any]) -> str:
    token = tokens[i]
    sorts = ' class="sorts"' if token.meta["sorts"] else ""
    return f'<div class="scroll" tabindex="0" data-rows="{token.meta["rows"]}"><table{sorts}>\n'


def _table_close(renderer: Any, tokens: Sequence[Token], i: int, options: Any, env: Mapping[str, Any]) -> str:
    return "</table></div>\n"


def _cell(renderer: Any, tokens: Sequence[Token], i: int, options: Any, env: Mapping[str, Any]) -> str:
    token = tokens[i]
    if token.nesting < 0:
        return f"</{token.tag}>"
    attributes = ' class="n"' if token.meta["right"] else ""
    if token.type == "th_open":
        kind = ' data-kind="number"' if token.meta["number"] else ""
        return f'<th scope="col"{attributes}{kind}>'
    if token.meta["value"] is not None:
        attributes += f' data-v="{token.meta["value"]:.12g}"'
    if not token.meta["first"]:
        return f"<td{attributes}>"
    mark = env["series"].get(token.meta["text"])
    owner = "" if mark is None else f' data-series="{escape(token.meta["text"])}"'
    return f'<th scope="row"{attributes}{owner}>{mark or ""}'


def _fence(renderer: Any, tokens: Sequence[Token], i: int, options: Any, env: Mapping[str, Any]) -> str:
    return f'<div class="code"><pre tabindex="0"><code>{escape(tokens[i].content)}</code></pre></div>\n'
