"""Our markdown as the sections of a page."""

import re
from html.parser import HTMLParser

import pytest

from embpress.reports.html.markdown import sections
from embpress.reports.text import code, escape, inline_code, table

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a\"b'c&amp;d&lt;",
    "x|y`z`",
    "](javascript:alert(1))",
    "[a](javascript:alert(1))",
    "![a](http://example.org/a.png)",
    "**b** _i_ ~~s~~ $x$",
    "</style><style>*{display:none}",
    "名前 😀",
    "اسم:k=1",
    "a\u202eb\x00c",
]


class Reader(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def made(text, **given):
    return sections(text, given.get("pictures", {}), given.get("series", {}), given.get("anchors", {}))


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_is_shown_just_as_it_is_and_makes_no_element(name):
    shown = name.replace("\u202e", "\ufffd").replace("\x00", "\ufffd")
    text = "\n\n".join(
        [
            f"# {escape(name)}",
            f"One {escape(name)} and so on",
            f"## {escape(name)}",
            f"- **{escape(name)}:** {escape(name)}",
            table(["Method", escape(name)], [[escape(name), escape(name)]] * 3),
            code(name),
            f"So: {inline_code(name)}",
        ]
    )
    parts = made(text, series={shown: "<i></i>"})
    read = Reader("".join(part.title + part.body for part in parts))
    expected = 10 if shown == " ".join(shown.split()) else 9
    assert read.text.count(shown) >= expected
    allowed = {
        *("p", "ul", "li", "strong", "div", "table", "thead", "tbody", "tr", "th", "td", "pre", "code", "bdi", "i")
    }
    assert {tag for tag, _ in read.tags} <= allowed
    names = {key for _, attributes in read.tags for key in attributes}
    assert names <= {*("class", "scope", "data-v", "data-kind", "data-series", "data-rows", "tabindex")}
    assert all(re.fullmatch(r"[\w-]+", part.anchor) for part in parts if part.anchor)


def test_sections_details_and_anchors():
    parts = made("# T\n\nbegin\n\n## A b\n\n1\n\n### deep\n\n---\n\n## A b\n\n2\n\n## C\n\n3\n")
    assert [(part.level, part.title, part.anchor, part.is_detail) for part in parts] == [
        (1, "T", "t", False),
        (2, "A b", "a-b", False),
        (2, "A b", "a-b-2", True),
        (2, "C", "c", True),
    ]
    assert "<h3>deep</h3>" in parts[1].body
    assert "<hr" not in "".join(part.body for part in parts)


def test_cells_have_what_they_are_sorted_by():
    text = table(
        ["Method", "Size", "Status"],
        [["full", "2.8 MB", "ok"], ["tt", "**174.2 kB**", "ok"], ["qr", "–", "failed"], ["**All**", "3 MB", ""]],
    )
    body = made(text)[0].body
    assert re.findall(r'data-v="([^"]+)"', body) == ["2800000", "174200", "3000000"]
    assert body.count('<th scope="row"') == 4
    assert 'class="n" data-kind="number">Size' in body
    assert '<tr class="sum">' in body.replace("\n", "")
    assert body.count('class="sum"') == 1
    assert '<table class="sorts">' in body
    assert 'class="sorts"' not in made(table(["A"], [["1"], ["2"]]))[0].body


def test_pictures_links_and_marks():
    text = "![T](plots/a.png)\n\ncaption\n\n![Gone](plots/b.png)\n\n[more](ranks.md) [out](https://example.org)\n\n"
    text += table(["Method"], [["tt"], ["qr"]])
    body = made(
        text,
        pictures={"plots/a.png": "<svg></svg>"},
        anchors={"ranks.md": "page-ranks"},
        series={"tt": '<i class="mark"></i>'},
    )[0].body
    assert '<p><span class="plot" role="group" tabindex="0" aria-label="T"><svg></svg></span></p>' in body
    assert "<img" not in body
    assert "<em>Gone</em>" in body
    assert '<a href="#page-ranks">more</a>' in body
    assert '<a href="https://example.org" rel="noreferrer">out</a>' in body
    assert '<th scope="row" data-series="tt"><i class="mark"></i>tt</th>' in body
    assert "data-series" not in body.partition(">qr<")[0].rpartition("<tr>")[2]


def test_names_from_right_to_left_turn_nothing_around():
    assert "<p>a <bdi>اسم ثاني</bdi> (0.7437) b</p>" in made("a اسم ثاني (0.7437) b")[0].body
