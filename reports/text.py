"""Text and tables in GitHub-flavoured markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Only what would be read as markup there: text in tables is read by people as it stands, too.
_SPECIAL = re.compile(r"[\\`*<|~$]|&(?=[\w#])|\](?=[(\[:])|(?<!\w)_|_(?!\w)")
# what no reader sees: controls, halves of characters, and what turns the direction of all text after it
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def visible(text: str) -> str:
    """The text with a replacement character for each one that cannot be seen and does harm."""
    return _CONTROL.sub("\ufffd", text)


def escape(text: object) -> str:
    """Any text as one line of plain markdown text that is shown just as it is."""
    line = " ".join(visible(str(text)).split())
    return _SPECIAL.sub(lambda found: "\\" + found.group(), line)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table of cells that are markdown already; all but the first `left` columns are aligned right."""
    rule = [":---" if i < left else "---:" for i in range(len(headers))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [headers, rule, *rows])


def bullets(pairs: Sequence[tuple[str, str]]) -> str:
    """`- **name:** text` for each pair with a text."""
    return "\n".join(f"- **{escape(name)}:** {escape(text)}" for name, text in pairs if text)


def code(text: str, language: str = "sh") -> str:
    """A code block, fenced so that nothing in the text can close it."""
    text = visible(text)
    longest = max((len(found) for found in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def inline_code(text: str) -> str:
    """One line as code inside a sentence, between more backticks than are in it."""
    text = " ".join(visible(text).split())
    fence = "`" * (max((len(found) for found in re.findall("`+", text)), default=0) + 1)
    room = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{room}{text}{room}{fence}"
