"""Fonts for text in any script: what no font here can show is written as its code point, never as an empty box."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from matplotlib.font_manager import FontProperties, fontManager, get_font

from embpress.reports.summary import shorten

# matplotlib's own, then those of them that are installed: each is asked for what the ones before it lack
_WANTED = (
    *("DejaVu Sans", "Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS"),
    *("Noto Emoji", "Segoe UI Emoji", "Segoe UI Symbol", "Symbola", "Unifont"),
)


@cache
def families() -> list[str]:
    """The fonts to draw with, by preference."""
    present = set(fontManager.get_font_names())
    return [name for name in _WANTED if name in present]


@cache
def _code_points() -> frozenset[int]:
    """What every weight of these fonts can show that we draw with: the regular one."""
    paths = [fontManager.findfont(FontProperties(family=[name])) for name in families()]
    return frozenset().union(*(get_font(path).get_charmap() for path in paths))


def drawable(text: str) -> str:
    """The text with ` U+1F600 ` in place of what no font here can show."""
    known = _code_points()
    shown = (c if ord(c) in known and c.isprintable() else f" U+{ord(c):04X} " for c in text)
    return " ".join("".join(shown).split()) or text.strip()


def short_labels(labels: Sequence[str], width: int) -> list[str]:
    """Labels that can be drawn, of at most `width` characters, which still differ from one another."""
    return shorten([drawable(label) for label in labels], width)
