"""Text and tables in GitHub-flavoured markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Only what would be read as markup there: text in tables is read by people as it stands, too.
_SPECIAL = re.compile(r"[\\`*<|~$]|&(?=[\w#])|\](?=[(\[:])|(?<!\w)_|_(?!\w)")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")


def escape(text: object) -> str:
    """Any text as one line of plain markdown text that is shown just as it is."""
    line = " ".join(_CONTROL.sub("\ufffd", str(text)).split())
    return _SPECIAL.sub(lambda found: "\\" + found.group(), line)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table of cells that are markdown already; all but the first `left` columns are aligned right."""
    rule = [":---" if i < left else "---:" for i in range(len(headers))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [headers, rule, *rows])


def bullets(pairs: Sequence[tuple[str, str]]) -> str:
    """`- **name:** text` for each pair with a text."""
    return "\n".join(f"- **{escape(name)}:** {escape(text)}" for name, text in pairs if text)


def code(text: str) -> str:
    """A code block, fenced so that nothing in the text can close it."""
    text = _CONTROL.sub("\ufffd", text)
    longest = max((len(found) for found in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{text}\n{fence}"
